-- Record what became of a claim's jobs. Large outputs were SET before, plainly, under the fence; small ones come with the outcome.
-- KEYS  1 base of the queue's keys
-- ARGV  1 incarnation  2 ticket id  3 runMs  4 items of the batch
--       then per job 5: id, fence, "succeeded" | "failed" | "retry" | "late" | "back" (unrun: same order, no attempt used), error JSON or "",
--       for "succeeded" the framed outputs or "" where they were SET before, for "retry" retryDelayMs
-- Answers  "committed" when all were, as sent; else per job "committed", "expired" (too late), "requeued", "failed" (no attempts left), "stale"
--          (another fence or host owns it), "ended" (already terminal), "no_output" (the store refused the bytes: write them and commit again);
--          or only "barred".
-- Keeps: a terminal job never changes; only the fence that runs may end it; nothing succeeds after its deadline; the inputs of what ends go,
--        but for a kept job whose last "retry" was one too many: it becomes a dead letter; an attempt that lets its job wait again is noted.
-- Flags: allow-oom
-- @include lib-time.lua lib-record.lua lib-tally.lua lib-finish.lua lib-dead.lua lib-attempts.lua

local base, incarnation, ticketId, runMs, batchItems = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('ZSCORE', base .. 'barred', incarnation) then return { 'barred' } end
local now = nowMs()
local nowText = int(now)
local claim = redis.call('HGET', base .. 'claims', incarnation) or '0 0'
local owned, left = {}, 0
for id, fence in string.gmatch(claim, ' ([%w-]+)=(%d+)') do
  owned[id] = fence
  left = left + 1
end

local told = string.find(claim, ' told', 1, true)
local ids = {}
for at = 5, #ARGV, 5 do ids[#ids + 1] = ARGV[at] end
local texts = recordTexts(base, ids)
local answers, allCommitted, ended, inputs, number = {}, true, { base .. 'due' }, {}, 0
local successPattern = '^running (%d+) (%S+) (%S+) (%d+) ([^\n]*)'
local successEnding = '\n' .. nowText .. ' ' .. runMs .. ' ' .. batchItems .. ' -'

local buried = {}

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

-- The usual end, without taking the whole record apart.
local function succeed(id, fence, text, outputs)
  local revision, waiters, keep, deadline, rest = string.match(text, successPattern)
  if not revision then return 'ended' end
  if tonumber(deadline) < now then
    finish(base, id, parseRecord(text), 'expired', nowText, expiredError, runMs, batchItems)
    return 'expired'
  end
  if outputs == '' then
    local key = base .. 'out:' .. id .. ':' .. fence
    if redis.call('EXISTS', key) == 0 then return 'no_output' end
    -- its host may have claimed it while it was still held, with a short life for the outputs
    if string.sub(keep, 1, 1) == 'k' then redis.call('PEXPIRE', key, string.sub(keep, 2) + 5000) end
  else
    outputs = '\n' .. outputs
  end
  local final = 'succeeded ' .. int(revision + 1) .. ' ' .. waiters .. ' ' .. keep .. ' ' .. deadline .. ' ' .. rest .. successEnding .. outputs
  retain(base, id, final, keep, 'succeeded', nowText)
  note(id, waiters, final)
  return 'committed'
end

for at = 5, #ARGV, 5 do
  number = number + 1
  local id, fence, outcome, text = ARGV[at], ARGV[at + 1], ARGV[at + 2], texts[number]
  local answer
  if owned[id] ~= fence then
    local record = parseRecord(text)
    answer = record and isOpen(record) and 'stale' or 'ended'
  else
    if not text then
      answer = 'ended'
    elseif outcome == 'succeeded' then
      answer = succeed(id, fence, text, ARGV[at + 4])
    else
      local record = parseRecord(text)
      if record[STATE] ~= 'running' then
        answer = 'ended'
      elseif tonumber(record[DEADLINE]) < now then
        finish(base, id, record, 'expired', nowText, expiredError, runMs, batchItems)
        answer = 'expired'
      elseif outcome == 'late' then
        finish(base, id, record, 'expired', nowText, lateError, '0', '0')
        answer = 'committed'
      else
        answer = settleFailure(id, record, outcome, ARGV[at + 3], ARGV[at + 4])
      end
    end
    told = true
    if answer ~= 'no_output' then
      owned[id] = nil
      left = left - 1
      if answer ~= 'requeued' then
        ended[#ended + 1] = id
        if not buried[id] then inputs[#inputs + 1] = base .. 'in:' .. id end
      end
    end
  end
  if answer ~= 'committed' then allCommitted = false end
  answers[number] = answer
end

if #ended > 1 then
  redis.call('ZREM', unpack(ended))
  if #inputs > 0 then redis.call('UNLINK', unpack(inputs)) end
end
flushNotices()

local rest = string.match(claim, '^%d+ %d+') .. (told and ' told' or '')
if left > 0 then
  for id, fence in pairs(owned) do rest = rest .. ' ' .. id .. '=' .. fence end
end
redis.call('HSET', base .. 'claims', incarnation, rest)
local ticket = redis.call('HGET', base .. 'tickets', ticketId)
if ticket and string.match(ticket, '^%a+ (%S+)') == incarnation then
  redis.call('HSET', base .. 'tickets', ticketId, 'held ' .. incarnation .. ' ' .. (now + 1500))
end
return allCommitted and 'committed' or answers
