-- Fragment: dead letters, kept jobs that failed though another run might have succeeded: too many hosts died while running one, or its attempts
-- or its time were used up by failures that do not lie in its inputs. Included, after lib-finish, by scripts that end running jobs as failed or
-- look after the list. `dead` lists them by their end; `dead-bytes` has what the inputs of each take, and of all under `sum`.
-- Keeps: inputs and record of a dead letter live a day; a queue keeps only so many and so many bytes, and the oldest give way.

local deadMs = dayMs
local mostDead, mostDeadBytes = 1000, 67108864

-- Takes one off the list and lets its inputs go; from now on its record lives no longer than that of any other job. Answers whether it was there.
local function dropDead(base, id)
  if redis.call('ZREM', base .. 'dead', id) == 0 then return false end
  local bytes = tonumber(redis.call('HGET', base .. 'dead-bytes', id)) or 0
  redis.call('HDEL', base .. 'dead-bytes', id)
  if bytes > 0 then redis.call('HINCRBY', base .. 'dead-bytes', 'sum', int(-bytes)) end
  redis.call('UNLINK', base .. 'in:' .. id)
  local record = loadRecord(base, id)
  if record then
    redis.call('PEXPIRE', base .. 'job:' .. id, keptMs(record), 'LT')
    redis.call('PEXPIRE', base .. 'tomb:' .. id, int(keptMs(record) + dayMs), 'LT')
    redis.call('PEXPIRE', base .. 'attempts:' .. id, keptMs(record), 'LT')
  end
  return true
end

-- Makes room: those whose time is over, then the oldest.
local function trimDead(base, now)
  local over = redis.call('ZRANGEBYSCORE', base .. 'dead', '-inf', now - deadMs, 'LIMIT', 0, 500)
  for _, id in ipairs(over) do dropDead(base, id) end
  while redis.call('ZCARD', base .. 'dead') > mostDead or tonumber(redis.call('HGET', base .. 'dead-bytes', 'sum') or 0) > mostDeadBytes do
    local oldest = redis.call('ZRANGE', base .. 'dead', 0, 0)[1]
    if not oldest then break end
    dropDead(base, oldest)
  end
end

-- Ends a running job as failed; a kept one becomes a dead letter. Answers whether it did: then its inputs are not the caller's to delete.
local function bury(base, id, record, now, err, runMs, batchItems)
  finish(base, id, record, 'failed', int(now), err, runMs, batchItems)
  if isHeld(record) then return false end
  local inputs = base .. 'in:' .. id
  local bytes = redis.call('STRLEN', inputs)
  redis.call('PEXPIRE', inputs, deadMs)
  redis.call('PEXPIRE', base .. 'job:' .. id, deadMs, 'GT')
  redis.call('PEXPIRE', base .. 'attempts:' .. id, deadMs, 'GT')
  redis.call('PEXPIRE', base .. 'tomb:' .. id, deadMs + dayMs, 'GT')
  redis.call('ZADD', base .. 'dead', now, id)
  redis.call('HSET', base .. 'dead-bytes', id, bytes)
  redis.call('HINCRBY', base .. 'dead-bytes', 'sum', bytes)
  for _, list in ipairs({ 'dead', 'dead-bytes' }) do redis.call('PEXPIRE', base .. list, deadMs) end
  trimDead(base, now)
  return true
end
