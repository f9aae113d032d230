-- Fragment: ends jobs. Included, after lib-record and lib-tally, by every script that may reach an outcome.
-- Keeps: a terminal record never changes; every terminal key has a TTL; each waiting coordinator is told once per call; what ends other than
-- well is counted once (hosts count what they commit well: that is one write less for each).

local notices = {} -- by waiter
local lengths = {} -- what a notice says between the id and the record, where the waiter is to count it; by the record's bytes
local fails = { jobs = 0, ms = 0 }

-- Collects one notice for every coordinator that waits for the job; flushNotices() publishes them, one message each, and counts fails. A notice is a line "<id>
-- <1 for the one waiter that counts it, else 0> <bytes of the record>", then the record and a newline.
local function note(id, waiters, text)
  if waiters == '-' then return end
  local length = lengths[#text]
  if not length then
    length = ' 1 ' .. #text .. '\n'
    lengths[#text] = length
  end
  local lines = notices[waiters]
  if lines then -- the one waiter of a job, which has others
    local at = #lines
    lines[at + 1], lines[at + 2], lines[at + 3], lines[at + 4] = '\n', id, length, text
    return
  end
  for waiter in string.gmatch(waiters, '[^,]+') do
    lines = notices[waiter] or {}
    local at = #lines
    if at > 0 then
      at = at + 1
      lines[at] = '\n'
    end
    lines[at + 1], lines[at + 2], lines[at + 3] = id, length, text
    notices[waiter] = lines
    length = ' 0 ' .. #text .. '\n'
  end
end

local function flushNotices()
  for waiter, lines in pairs(notices) do redis.call('PUBLISH', 'sy:notices:' .. waiter, table.concat(lines)) end
  notices = {}
  if fails.jobs > 0 then raise(fails.base, 'fail', fails.jobs .. ' ' .. int(1000 * fails.ms)) end
  fails = { jobs = 0, ms = 0 }
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
