-- A host's beat: prolong its presence, or learn that it was declared lost.
-- KEYS  1 the host's hash
-- ARGV  1 facts that may change (JSON)  2 known claims, "<tag>=<sequence> …"  3 facts of the registration (JSON; only used when new)
-- Answers  now and "ready", or now and "lost".
-- Keeps: a lost incarnation never becomes ready again.
-- Flags: allow-oom
-- @include lib-time.lua
local now = nowMs()
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'lost' then return { now, 'lost' } end
if not state then redis.call('HSET', KEYS[1], 'registered', now, 'facts', ARGV[3]) end
redis.call('HSET', KEYS[1], 'state', 'ready', 'beat', now, 'changing', ARGV[1], 'claims', ARGV[2])
redis.call('PEXPIRE', KEYS[1], 3600000)
return { now, 'ready' }
