-- Fragment: ends jobs. Included by every script that may reach an outcome.
-- Keeps: a terminal record never changes; every terminal key has a TTL; each waiting coordinator is told once per call.

local notices = {}

local function stillOpen(state)
  return state == 'queued' or state == 'running'
end

-- Collects one notice for every coordinator that waits for the job; flushNotices() publishes them, one message each. Row: id, state, revision,
-- fence, created, started, finished, deadline, attempt, runMs, batchItems, class, error JSON or "".
local function note(waiters, id, ...)
  if not waiters or waiters == '' then return end
  local line = cjson.encode({ id, ... })
  for waiter in string.gmatch(waiters, '[^,]+') do
    local lines = notices[waiter]
    if lines then lines[#lines + 1] = line else notices[waiter] = { line } end
  end
end

local function flushNotices()
  for waiter, lines in pairs(notices) do
    redis.call('PUBLISH', 'sy:notices:' .. waiter, '[' .. table.concat(lines, ',') .. ']')
  end
  notices = {}
end

-- Moves one open job to its outcome. `facts` = HMGET of finishFields below. The caller removes it from order, later, due and claims.
local finishFields = { 'state', 'revision', 'fence', 'created', 'started', 'deadline', 'attempt', 'ttl', 'held', 'waiters', 'class' }

local function finish(base, id, facts, state, now, err, runMs, batchItems)
  local revision = tonumber(facts[2]) + 1
  local key = base .. 'job:' .. id
  local ttl = tonumber(facts[8])
  if err and err ~= '' then
    redis.call('HSET', key, 'state', state, 'revision', revision, 'finished', now, 'run_ms', runMs, 'batch_items', batchItems, 'error', err)
  else
    redis.call('HSET', key, 'state', state, 'revision', revision, 'finished', now, 'run_ms', runMs, 'batch_items', batchItems)
  end
  redis.call('PEXPIRE', key, ttl)
  if facts[9] == '0' then
    redis.call('SET', base .. 'tomb:' .. id, state .. ' ' .. now, 'PX', ttl + 86400000)
  end
  note(facts[10], id, state, revision, tonumber(facts[3]), tonumber(facts[4]), tonumber(facts[5]) or 0, now, tonumber(facts[6]), tonumber(facts[7]),
    runMs, batchItems, facts[11], err or '')
end

-- Takes a job out of its host's outstanding claim, so that the host's commit finds it gone. Answers the claim's fence of it, if any.
local function dropFromClaim(base, id, incarnation)
  if not incarnation then return end
  local claim = redis.call('HGET', base .. 'claims', incarnation)
  if not claim then return end
  local first, last = string.find(claim, ' ' .. id .. '=', 1, true)
  if not first then return end
  local stop = string.find(claim, ' ', last + 1, true)
  redis.call('HSET', base .. 'claims', incarnation, string.sub(claim, 1, first - 1) .. (stop and string.sub(claim, stop) or ''))
end

-- Ends an open job that waits or runs, from outside its claim: expire and cancel.
local function endOutside(base, id, facts, state, now, err)
  if facts[1] == 'running' then
    dropFromClaim(base, id, redis.call('HGET', base .. 'job:' .. id, 'incarnation'))
  else
    redis.call('ZREM', base .. 'order:' .. facts[11], id)
    redis.call('ZREM', base .. 'later', id)
  end
  redis.call('ZREM', base .. 'due', id)
  redis.call('UNLINK', base .. 'in:' .. id)
  finish(base, id, facts, state, now, err, 0, 0)
end

local expiredError = '{"code":"expired","detail":"the deadline passed before the run ended","retryable":false}'
