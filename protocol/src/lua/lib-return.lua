-- Fragment: gives the jobs of an outstanding claim back to the queue. Included by take-back and return-claim.
-- Needs lib-finish. Keeps: a returned job has its old order key; a job that took `poisonHosts` hosts down is not given to another.

local poisonHosts = 3

-- `died`: the host died while it ran them, which counts as an attempt; else the claim's reply was lost and nothing ran.
local function returnJobs(base, claim, now, died)
  local returned, failed, ended = 0, 0, { base .. 'due' }
  for id, fence in string.gmatch(claim, ' ([%w-]+)=(%d+)') do
    local key = base .. 'job:' .. id
    local row = redis.call('HMGET', key, unpack(finishFields))
    if row[1] == 'running' and row[3] == fence then
      local more = redis.call('HMGET', key, 'failures', 'deaths', 'max_attempts', 'order')
      local failures, deaths = tonumber(more[1]) + (died and 1 or 0), (tonumber(more[2]) or 0) + (died and 1 or 0)
      local err
      if deaths >= poisonHosts then
        err = '{"code":"poison","detail":"' .. deaths .. ' hosts died while running this job","retryable":false}'
      elseif failures >= tonumber(more[3]) then
        err = '{"code":"run_failed","detail":"the host died during the run and no attempts are left","retryable":true}'
      end
      redis.call('HSET', key, 'failures', failures, 'deaths', deaths)
      if tonumber(row[6]) <= now then
        ended[#ended + 1] = id
        finish(base, id, row, 'expired', now, expiredError, 0, 0)
      elseif err then
        ended[#ended + 1] = id
        failed = failed + 1
        finish(base, id, row, 'failed', now, err, 0, 0)
      else
        redis.call('HSET', key, 'state', 'queued', 'revision', tonumber(row[2]) + 1, 'attempt', failures)
        redis.call('HDEL', key, 'host', 'incarnation')
        redis.call('ZADD', base .. 'order:' .. row[11], more[4], id)
        returned = returned + 1
      end
    end
  end
  if #ended > 1 then redis.call('ZREM', unpack(ended)) end
  flushNotices()
  return returned, failed
end
