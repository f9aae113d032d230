-- Fragment: ends jobs. Included, after lib-record, lib-tally and lib-notices, by every script that may reach an outcome.
-- Keeps: a terminal record never changes; every terminal key that is written here has a TTL; what ends other than well is counted once
-- (hosts count what they commit well: that is one write less for each).

local fails = { jobs = 0, ms = 0 }

-- Counts what was finished.
local function countFails()
  if fails.jobs > 0 then raise(fails.base, 'fail', fails.jobs .. ' ' .. int(1000 * fails.ms)) end
  fails = { jobs = 0, ms = 0 }
end

-- At the end of a script that finishes jobs.
local function flushNotices()
  publishNotices()
  countFails()
end

-- Keeps a record that has just become terminal; `keep` is its word KEEP.
local function retain(base, id, text, keep, state, now)
  local ms = string.sub(keep, 2)
  redis.call('PSETEX', base .. 'job:' .. id, ms, text) -- a fifth cheaper than SET with PX
  if string.sub(keep, 1, 1) == 'k' then
    local flowPattern = '^' .. string.rep('%S+ ', FLOW - 1) .. '(%S+)'
    redis.call('SET', base .. 'tomb:' .. id, state .. ' ' .. now .. ' ' .. string.match(text, flowPattern), 'PX', int(ms + dayMs))
  end
end

-- Moves one open job to an outcome other than success; `now`, runMs and batchItems as text. The caller removes it from order, later, due and
-- claims.
local function finish(base, id, record, state, now, err, runMs, batchItems)
  fails.base, fails.jobs, fails.ms = base, fails.jobs + 1, fails.ms + math.max(0, now - record[CREATED])
  record[STATE], record[REVISION] = state, int(record[REVISION] + 1)
  setEnding(record, now, runMs, batchItems, err)
  local text = recordText(record)
  retain(base, id, text, record[KEEP], state, now)
  note(id, record[WAITERS], text)
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
    redis.call('ZREM', base .. 'order:' .. record[FLOW], id)
    redis.call('ZREM', base .. 'later', id)
  end
  redis.call('ZREM', base .. 'due', id)
  redis.call('UNLINK', base .. 'in:' .. id)
  finish(base, id, record, state, now, err, '0', '0')
end

local expiredError = '{"code":"expired","detail":"the deadline passed before the run ended","retryable":false}'
local lateError = '{"code":"expired","detail":"a run could not have ended before the deadline, so none was started","retryable":false}'
