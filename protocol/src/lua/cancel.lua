-- Cancel one job: waiting jobs leave the queue, a running one loses its claim so that its result is dropped.
-- KEYS  1 base of the queue's keys
-- ARGV  1 job id
-- Answers  "cancelled" (now or before), the terminal state it had reached otherwise, or "none".
-- Keeps: a terminal record never changes.
-- Flags: allow-oom
-- @include lib-time.lua lib-record.lua lib-tally.lua lib-notices.lua lib-finish.lua
local base, id = KEYS[1], ARGV[1]
local record = loadRecord(base, id)
if not record then return 'none' end
if not isOpen(record) then return record[STATE] end
endOutside(base, id, record, 'cancelled', int(nowMs()), '{"code":"cancelled","detail":"the job was cancelled","retryable":false}')
flushNotices()
return 'cancelled'
