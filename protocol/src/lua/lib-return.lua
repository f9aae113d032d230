-- Fragment: gives the jobs of an outstanding claim back to the queue. Included by take-back, return-claim, sweep and release.
-- Needs lib-dead and lib-attempts. Keeps: a returned job has its old order key; a job that took `poisonHosts` hosts down is not given to another. Deaths are
-- distinct: an incarnation dies once, and claims nothing afterwards; only one that is late with what was handed over to it may live.

local poisonHosts = 3

-- `died`: the host died while it ran them, which counts as an attempt; else the claim's reply was lost and nothing ran.
local function returnJobs(base, claim, now, died)
  local returned, failed, ended, inputs = 0, 0, { base .. 'due' }, {}
  for id, fence in string.gmatch(claim, ' ([%w-]+)=(%d+)') do
    local record = loadRecord(base, id)
    if record and record[STATE] == 'running' and record[FENCE] == fence then
      if died then record[FAILURES], record[DEATHS] = int(record[FAILURES] + 1), int(record[DEATHS] + 1) end
      local err
      if tonumber(record[DEATHS]) >= poisonHosts then
        err = '{"code":"poison","detail":"' .. record[DEATHS] .. ' hosts died while running this job","retryable":false}'
      elseif tonumber(record[FAILURES]) >= tonumber(record[MAX_ATTEMPTS]) then
        err = '{"code":"run_failed","detail":"the host died while it had the job in hand, and no attempts are left","retryable":true}'
      end
      if tonumber(record[DEADLINE]) <= now then
        ended[#ended + 1] = id
        inputs[#inputs + 1] = base .. 'in:' .. id
        finish(base, id, record, 'expired', int(now), expiredError, '0', '0')
      elseif err then
        ended[#ended + 1] = id
        failed = failed + 1
        if not bury(base, id, record, now, err, '0', '0') then inputs[#inputs + 1] = base .. 'in:' .. id end
      else
        noteAttempt(base, id, record, now, died and 'host_lost' or 'claim_lost', '0', '0', '')
        record[STATE], record[REVISION], record[ATTEMPT] = 'queued', int(record[REVISION] + 1), record[FAILURES]
        record[INCARNATION], record[HOST] = '-', '-'
        storeRecord(base, id, record)
        enqueue(base, id, record)
        returned = returned + 1
      end
    end
  end
  if #ended > 1 then redis.call('ZREM', unpack(ended)) end
  if #inputs > 0 then redis.call('UNLINK', unpack(inputs)) end
  flushNotices()
  return returned, failed
end
