-- Discard one dead letter: its inputs go, its record stays as long as that of any other job that ended.
-- KEYS  1 base of the queue's keys
-- ARGV  1 job id
-- Answers  1 when it was a dead letter, else 0.
-- Keeps: a terminal record is not written.
-- Under repetition: 0.
-- Flags: allow-oom
-- @include lib-time.lua lib-record.lua lib-tally.lua lib-notices.lua lib-finish.lua lib-dead.lua
return dropDead(KEYS[1], ARGV[1]) and 1 or 0
