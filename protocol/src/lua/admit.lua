-- Admit jobs into one queue: records, order, index, waiter registration and the ticket decision. Inputs were SET before, plainly.
-- KEYS  1 base of the queue's keys
-- ARGV  1 queue tag  2 matching hosts  3 items of a usual batch  4 coordinator that may wait
--       then per job 8: id, class, timeoutMs, latestStartMs, held 0|1, wait 0|1,
--       terms (the record's words from max attempts to host), traits (its words from shape on)
-- Answers  now, number of tickets, the ticket ids, then per job "admitted", or "<state> <created ms> <deadline ms>" of the record that was
--          there before.
-- Keeps: an id is admitted once; a repeat registers the waiter and changes nothing else; a malformed job is refused before anything is written.
-- @include lib-time.lua lib-record.lua lib-tickets.lua
local base, tag, coordinator = KEYS[1], ARGV[1], ARGV[4]
local now = nowMs()
local nowText = int(now)
local perJob = 8
local function isNumber(text)
  local value = tonumber(text)
  return value ~= nil and value == value
end
local ids = {}
for at = 5, #ARGV, perJob do
  if not (isNumber(ARGV[at + 2]) and isNumber(ARGV[at + 3])) then
    return redis.error_reply('ERR job ' .. ARGV[at] .. ' names no time: timeout ' .. ARGV[at + 2] .. ', latest start ' .. ARGV[at + 3])
  end
  ids[#ids + 1] = ARGV[at]
end

local records = loadRecords(base, ids)
local answers, orders, due, index, recent, written = {}, {}, { base .. 'due' }, { base .. 'index' }, { base .. 'recent' }, {}
local writtenAt = {} -- where the record of an id stands in `written`: the same id may come twice in one call

for at = 5, #ARGV, perJob do
  local id, class, waits = ARGV[at], ARGV[at + 1], ARGV[at + 5] == '1'
  local record = records[id] or (writtenAt[id] and parseRecord(written[writtenAt[id]]))
  if record then
    if waits and addWaiter(record, coordinator) then
      if writtenAt[id] then written[writtenAt[id]] = table.concat(record, ' ') else storeRecord(base, id, record) end
    end
    answers[#answers + 1] = record[STATE] .. ' ' .. record[CREATED] .. ' ' .. record[DEADLINE]
  else
    local order, deadline = int(now + ARGV[at + 3]), int(now + ARGV[at + 2])
    local text = 'queued 1 0 0 0 0 ' .. class .. ' ' .. order .. ' ' .. nowText .. ' ' .. deadline .. ' 0 0 ' .. ARGV[at + 6] .. ' '
      .. (waits and coordinator or '-') .. ' ' .. ARGV[at + 7]
    written[#written + 1] = base .. 'job:' .. id
    written[#written + 1] = text
    writtenAt[id] = #written
    local list = orders[class]
    if not list then
      list = { base .. 'order:' .. class }
      orders[class] = list
    end
    list[#list + 1] = order
    list[#list + 1] = id
    due[#due + 1] = deadline
    due[#due + 1] = id
    local listing = ARGV[at + 4] == '1' and recent or index
    listing[#listing + 1] = nowText
    listing[#listing + 1] = id
    answers[#answers + 1] = 'admitted'
  end
end

if #written > 0 then redis.call('MSET', unpack(written)) end
for _, list in pairs(orders) do
  redis.call('ZADD', unpack(list))
end
if #due > 1 then redis.call('ZADD', unpack(due)) end
if #index > 1 then redis.call('ZADD', unpack(index)) end
if #recent > 1 then
  redis.call('ZADD', unpack(recent))
  redis.call('PEXPIRE', recent[1], 180000)
end

local tickets = issueTickets(base, tag, now, #due > 1 and waitingJobs(base) or 0, tonumber(ARGV[2]), tonumber(ARGV[3]), false)
local reply = { now, #tickets }
for _, ticketId in ipairs(tickets) do reply[#reply + 1] = ticketId end
for _, answer in ipairs(answers) do reply[#reply + 1] = answer end
return reply
