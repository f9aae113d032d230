-- Read a record and register a waiter in one step, so that no outcome falls between the two.
-- KEYS  1 base of the queue's keys
-- ARGV  1 job id  2 coordinator
-- Answers  the record as HGETALL, or {"tomb", "<state> <finishedMs>"}, or nothing.
-- Keeps: a terminal record is not written.
-- Flags: allow-oom
local base, id, coordinator = KEYS[1], ARGV[1], ARGV[2]
local key = base .. 'job:' .. id
local facts = redis.call('HMGET', key, 'state', 'waiters')
if not facts[1] then
  local tomb = redis.call('GET', base .. 'tomb:' .. id)
  return tomb and { 'tomb', tomb } or {}
end
if facts[1] == 'queued' or facts[1] == 'running' then
  local waiters = facts[2] or ''
  if not string.find(waiters, coordinator, 1, true) then
    redis.call('HSET', key, 'waiters', waiters == '' and coordinator or (waiters .. ',' .. coordinator))
  end
end
return redis.call('HGETALL', key)
