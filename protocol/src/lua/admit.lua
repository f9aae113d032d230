-- Admit jobs into one queue: records, order, index, waiter registration and the ticket decision. Inputs were SET before, plainly.
-- KEYS  1 base of the queue's keys
-- ARGV  1 queue tag  2 matching hosts  3 items of a usual batch  4 coordinator that may wait
--       then per job 13: id, class, timeoutMs, latestStartMs, maxAttempts, shapeClass, items, ttlMs, held 0|1, wait 0|1, tenant,
--       traits (JSON of what only views show), inputBytes
-- Answers  now, number of tickets, the ticket ids, then per job "admitted", or "<state> <created ms> <deadline ms>" of the record that was
--          there before.
-- Keeps: an id is admitted once; a repeat registers the waiter and changes nothing else; a malformed job is refused before anything is written.
-- @include lib-time.lua lib-tickets.lua lib-waiters.lua

local base, tag, coordinator = KEYS[1], ARGV[1], ARGV[4]
local now = nowMs()
local function isNumber(text)
  local value = tonumber(text)
  return value ~= nil and value == value
end
for at = 5, #ARGV, 13 do
  if not (isNumber(ARGV[at + 2]) and isNumber(ARGV[at + 3])) then
    return redis.error_reply('ERR job ' .. ARGV[at] .. ' names no time: timeout ' .. ARGV[at + 2] .. ', latest start ' .. ARGV[at + 3])
  end
end

local answers, orders, due, index, recent = {}, {}, { base .. 'due' }, { base .. 'index' }, { base .. 'recent' }

for at = 5, #ARGV, 13 do
  local id, class = ARGV[at], ARGV[at + 1]
  local key = base .. 'job:' .. id
  if redis.call('HSETNX', key, 'state', 'queued') == 1 then
    local order, deadline = now + tonumber(ARGV[at + 3]), now + tonumber(ARGV[at + 2])
    redis.call('HSET', key, 'revision', 1, 'fence', 0, 'attempt', 0, 'failures', 0, 'class', class, 'order', order, 'created', now,
      'deadline', deadline, 'max_attempts', ARGV[at + 4], 'shape', ARGV[at + 5], 'items', ARGV[at + 6], 'ttl', ARGV[at + 7],
      'held', ARGV[at + 8], 'waiters', ARGV[at + 9] == '1' and coordinator or '', 'tenant', ARGV[at + 10], 'traits', ARGV[at + 11])
    local list = orders[class]
    if not list then
      list = { base .. 'order:' .. class }
      orders[class] = list
    end
    list[#list + 1] = order
    list[#list + 1] = id
    due[#due + 1] = deadline
    due[#due + 1] = id
    local listing = ARGV[at + 8] == '1' and recent or index
    listing[#listing + 1] = now
    listing[#listing + 1] = id
    answers[#answers + 1] = 'admitted'
  else
    local row = redis.call('HMGET', key, 'state', 'waiters', 'created', 'deadline')
    if ARGV[at + 9] == '1' then addWaiter(key, row[1], row[2], coordinator) end
    answers[#answers + 1] = row[1] .. ' ' .. row[3] .. ' ' .. row[4]
  end
end

for _, list in pairs(orders) do
  redis.call('ZADD', unpack(list))
end
if #due > 1 then redis.call('ZADD', unpack(due)) end
if #index > 1 then redis.call('ZADD', unpack(index)) end
if #recent > 1 then redis.call('ZADD', unpack(recent)) end

local tickets = issueTickets(base, tag, now, #due > 1 and waitingJobs(base) or 0, tonumber(ARGV[2]), tonumber(ARGV[3]), false)
local reply = { now, #tickets }
for _, ticketId in ipairs(tickets) do reply[#reply + 1] = ticketId end
for _, answer in ipairs(answers) do reply[#reply + 1] = answer end
return reply
