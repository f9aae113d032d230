-- Fragment: how many items came lately, and how many are expected: in the time to come about as many as in the same time before. The same figures as
-- coordinator/src/scheduler/arrivals.ts. The hash `arrivals` holds them by flow and by class: `<ms of the last> <items, by moving mean …>`, and of a class the
-- number of its flows. Counted only while flows wait beside each other and for a while after that, by the field `shared` of `clock`: a queue of one
-- flow pays nothing else.

local spansMs = { 1000, 2000, 4000, 8000, 16000, 32000, 64000 }
local ageShare, rememberedMs, sharedForMs, sharedEveryMs = 0.7, 64000, 8000, 1000
local mostFieldsRead, trace = 1000, 1e-6

-- {ms of the last, counts …, flows}, as text; nothing where none came.
local function parseArrivals(text)
  local words = { string.match(text or '', '^(%d+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) ?(%d*)$') }
  return words[1] and words
end
local FLOWS = 2 + #spansMs

-- Of a count, by now.
local function leftOf(arrivals, at, now)
  return (tonumber(arrivals[at + 1]) or 0) * math.exp(-math.max(0, now - arrivals[1]) / (ageShare * spansMs[at]))
end

local function withArrived(arrivals, items, now)
  local words = { int(now) }
  for at = 1, #spansMs do words[at + 1] = string.format('%.9g', (arrivals and leftOf(arrivals, at, now) or 0) + items) end
  return table.concat(words, ' ')
end

-- Which of the moving means is for such a look ahead.
local function spanOf(withinMs)
  if withinMs <= spansMs[1] then return 1 end
  return math.min(#spansMs, 1 + math.floor(math.log(withinMs / spansMs[1]) / math.log(2) + 0.5))
end

local function expectedItems(arrivals, withinMs, now)
  if not arrivals then return 0 end
  local at = spanOf(withinMs)
  return leftOf(arrivals, at, now) * withinMs / (ageShare * spansMs[at])
end

-- By name, those of `names` that came.
local function readArrivals(base, names)
  local found = {}
  for from = 1, #names, mostFieldsRead do
    local texts = redis.call('HMGET', base .. 'arrivals', unpack(names, from, math.min(from + mostFieldsRead - 1, #names)))
    for at, text in ipairs(texts) do found[names[from + at - 1]] = parseArrivals(text) end
  end
  return found
end

-- Those that did not come for long make way; answers which went, and how many flows of each class are left.
local function forgetArrivals(base, now)
  local texts, over, gone, flowsOf = redis.call('HGETALL', base .. 'arrivals'), {}, {}, {}
  for at = 1, #texts, 2 do
    local last = tonumber(string.match(texts[at + 1], '^%d+')) or 0
    local class, isFlow = string.match(texts[at], '^(%a+)(:?)')
    if math.abs(now - last) > rememberedMs then
      over[#over + 1], gone[texts[at]] = texts[at], true
    elseif isFlow == ':' then
      flowsOf[class] = (flowsOf[class] or 0) + 1
    end
  end
  for from = 1, #over, mostFieldsRead do
    redis.call('HDEL', base .. 'arrivals', unpack(over, from, math.min(from + mostFieldsRead - 1, #over)))
  end
  return gone, flowsOf
end

local floor, ceil = math.floor, math.ceil
local function mostBefore(before, items, ratio)
  local least, most = floor(before * ratio), ceil((before + 1) * ratio)
  if items < most then most = items end
  return most > least and most or least
end

-- Items ahead of a job that `own` of its flow precede: aheadOf of coordinator/src/scheduler/fair-share.ts, which says why. In `beside`:
-- name, weight, classWeight  the job's own
-- tenants, comingOf          those of its class that wait, the one of that name being itself, and what is expected of one
-- crowd                      all others of its class that come, if any do: one rival of their weight together
-- classes                    the other classes
local function aheadOf(own, beside, mostAhead)
  local certain, lanes, weight, name, comingOf, crowd = own, {}, beside.weight, beside.name, beside.comingOf, beside.crowd
  if crowd then lanes[1] = { items = 0, coming = crowd.coming, most = mostBefore(own, 0, crowd.weight / weight) } end
  for _, tenant in ipairs(beside.tenants) do
    if tenant.name ~= name then
      local items = tenant.items
      local most = mostBefore(own, items, tenant.weight / weight)
      local coming = items < most and comingOf(tenant) or 0
      if coming == 0 then
        certain = certain + (items < most and items or most)
      else
        lanes[#lanes + 1] = { items = items, coming = coming, most = most }
      end
    end
  end
  local function after(part)
    local before = certain
    for _, lane in ipairs(lanes) do before = before + math.min(lane.items + lane.coming * part, lane.most) end
    local all = before
    for _, one in ipairs(beside.classes) do
      all = all + math.min(one.items + one.coming * part, mostBefore(before, one.items, one.weight / beside.classWeight))
    end
    return ceil(all - trace)
  end
  local ahead = after(1)
  if ahead <= mostAhead or mostAhead <= 0 then return ahead end
  local low, high = mostAhead, after(1e300)
  while high - low > math.max(1, high / 100) do
    local middle = floor((low + high) / 2)
    if after(middle / mostAhead) > middle then low = middle else high = middle end
  end
  return high
end
