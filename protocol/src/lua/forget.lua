-- Forget jobs of held calls whose time is over, the oldest first: what a sweep left of them.
-- KEYS  1 base of the queue's keys
-- Answers  1 where more of them are over, else 0.
-- Keeps: nothing is forgotten before its time.
-- Flags: allow-oom
-- @include lib-time.lua lib-ended.lua
return forgetEnded(KEYS[1], nowMs()) and 1 or 0
