-- Record what became of a claim's jobs. Outputs were SET before, plainly, under the fence.
-- KEYS  1 base of the queue's keys
-- ARGV  1 incarnation  2 ticket id  3 runMs  4 items of the batch
--       then per job 5: id, fence, "succeeded" | "failed" | "retry" | "back" (unrun: same order, no attempt used), error JSON or "", retryDelayMs
-- Answers  per job "committed" (its outcome as sent), "expired" (too late), "requeued", "failed" (no attempts left), "stale" (another fence
--          or host owns it), "ended" (already terminal), "no_output" (the store refused the bytes: write them and commit again); or only
--          "barred".
-- Keeps: a terminal job never changes; only the fence that runs may end it; nothing succeeds after its deadline.
-- Flags: allow-oom
-- @include lib-time.lua lib-record.lua lib-finish.lua

local base, incarnation, ticketId, runMs, batchItems = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('ZSCORE', base .. 'barred', incarnation) then return { 'barred' } end
local now = nowMs()
local nowText = int(now)
local claim = redis.call('HGET', base .. 'claims', incarnation) or '0 0'
local owned = {}
for id, fence in string.gmatch(claim, ' ([%w-]+)=(%d+)') do owned[id] = fence end

local told = string.find(claim, ' told', 1, true)
local ids, outputs = {}, {}
for at = 5, #ARGV, 5 do
  ids[#ids + 1] = ARGV[at]
  if ARGV[at + 2] == 'succeeded' then outputs[#outputs + 1] = base .. 'out:' .. ARGV[at] .. ':' .. ARGV[at + 1] end
end
local records = loadRecords(base, ids)
-- one question for all; only when an answer is missing each is asked for
local complete = #outputs == 0 or redis.call('EXISTS', unpack(outputs)) == #outputs
local answers, ended, inputs = {}, { base .. 'due' }, {}

-- A failed attempt: back to wait, or the end.
local function settleFailure(id, record, outcome, err, delayMs)
  if outcome ~= 'back' then record[FAILURES] = int(record[FAILURES] + 1) end
  local dueAt = now + delayMs
  local mayRetry = outcome == 'back'
    or (outcome == 'retry' and tonumber(record[FAILURES]) < tonumber(record[MAX_ATTEMPTS]) and dueAt < tonumber(record[DEADLINE]))
  if not mayRetry then
    finish(base, id, record, 'failed', nowText, err, runMs, batchItems)
    return outcome == 'retry' and 'failed' or 'committed'
  end
  record[STATE], record[REVISION], record[INCARNATION], record[HOST] = 'queued', int(record[REVISION] + 1), '-', '-'
  setError(record, err)
  if outcome == 'back' then record[ATTEMPT] = record[FAILURES] end
  storeRecord(base, id, record)
  if outcome == 'back' then enqueue(base, id, record) else redis.call('ZADD', base .. 'later', dueAt, id) end
  return 'requeued'
end

for at = 5, #ARGV, 5 do
  local id, fence, outcome, err = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local record = records[id]
  local answer
  if owned[id] ~= fence then
    answer = record and isOpen(record) and 'stale' or 'ended'
  else
    owned[id] = nil
    told = true
    if not record or record[STATE] ~= 'running' then
      answer = 'ended'
    elseif tonumber(record[DEADLINE]) < now then
      finish(base, id, record, 'expired', nowText, expiredError, runMs, batchItems)
      answer = 'expired'
    elseif outcome ~= 'succeeded' then
      answer = settleFailure(id, record, outcome, err, ARGV[at + 4])
    elseif not complete and redis.call('EXISTS', base .. 'out:' .. id .. ':' .. fence) == 0 then
      owned[id] = fence
      answer = 'no_output'
    else
      -- its host may have claimed it while it was still held, with a short life for the outputs
      if record[HELD] == '0' then redis.call('PEXPIRE', base .. 'out:' .. id .. ':' .. fence, record[TTL] + 5000) end
      finish(base, id, record, 'succeeded', nowText, '', runMs, batchItems)
      answer = 'committed'
    end
    if answer ~= 'requeued' and answer ~= 'no_output' then
      ended[#ended + 1] = id
      inputs[#inputs + 1] = base .. 'in:' .. id
    end
  end
  answers[#answers + 1] = answer
end

if #ended > 1 then
  redis.call('ZREM', unpack(ended))
  redis.call('UNLINK', unpack(inputs))
end
flushNotices()

local left = { (string.match(claim, '^%d+ %d+')) }
if told then left[#left + 1] = 'told' end
for id, fence in pairs(owned) do left[#left + 1] = id .. '=' .. fence end
redis.call('HSET', base .. 'claims', incarnation, table.concat(left, ' '))
local ticket = redis.call('HGET', base .. 'tickets', ticketId)
if ticket and string.match(ticket, '^%a+ (%S+)') == incarnation then
  redis.call('HSET', base .. 'tickets', ticketId, 'held ' .. incarnation .. ' ' .. (now + 1500))
end
return answers
