-- Fragment: the flows of a queue. A flow is what waits of one class and one tenant, a sorted set `order:<class>:<tenant>` by latest start; the
-- hash `flows` names those that may have waiting jobs, with the tenant's weight.

local classWeights = { interactive = 70, standard = 25, batch = 5 }

-- {name, weight, waiting} of every flow that has waiting jobs, and how many wait in all; by name the weights of all that stay named.
local function waitingFlows(base)
  local named = redis.call('HGETALL', base .. 'flows')
  local flows, total, weights = {}, 0, {}
  for at = 1, #named, 2 do
    local waiting = redis.call('ZCARD', base .. 'order:' .. named[at])
    weights[named[at]] = named[at + 1]
    if waiting > 0 then
      flows[#flows + 1] = { name = named[at], weight = tonumber(named[at + 1]), waiting = waiting, left = waiting, fresh = waiting }
      total = total + waiting
    elseif #named > 2 then
      redis.call('HDEL', base .. 'flows', named[at])
      weights[named[at]] = nil
    end
  end
  return flows, total, weights
end

-- Items of all that wait. An estimate: lua/admit keeps the mean of the jobs that it added to those that waited, and those that leave are taken
-- to be of that size. It is right where jobs are alike, and starts anew whenever nothing waits.
local function meanItems(base)
  return tonumber(redis.call('HGET', base .. 'clock', 'mean')) or 1
end

-- The same, and until when arrivals are counted, see lib-arrivals.
local function meanAndShared(base)
  local found = redis.call('HMGET', base .. 'clock', 'mean', 'shared')
  return tonumber(found[1]) or 1, tonumber(found[2]) or 0
end

local function itemsOf(jobs, mean)
  return math.floor(jobs * mean + 0.5)
end

-- The smallest latest start of these flows.
local function firstStart(base, flows)
  local first
  for _, flow in ipairs(flows) do
    local start = tonumber(redis.call('ZRANGE', base .. 'order:' .. flow.name, 0, 0, 'WITHSCORES')[2])
    if start then first = math.min(first or start, start) end
  end
  return first
end

-- Shares of the device: the class's weight, divided among its waiting tenants by theirs.
local function setShares(flows)
  local tenants = {}
  for _, flow in ipairs(flows) do
    flow.class = string.match(flow.name, '^%a+')
    tenants[flow.class] = (tenants[flow.class] or 0) + flow.weight
  end
  for _, flow in ipairs(flows) do flow.share = classWeights[flow.class] * flow.weight / tenants[flow.class] end
end
