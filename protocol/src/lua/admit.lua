-- Admit jobs into one queue: records, order, index, waiter registration and the ticket decision. Inputs were SET before, plainly.
-- KEYS  1 base of the queue's keys
-- ARGV  1 queue tag  2 matching hosts  3 items of a usual batch  4 most jobs that may wait in this queue  5 number of flows, then per flow 2:
--       name, tenant's weight; then per job 9: id, flow, timeoutMs, latestStartMs, keep, listed 0|1, coordinator that waits or "-",
--       most items that may be ahead of it or "-", fixed words (from items to traits)
-- Answers  {now, jobs waiting then, ticket ids, answers}; ticket ids divided by spaces; answers a line per job, or "" when all were admitted:
--          "admitted", "refused <items ahead>", "full <jobs waiting>", or "<state> <created ms> <deadline ms>" of the record that was there before.
-- Keeps: an id is admitted once; a repeat registers the waiter and changes nothing else; a malformed job is refused before anything is
--        written; what is refused leaves nothing behind.
-- @include lib-time.lua lib-record.lua lib-flows.lua lib-tickets.lua
local base, tag, mostWaiting = KEYS[1], ARGV[1], tonumber(ARGV[4])
local now = nowMs()
local nowText = int(now)
local perJob = 9
local interactiveShare = 0.1
local firstJob = 6 + 2 * ARGV[5]
local function isNumber(text)
  local value = tonumber(text)
  return value ~= nil and value == value
end
local ids = {}
for at = firstJob, #ARGV, perJob do
  if not (isNumber(ARGV[at + 2]) and isNumber(ARGV[at + 3])) then
    return redis.error_reply('ERR job ' .. ARGV[at] .. ' names no time: timeout ' .. ARGV[at + 2] .. ', latest start ' .. ARGV[at + 3])
  end
  ids[#ids + 1] = ARGV[at]
end

local flows, waiting = waitingFlows(base)
local weights = {}
for at = 6, firstJob - 1, 2 do weights[ARGV[at]] = ARGV[at + 1] end

-- Items that would be served before a new job of this flow: those of its own with an earlier latest start, and what other flows get meanwhile.
-- What waited before is counted by the mean of the items, an estimate.
local mean = meanItems(base)
local waitingBefore = waiting
local added, addedItems = 0, {} -- items of this call, and by flow
local function itemsAhead(name, order)
  local own = itemsOf(redis.call('ZCOUNT', base .. 'order:' .. name, '-inf', order), mean) + (addedItems[name] or 0)
  if (waitingBefore == 0 and added == (addedItems[name] or 0)) or (#flows == 1 and flows[1].name == name) then return own end
  local shares, mine = {}, nil
  for _, flow in ipairs(flows) do
    shares[#shares + 1] = { name = flow.name, weight = flow.weight, waiting = flow.waiting }
    if flow.name == name then mine = shares[#shares] end
  end
  if not mine then
    mine = { name = name, waiting = 0 }
    shares[#shares + 1] = mine
  end
  mine.weight = tonumber(weights[name])
  setShares(shares)
  local ahead = own
  for _, flow in ipairs(shares) do
    if flow ~= mine then ahead = ahead + math.min(itemsOf(flow.waiting, mean), math.ceil((own + 1) * flow.share / mine.share)) end
  end
  return ahead
end

local texts = recordTexts(base, ids)
local answers, orders, due, index, recent, written, refused = {}, {}, { base .. 'due' }, { base .. 'index' }, { base .. 'recent' }, {}, {}
local writtenAt = {} -- where the record of an id stands in `written`: the same id may come twice in one call
local allAdmitted, urgent = true, nil
local number = 0

for at = firstJob, #ARGV, perJob do
  number = number + 1
  local id, flow, coordinator, most = ARGV[at], ARGV[at + 1], ARGV[at + 6], ARGV[at + 7]
  local text = texts[number] or (writtenAt[id] and written[writtenAt[id]])
  if text then
    local record = parseRecord(text)
    if coordinator ~= '-' and addWaiter(record, coordinator) then
      if writtenAt[id] then written[writtenAt[id]] = recordText(record) else storeRecord(base, id, record) end
    end
    answers[number] = record[STATE] .. ' ' .. record[CREATED] .. ' ' .. record[DEADLINE]
    allAdmitted = false
  else
    local order = int(now + ARGV[at + 3])
    local ahead = 0
    if most ~= '-' and itemsOf(waitingBefore, mean) + added > tonumber(most) then ahead = itemsAhead(flow, order) end
    if waiting >= mostWaiting then
      answers[number] = 'full ' .. waiting
      refused[#refused + 1] = base .. 'in:' .. id
      allAdmitted = false
    elseif most ~= '-' and ahead > tonumber(most) then
      answers[number] = 'refused ' .. ahead
      refused[#refused + 1] = base .. 'in:' .. id
      allAdmitted = false
    else
      local deadline = int(now + ARGV[at + 2])
      written[#written + 1] = base .. 'job:' .. id
      written[#written + 1] = 'queued 1 ' .. coordinator .. ' ' .. ARGV[at + 4] .. ' ' .. deadline .. ' 0 0 0 0 0 - - ' .. nowText .. ' ' .. flow .. ' '
        .. order .. ' ' .. ARGV[at + 8]
      writtenAt[id] = #written
      -- as long as it would wait for company, see lua/claim
      local waits = string.sub(flow, 1, 12) == 'interactive:' and now + interactiveShare * ARGV[at + 2] or order
      urgent = math.min(urgent or math.huge, order, waits)
      local list = orders[flow]
      if not list then
        list = { base .. 'order:' .. flow }
        orders[flow] = list
      end
      list[#list + 1] = order
      list[#list + 1] = id
      due[#due + 1] = deadline
      due[#due + 1] = id
      local listing = ARGV[at + 5] == '1' and index or recent
      listing[#listing + 1] = nowText
      listing[#listing + 1] = id
      answers[number] = 'admitted'
      local items = tonumber(string.match(ARGV[at + 8], '^%d+')) or 1
      added, addedItems[flow] = added + items, (addedItems[flow] or 0) + items
      waiting = waiting + 1
    end
  end
end

if #written > 0 then
  redis.call('MSET', unpack(written))
  redis.call('ZADD', unpack(due))
  for flow, list in pairs(orders) do
    redis.call('ZADD', unpack(list))
    redis.call('HSET', base .. 'flows', flow, weights[flow])
    local tenant = string.match(flow, ':(.*)$')
    if weights[flow] == '1' then
      redis.call('HDEL', base .. 'weights', tenant)
    else
      redis.call('HSET', base .. 'weights', tenant, weights[flow])
    end
  end
end
if #refused > 0 then redis.call('UNLINK', unpack(refused)) end
if #index > 1 then redis.call('ZADD', unpack(index)) end
if #recent > 1 then
  redis.call('ZADD', unpack(recent))
  redis.call('PEXPIRE', recent[1], 180000)
end

local waitingItems = itemsOf(waitingBefore, mean) + added
if #written > 0 then
  local text = string.format('%.9g', (waitingBefore * mean + added) / waiting)
  if text ~= string.format('%.9g', mean) then redis.call('HSET', base .. 'clock', 'mean', text) end
end
local tickets = #written > 0 and issueTickets(base, tag, now, waiting, waitingItems, tonumber(ARGV[2]), tonumber(ARGV[3]), false, urgent) or {}
return { now, waiting, table.concat(tickets, ' '), allAdmitted and '' or table.concat(answers, '\n') }
