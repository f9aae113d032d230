-- Fragment: jobs that wait again. Included, after lib-record, by scripts that give jobs back to their queue.

-- Back among the waiting, under its old order key.
local function enqueue(base, id, record)
  local flow = record[FLOW]
  redis.call('ZADD', base .. 'order:' .. flow, record[ORDER], id)
  redis.call('HSETNX', base .. 'flows', flow, redis.call('HGET', base .. 'weights', string.match(flow, ':(.*)$')) or '1')
end

-- Retries wait again; what has ended meanwhile does not.
local function promote(base, ids)
  for _, id in ipairs(ids) do
    redis.call('ZREM', base .. 'later', id)
    local record = loadRecord(base, id)
    if record and record[STATE] == 'queued' then enqueue(base, id, record) end
  end
end

-- Those whose time has come.
local function dueRetries(base, now, most)
  return redis.call('ZRANGEBYSCORE', base .. 'later', '-inf', now, 'LIMIT', 0, most)
end
