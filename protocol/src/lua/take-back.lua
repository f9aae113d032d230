-- A host is lost: bar its incarnation in this queue, return its claim, replace its tickets.
-- KEYS  1 base of the queue's keys
-- ARGV  1 queue tag  2 incarnation  3 matching hosts that are left  4 items of a usual batch
-- Answers  jobs returned, jobs failed (no attempts left or poison), then the ticket ids to offer.
-- Keeps: after this no claim, commit, renew or take of that incarnation is accepted here; no job runs on nobody.
-- Under repetition: nothing is left to return.
-- Flags: allow-oom
-- @include lib-time.lua lib-record.lua lib-waiting.lua lib-tally.lua lib-notices.lua lib-finish.lua lib-flows.lua lib-tickets.lua lib-dead.lua lib-attempts.lua lib-return.lua
local base, tag, incarnation = KEYS[1], ARGV[1], ARGV[2]
local now = nowMs()
local barredMs = 7200000
redis.call('ZREMRANGEBYSCORE', base .. 'barred', '-inf', now)
redis.call('ZADD', base .. 'barred', now + barredMs, incarnation)
redis.call('PEXPIRE', base .. 'barred', barredMs)

local returned, failed = 0, 0
local claim = redis.call('HGET', base .. 'claims', incarnation)
if claim then
  redis.call('HDEL', base .. 'claims', incarnation)
  returned, failed = returnJobs(base, claim, now, true)
end
local entries = redis.call('HGETALL', base .. 'tickets')
for index = 1, #entries, 2 do
  if string.match(entries[index + 1], '^%a+ (%S+)') == incarnation then redis.call('HDEL', base .. 'tickets', entries[index]) end
end
local reply = { returned, failed }
local flows, waiting = waitingFlows(base)
local items, urgent = itemsOf(waiting, meanItems(base)), firstStart(base, flows)
for _, ticketId in ipairs(issueTickets(base, tag, now, waiting, items, tonumber(ARGV[3]), tonumber(ARGV[4]), true, urgent)) do
  reply[#reply + 1] = ticketId
end
return reply
