-- Record what became of a claim's jobs. Large outputs were SET before, plainly, under the fence; small ones come with the outcome.
-- KEYS  1 base of the queue's keys
-- ARGV  1 incarnation  2 ticket id  3 runMs  4 items of the batch
--       5 lingerMs: where no job of the queue is open afterwards, the ticket lingers so long; 0: it is held all the same
--       6 what stands for the host's next claim while it lingers, see lib-handing, or "": its next job waits for a look
--       then the jobs in order, those together that came to the same: fence, "succeeded" | "failed" | "retry" | "late" | "back" (unrun: same
--       order, no attempt used), error JSON or "", number of jobs, then per job 2: id, and for "succeeded" the framed outputs or "" where they
--       were SET before, for "retry" retryDelayMs
-- Answers  "committed" when all were, as sent; else per job "committed", "expired" (too late), "requeued", "failed" (no attempts left), "stale"
--          (another fence or host owns it), "ended" (already terminal), "no_output" (the store refused the bytes: write them and commit again);
--          or only "barred".
-- Keeps: a terminal job never changes; only the fence that runs may end it; nothing succeeds after its deadline; the inputs of what ends go,
--        but for a kept job whose last "retry" was one too many: it becomes a dead letter; an attempt that lets its job wait again is noted.
-- Flags: allow-oom
-- @include lib-time.lua lib-record.lua lib-notices.lua lib-claims.lua lib-ended.lua

local base, incarnation, ticketId, runMs, batchItems = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('ZSCORE', base .. 'barred', incarnation) then return { 'barred' } end
local now = nowMs()
local nowText = int(now)
local claim = redis.call('HGET', base .. 'claims', incarnation) or '0 0'
local last, earlier, earlierJobs = splitClaim(claim)
local isTold = string.find(last, ' told', 1, true)
local ids, groups = {}, {}
local at, most = 7, #ARGV
while at <= most do
  groups[#groups + 1] = at
  local groupEnd = at + 3 + 2 * ARGV[at + 3]
  for each = at + 4, groupEnd, 2 do ids[#ids + 1] = ARGV[each] end
  at = groupEnd + 1
end
local texts, names = recordTexts(base, ids)
local answers, allCommitted, ended, inputs, number = {}, true, { base .. 'due' }, {}, 0
local successPattern = '^running (%d+) (%S+) (%S+) (%d+) ([^\n]*)'
local successEnding = '\n' .. nowText .. ' ' .. runMs .. ' ' .. batchItems .. ' -'
local runningPattern = '^running %d+ %S+ %S+ %d+ (%d+) %d+ %d+ %d+ %d+ (%S+)'
local own, settled = 0, {} -- how many jobs leave this claim, and the fences of all that do not come back for another commit, by id

-- Whether this host runs the job under that fence: the record says so as long as the claim does. Jobs that came together and were claimed
-- together have the same text: what is read from it is read once.
local ownText, ownFence
local function isOwn(text, fence)
  if text ~= ownText then
    local runs, by = string.match(text or '', runningPattern)
    ownText, ownFence = text, by == incarnation and runs
  end
  return ownFence == fence
end

local seenText, head, waiters, keep, keptFor, deadline
local held = {} -- by how long they are kept, the jobs of held calls that ended well: ids, and their records as MSET has them

local buried = {}

-- All but the usual end. A function costs its making at every call of the script, so these are made when they are first needed.
local others
local function unusual()
  if others then return others end
  -- @include lib-waiting.lua lib-tally.lua lib-finish.lua lib-dead.lua lib-attempts.lua

  -- A failed attempt: back to wait, or the end.
  local function settleFailure(id, record, outcome, err, delayMs)
    if outcome ~= 'back' then record[FAILURES] = int(record[FAILURES] + 1) end
    local dueAt = now + delayMs
    local mayRetry = outcome == 'back'
      or (outcome == 'retry' and tonumber(record[FAILURES]) < tonumber(record[MAX_ATTEMPTS]) and dueAt < tonumber(record[DEADLINE]))
    if not mayRetry then
      if outcome == 'retry' then
        buried[id] = bury(base, id, record, now, err, runMs, batchItems)
        return 'failed'
      end
      finish(base, id, record, 'failed', nowText, err, runMs, batchItems)
      return 'committed'
    end
    noteAttempt(base, id, record, now, outcome == 'back' and 'handed_back' or 'failed', runMs, batchItems, err)
    record[STATE], record[REVISION], record[INCARNATION], record[HOST] = 'queued', int(record[REVISION] + 1), '-', '-'
    if err ~= '' then setEnding(record, '0', '0', '0', err) end
    if outcome == 'back' then record[ATTEMPT] = record[FAILURES] end
    storeRecord(base, id, record)
    if outcome == 'back' then enqueue(base, id, record) else redis.call('ZADD', base .. 'later', dueAt, id) end
    return 'requeued'
  end

  local function expire(id, record, err, ranMs, ranItems) finish(base, id, record, 'expired', nowText, err, ranMs, ranItems) end

  others = {
    expired = function(id, record) expire(id, record, expiredError, runMs, batchItems) end,
    late = function(id, record) expire(id, record, lateError, '0', '0') end,
    settleFailure = settleFailure,
    retain = retain,
    countFails = countFails,
  }
  return others
end

-- The usual end, without taking the whole record apart.
local function succeed(id, name, fence, text, outputs)
  if text ~= seenText then
    local revision, rest
    seenText, revision, waiters, keep, deadline, rest = text, string.match(text, successPattern)
    keptFor = string.sub(keep, 1, 1) == 'h' and string.sub(keep, 2)
    head = 'succeeded ' .. int(revision + 1) .. ' ' .. waiters .. ' ' .. keep .. ' ' .. deadline .. ' ' .. rest .. successEnding
    deadline = tonumber(deadline)
  end
  if deadline < now then
    unusual().expired(id, parseRecord(text))
    return 'expired'
  end
  local final = head
  if outputs == '' then
    local key = base .. 'out:' .. id .. ':' .. fence
    if redis.call('EXISTS', key) == 0 then return 'no_output' end
    -- its host may have claimed it while it was still held, with a short life for the outputs
    if not keptFor then redis.call('PEXPIRE', key, string.sub(keep, 2) + 5000) end
  else
    final = head .. '\n' .. outputs
  end
  if keptFor then -- the usual case of `retain`
    local alike = held[keptFor]
    if not alike then
      alike = { ids = {}, written = {} }
      held[keptFor] = alike
    end
    local last = #alike.ids + 1
    alike.ids[last], alike.written[2 * last - 1], alike.written[2 * last] = id, name, final
  else
    unusual().retain(base, id, final, keep, 'succeeded', nowText)
  end
  note(id, waiters, final)
  return 'committed'
end

for _, group in ipairs(groups) do
  local fence, outcome, err = ARGV[group], ARGV[group + 1], ARGV[group + 2]
  for each = group + 4, group + 3 + 2 * ARGV[group + 3], 2 do
    number = number + 1
    local id, text = ids[number], texts[number]
    local answer
    if settled[id] or not isOwn(text, fence) then
      local record = parseRecord(text)
      answer = record and isOpen(record) and 'stale' or 'ended'
      if not record then settled[id] = fence end
    else
      if outcome == 'succeeded' then
        answer = succeed(id, names[number], fence, text, ARGV[each + 1])
      else
        local record = parseRecord(text)
        if tonumber(record[DEADLINE]) < now then
          unusual().expired(id, record)
          answer = 'expired'
        elseif outcome == 'late' then
          unusual().late(id, record)
          answer = 'committed'
        else
          answer = unusual().settleFailure(id, record, outcome, err, ARGV[each + 1])
        end
      end
      if not earlier or string.find(last, ' ' .. id .. '=', 1, true) then isTold = true end
      if answer ~= 'no_output' then
        own = own + 1
        settled[id] = fence
        if answer ~= 'requeued' then
          ended[#ended + 1] = id
          if not buried[id] then inputs[#inputs + 1] = base .. 'in:' .. id end
        end
      end
    end
    if answer ~= 'committed' then allCommitted = false end
    answers[number] = answer
  end
end

for ms, alike in pairs(held) do
  if #alike.ids == 1 then
    redis.call('PSETEX', alike.written[1], ms, alike.written[2])
  else
    keepTogether(base, now + ms, alike.ids, alike.written)
  end
end
if #ended > 1 then
  redis.call('ZREM', unpack(ended))
  if #inputs > 0 then redis.call('UNLINK', unpack(inputs)) end
end
publishNotices()
if others then others.countFails() end

-- The jobs of a claim that are not settled.
local function unsettled(jobs)
  local left = {}
  for id, fence in string.gmatch(jobs, ' ([%w-]+)=(%d+)') do
    if settled[id] ~= fence then left[#left + 1] = ' ' .. id .. '=' .. fence end
  end
  return table.concat(left)
end

local sequence, freeAt = string.match(last, '^(%d+) (%d+)')
local rest = ''
-- usually a commit settles its whole claim
at = 0
for _ = 0, own do at = at and string.find(claim, '=', at + 1, true) end
if at then rest = unsettled(last) end
local before = earlier and claimBefore(earlier, unsettled(earlierJobs)) or ''
redis.call('HSET', base .. 'claims', incarnation, sequence .. ' ' .. freeAt .. (isTold and ' told' or '') .. rest
  .. before)
local ticket = redis.call('HGET', base .. 'tickets', ticketId)
if ticket and string.match(ticket, '^%a+ (%S+)') == incarnation then
  -- of two claims the other one has the device, or will have it at once
  local isBusy = earlier and (rest ~= '' or before ~= '')
  local state, till, standing = 'held ', now + 1500, ''
  if isBusy then
    state, till = 'busy ', math.max(till, tonumber(freeAt))
  elseif ARGV[5] ~= '0' and redis.call('EXISTS', base .. 'due') == 0 then
    state, till = 'lingering ', now + ARGV[5]
    if ARGV[6] ~= '' then standing = ' ' .. ARGV[6] end
  end
  if string.find(ticket, '^handed .* leaving') then
    redis.call('HDEL', base .. 'tickets', ticketId) -- see release
  elseif string.sub(ticket, 1, 8) ~= 'leaving ' then
    redis.call('HSET', base .. 'tickets', ticketId, state .. incarnation .. ' ' .. int(till) .. standing)
  end
end
return allCommitted and 'committed' or answers
