-- A held job outlives its call: keep it like any other and list it.
-- KEYS  1 base of the queue's keys
-- ARGV  1 job id  2 ttlMs
-- Answers  1 when the record exists, else 0.
-- Keeps: a terminal key has a TTL; a kept job has a tombstone after it.
-- Flags: allow-oom
local base, id, ttl = KEYS[1], ARGV[1], tonumber(ARGV[2])
local key = base .. 'job:' .. id
local row = redis.call('HMGET', key, 'state', 'created', 'finished', 'fence', 'held')
if not row[1] then return 0 end
if row[5] == '0' then return 1 end
redis.call('HSET', key, 'held', 0, 'ttl', ttl)
redis.call('ZADD', base .. 'index', row[2], id)
redis.call('ZREM', base .. 'recent', id)
if row[3] then
  redis.call('PEXPIRE', key, ttl)
  redis.call('PEXPIRE', base .. 'out:' .. id .. ':' .. row[4], ttl + 5000)
  redis.call('SET', base .. 'tomb:' .. id, row[1] .. ' ' .. row[3], 'PX', ttl + 86400000)
end
return 1
