-- Repair one queue: expire what is over, promote due retries, forget lost tickets, issue missing ones, tidy lists, tell the figures; and set the pace of
-- Lua's collector.
-- KEYS  1 base of the queue's keys
-- ARGV  1 queue tag  2 matching hosts  3 items of a usual batch  4 dead letters that must give way, because the store fills up
--       5 incarnations of two hosts that could take jobs, or fewer where there are no two, divided by spaces
-- Answers  now, waiting, running, oldestMs, dead letters, expired, jobs that were handed over and came back, tickets under which some are late and may
--          come back at a look soon, 1 where jobs that ended together are to be forgotten, number of outstanding claims, then per claim its incarnation
--          and sequence, then the ticket ids to offer.
-- Keeps: a waiting queue has a ticket that can act; an open job past its deadline is expired; at most 500 jobs are touched a call.
-- Flags: allow-oom
-- @include lib-time.lua lib-record.lua lib-waiting.lua lib-tally.lua lib-notices.lua lib-finish.lua lib-dead.lua lib-attempts.lua lib-return.lua lib-flows.lua lib-tickets.lua lib-claims.lua
-- @include lib-handing.lua
local base, tag = KEYS[1], ARGV[1]
local now = nowMs()
-- At 200 Lua collects its garbage mostly in the large step that Redis has it do at every fiftieth call; at 100 it begins again at once, in small steps.
-- Beside much that is stored, what it would have spread over meanwhile has left the processor's caches, and one call in twenty paid for that; beside little
-- it would collect more often than it needs to. Said at each sweep, since a server that was started anew does not know it; one that does not allow it goes
-- without.
local pause = redis.call('DBSIZE') < 100000 and 200 or 100
pcall(function() collectgarbage('setpause', pause) end)

local over = redis.call('ZRANGEBYSCORE', base .. 'due', '-inf', now, 'LIMIT', 0, 500)
local overdue = loadRecords(base, over)
for _, id in ipairs(over) do
  local record = overdue[id]
  if record and isOpen(record) then
    endOutside(base, id, record, 'expired', int(now), expiredError)
  else
    redis.call('ZREM', base .. 'due', id)
  end
end
flushNotices()
local returned, doubted = returnLateHanded(base, redis.call('HGETALL', base .. 'tickets'), now, ARGV[5])
promote(base, dueRetries(base, now, 500))

trimDead(base, now)
if tonumber(ARGV[4]) > 0 then
  for _, id in ipairs(redis.call('ZRANGE', base .. 'dead', 0, ARGV[4] - 1)) do dropDead(base, id) end
end
redis.call('ZREMRANGEBYSCORE', base .. 'recent', '-inf', now - 120000)
redis.call('ZREMRANGEBYRANK', base .. 'recent', 0, -10001)
-- The list of kept jobs is looked through in parts, over and over: one long job must not keep what ended behind it. Where nearly all of a part is gone the next
-- ones are looked at, too, and where the first of all are, it begins there: thousands may end in a second.
local listed, mostParts, firstLook = 500, 8, 8
local function goneOf(part)
  local gone = {}
  for _, id in ipairs(part) do
    if redis.call('EXISTS', base .. 'job:' .. id) == 0 then gone[#gone + 1] = id end
  end
  return gone
end
local trimmed = tonumber(redis.call('HGET', base .. 'clock', 'trimmed')) or 0
local first = redis.call('ZRANGE', base .. 'index', 0, firstLook - 1)
local from = #first == firstLook and #goneOf(first) == firstLook and 0 or trimmed
for _ = 1, mostParts do
  local part = redis.call('ZRANGE', base .. 'index', from, from + listed - 1)
  local gone = goneOf(part)
  if #gone > 0 then redis.call('ZREM', base .. 'index', unpack(gone)) end
  from = #part < listed and 0 or from + listed - #gone
  if #part < listed or #gone < 0.9 * listed then break end
end
if from ~= trimmed then redis.call('HSET', base .. 'clock', 'trimmed', from) end

local flows, waiting = waitingFlows(base)
if waiting == 0 then redis.call('UNLINK', base .. 'shares') end -- nobody is ahead of anybody in an empty queue
local oldest = 0
for _, flow in ipairs(flows) do
  local head = redis.call('ZRANGE', base .. 'order:' .. flow.name, 0, 0)
  local record = head[1] and loadRecord(base, head[1])
  if record then oldest = math.max(oldest, now - record[CREATED]) end
end

local claims, running = {}, 0
local entries = redis.call('HGETALL', base .. 'claims')
local function tellClaim(incarnation, sequence, jobs)
  local _, count = string.gsub(jobs, '=', '')
  if count == 0 then return end
  running = running + count
  claims[#claims + 1] = incarnation
  claims[#claims + 1] = sequence
end
for index = 1, #entries, 2 do
  local told = #claims
  local last, earlier, earlierJobs = splitClaim(entries[index + 1])
  local sequence, freeAt = string.match(last, '^(%d+) (%d+)')
  tellClaim(entries[index], sequence, last)
  tellClaim(entries[index], earlier, earlierJobs)
  if #claims == told and tonumber(freeAt) + 3600000 < now then redis.call('HDEL', base .. 'claims', entries[index]) end
end

local areOver = redis.call('ZCOUNT', base .. 'ended', '-inf', '(' .. int(now)) > 0
local reply = { now, waiting, running, oldest, redis.call('ZCARD', base .. 'dead'), #over, returned, doubted, areOver and 1 or 0, #claims / 2 }
for _, value in ipairs(claims) do reply[#reply + 1] = value end
local items, urgent = itemsOf(waiting, meanItems(base)), firstStart(base, flows)
for _, ticketId in ipairs(issueTickets(base, tag, now, waiting, items, tonumber(ARGV[2]), tonumber(ARGV[3]), true, urgent)) do
  reply[#reply + 1] = ticketId
end
return reply
