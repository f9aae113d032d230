-- Read a record and register a waiter in one step, so that no outcome falls between the two.
-- KEYS  1 base of the queue's keys
-- ARGV  1 job id  2 coordinator
-- Answers  the record as HGETALL, or {"tomb", "<state> <finishedMs>"}, or nothing.
-- Keeps: a terminal record is not written.
-- Flags: allow-oom
-- @include lib-waiters.lua
local base, id, coordinator = KEYS[1], ARGV[1], ARGV[2]
local key = base .. 'job:' .. id
local facts = redis.call('HMGET', key, 'state', 'waiters')
if not facts[1] then
  local tomb = redis.call('GET', base .. 'tomb:' .. id)
  return tomb and { 'tomb', tomb } or {}
end
addWaiter(key, facts[1], facts[2], coordinator)
return redis.call('HGETALL', key)
