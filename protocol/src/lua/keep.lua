-- A held job outlives its call: keep it like any other and list it.
-- KEYS  1 base of the queue's keys
-- ARGV  1 job id  2 ttlMs
-- Answers  1 when the record exists, else 0.
-- Keeps: a terminal key has a TTL, and is not forgotten with those that ended beside it; a kept job has a tombstone after it.
-- Flags: allow-oom
-- @include lib-record.lua
local base, id, ttl = KEYS[1], ARGV[1], tonumber(ARGV[2])
local record = loadRecord(base, id)
if not record then return 0 end
if not isHeld(record) then return 1 end
record[KEEP] = 'k' .. ttl
redis.call('ZADD', base .. 'index', record[CREATED], id)
redis.call('ZREM', base .. 'recent', id)
redis.call('PEXPIREAT', base .. 'attempts:' .. id, string.format('%d', record[DEADLINE] + ttl + 60000), 'GT')
if isOpen(record) then
  storeRecord(base, id, record)
else
  if redis.call('PTTL', base .. 'job:' .. id) == -1 then -- it stands in `ended`, see lib-ended
    redis.call('SADD', base .. 'spared', id) -- until those beside it are forgotten, whenever that is
  end
  redis.call('SET', base .. 'job:' .. id, recordText(record), 'PX', ttl)
  redis.call('PEXPIRE', base .. 'out:' .. id .. ':' .. record[FENCE], ttl + 5000)
  local flow, finished = record[FLOW], string.match(record[ENDING], '^\n(%d+)')
  redis.call('SET', base .. 'tomb:' .. id, record[STATE] .. ' ' .. finished .. ' ' .. flow, 'PX', ttl + dayMs)
end
return 1
