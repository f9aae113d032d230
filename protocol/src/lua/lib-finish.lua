-- Fragment: ends jobs. Included, after lib-record, by every script that may reach an outcome.
-- Keeps: a terminal record never changes; every terminal key has a TTL; each waiting coordinator is told once per call.

local notices = {}

-- Collects one notice for every coordinator that waits for the job; flushNotices() publishes them, one message each. Row: id, state, revision,
-- fence, created, started, finished, deadline, attempt, runMs, batchItems, class, error JSON or "", and 1 for the one waiter that counts it.
local function note(id, record, err)
  if record[WAITERS] == '-' then return end
  local line = '["' .. id .. '","' .. record[STATE] .. '",' .. record[REVISION] .. ',' .. record[FENCE] .. ',' .. record[CREATED] .. ','
    .. record[STARTED] .. ',' .. record[FINISHED] .. ',' .. record[DEADLINE] .. ',' .. record[ATTEMPT] .. ',' .. record[RUN_MS] .. ','
    .. record[BATCH_ITEMS] .. ',"' .. record[CLASS] .. '",' .. (err == '' and '""' or cjson.encode(err))
  local first = 1
  for waiter in string.gmatch(record[WAITERS], '[^,]+') do
    local lines = notices[waiter]
    if not lines then
      lines = {}
      notices[waiter] = lines
    end
    lines[#lines + 1] = line .. ',' .. first .. ']'
    first = 0
  end
end

local function flushNotices()
  for waiter, lines in pairs(notices) do
    redis.call('PUBLISH', 'sy:notices:' .. waiter, '[' .. table.concat(lines, ',') .. ']')
  end
  notices = {}
end

-- Moves one open job to its outcome; `now`, runMs and batchItems as text. The caller removes it from order, later, due and claims.
local function finish(base, id, record, state, now, err, runMs, batchItems)
  record[STATE], record[REVISION], record[FINISHED], record[RUN_MS], record[BATCH_ITEMS] = state, int(record[REVISION] + 1), now, runMs, batchItems
  setError(record, err)
  redis.call('SET', base .. 'job:' .. id, table.concat(record, ' '), 'PX', record[TTL])
  if record[HELD] == '0' then
    redis.call('SET', base .. 'tomb:' .. id, state .. ' ' .. now, 'PX', int(record[TTL] + 86400000))
  end
  note(id, record, err)
end

-- Takes a job out of its host's outstanding claim, so that the host's commit finds it gone.
local function dropFromClaim(base, id, incarnation)
  local claim = redis.call('HGET', base .. 'claims', incarnation)
  if not claim then return end
  local first, last = string.find(claim, ' ' .. id .. '=', 1, true)
  if not first then return end
  local stop = string.find(claim, ' ', last + 1, true)
  redis.call('HSET', base .. 'claims', incarnation, string.sub(claim, 1, first - 1) .. (stop and string.sub(claim, stop) or ''))
end

-- Ends an open job that waits or runs, from outside its claim: expire and cancel.
local function endOutside(base, id, record, state, now, err)
  if record[STATE] == 'running' then
    dropFromClaim(base, id, record[INCARNATION])
  else
    redis.call('ZREM', base .. 'order:' .. record[CLASS], id)
    redis.call('ZREM', base .. 'later', id)
  end
  redis.call('ZREM', base .. 'due', id)
  redis.call('UNLINK', base .. 'in:' .. id)
  finish(base, id, record, state, now, err, '0', '0')
end

local expiredError = '{"code":"expired","detail":"the deadline passed before the run ended","retryable":false}'
