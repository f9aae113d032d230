-- Forget jobs of held calls that ended together and whose time is over: some of them, the oldest first.
-- KEYS  1 base of the queue's keys
-- ARGV  none
-- Answers  1 where more of them are over, else 0.
-- Keeps: nothing is forgotten before its time, nor what was kept on; a few hundred jobs a call, which mostly takes less than a millisecond.
-- Flags: allow-oom
-- @include lib-time.lua lib-ended.lua
return forgetEnded(KEYS[1], nowMs()) and 1 or 0
