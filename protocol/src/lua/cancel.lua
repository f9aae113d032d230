-- Cancel one job: waiting jobs leave the queue, a running one loses its claim so that its result is dropped.
-- KEYS  1 base of the queue's keys
-- ARGV  1 job id
-- Answers  "cancelled" (now or before), the terminal state it had reached otherwise, or "none".
-- Keeps: a terminal record never changes.
-- Flags: allow-oom
-- @include lib-time.lua lib-finish.lua
local base, id = KEYS[1], ARGV[1]
local row = redis.call('HMGET', base .. 'job:' .. id, unpack(finishFields))
if not row[1] then return 'none' end
if not stillOpen(row[1]) then return row[1] end
endOutside(base, id, row, 'cancelled', nowMs(), '{"code":"cancelled","detail":"the job was cancelled","retryable":false}')
flushNotices()
return 'cancelled'
