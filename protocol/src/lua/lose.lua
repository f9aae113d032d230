-- Decide a host's loss once: its last beat is older than the presence window, or it said goodbye.
-- KEYS  1 the host's hash
-- ARGV  1 presence window in ms
-- Answers  "lost" (now or before), "present", "none".
-- Keeps: loss is decided by the store's clock, once; the tombstone refuses later beats.
-- Flags: allow-oom
-- @include lib-time.lua
local row = redis.call('HMGET', KEYS[1], 'state', 'beat')
if not row[1] then return 'none' end
if row[1] == 'lost' then return 'lost' end
local now = nowMs()
if now - tonumber(row[2]) <= tonumber(ARGV[1]) then return 'present' end
redis.call('HSET', KEYS[1], 'state', 'lost', 'lost', now)
redis.call('PEXPIRE', KEYS[1], 3600000)
return 'lost'
