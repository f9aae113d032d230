-- Record what became of a claim's jobs. Outputs were SET before, plainly, under the fence.
-- KEYS  1 base of the queue's keys
-- ARGV  1 incarnation  2 ticket id  3 runMs  4 items of the batch
--       then per job 5: id, fence, "succeeded" | "failed" | "retry" | "back" (unrun: same order, no attempt used), error JSON or "", retryDelayMs
-- Answers  per job "committed" (its outcome as sent), "expired" (too late), "requeued", "failed" (no attempts left), "stale" (another fence
--          or host owns it), "ended" (already terminal), "no_output" (the store refused the bytes: write them and commit again); or only
--          "barred".
-- Keeps: a terminal job never changes; only the fence that runs may end it; nothing succeeds after its deadline.
-- Flags: allow-oom
-- @include lib-time.lua lib-finish.lua

local base, incarnation, ticketId, runMs, batchItems = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('ZSCORE', base .. 'barred', incarnation) then return { 'barred' } end
local now = nowMs()
local claim = redis.call('HGET', base .. 'claims', incarnation) or '0 0'
local owned = {}
for id, fence in string.gmatch(claim, ' ([%w-]+)=(%d+)') do owned[id] = fence end

local told = string.find(claim, ' told', 1, true)
local answers, ended, inputs = {}, { base .. 'due' }, {}
for at = 5, #ARGV, 5 do
  local id, fence, outcome, err = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local key = base .. 'job:' .. id
  local answer
  if owned[id] ~= fence then
    local state = redis.call('HGET', key, 'state')
    answer = (state == 'queued' or state == 'running') and 'stale' or 'ended'
  else
    owned[id] = nil
    told = true
    local row = redis.call('HMGET', key, unpack(finishFields))
    if row[1] ~= 'running' then
      answer = 'ended'
    elseif tonumber(row[6]) < now then
      finish(base, id, row, 'expired', now, expiredError, runMs, batchItems)
      answer = 'expired'
    elseif outcome == 'succeeded' and redis.call('EXISTS', base .. 'out:' .. id .. ':' .. fence) == 0 then
      owned[id] = fence
      answer = 'no_output'
    elseif outcome == 'succeeded' then
      finish(base, id, row, 'succeeded', now, nil, runMs, batchItems)
      -- its host may have claimed it while it was still held, with a short life for the outputs
      if row[9] == '0' then redis.call('PEXPIRE', base .. 'out:' .. id .. ':' .. fence, tonumber(row[8]) + 5000) end
      answer = 'committed'
    else
      local failures = tonumber(redis.call('HGET', key, 'failures')) + (outcome == 'back' and 0 or 1)
      local dueAt = now + tonumber(ARGV[at + 4])
      local mayRetry = outcome == 'back'
        or (outcome == 'retry' and failures < tonumber(redis.call('HGET', key, 'max_attempts')) and dueAt < tonumber(row[6]))
      if mayRetry then
        redis.call('HSET', key, 'state', 'queued', 'failures', failures, 'revision', tonumber(row[2]) + 1, 'error', err)
        redis.call('HDEL', key, 'host', 'incarnation')
        if outcome == 'back' then
          redis.call('HSET', key, 'attempt', failures)
          redis.call('ZADD', base .. 'order:' .. row[11], redis.call('HGET', key, 'order'), id)
        else
          redis.call('ZADD', base .. 'later', dueAt, id)
        end
        answer = 'requeued'
      else
        redis.call('HSET', key, 'failures', failures)
        finish(base, id, row, 'failed', now, err, runMs, batchItems)
        answer = outcome == 'retry' and 'failed' or 'committed'
      end
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
