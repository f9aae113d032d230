-- Fragment: attempts that let their job wait again. Of the last attempt all stands in the record; the next claim writes over it, so what
-- the one before came to is written down when it ends. Most jobs end with their first attempt, and pay nothing.
-- `attempts:<id>` is a list, oldest first: "<fence> <attempt> <started ms> <ended ms> <host> <run ms> <batch items> <end> <error, JSON, or ->".
-- Included, after lib-record, by scripts that give jobs back to their queue.
-- Keeps: one entry for a fence; only the last ones of a job stay, and as long as its record may.

local mostAttempts, mostErrorBytes = 32, 1024

-- So that a bounded number of entries is a bounded number of bytes.
local function shortError(err)
  if err == '' then return '-' end
  if #err <= mostErrorBytes then return err end
  local isRead, whole = pcall(cjson.decode, err)
  if not isRead or type(whole) ~= 'table' then return '-' end
  local short = { code = string.sub(tostring(whole.code), 1, 64), retryable = whole.retryable == true }
  short.detail = string.sub(tostring(whole.detail), 1, mostErrorBytes / 2) .. '…'
  return cjson.encode(short)
end

-- To be called while the record still says where the attempt ran. `ended`: "failed", "handed_back", "host_lost" or "claim_lost".
local function noteAttempt(base, id, record, now, ended, runMs, batchItems, err)
  local list = base .. 'attempts:' .. id
  local entry = table.concat({ record[FENCE], record[ATTEMPT], record[STARTED], int(now), record[HOST], runMs, batchItems, ended, shortError(err) }, ' ')
  local count = redis.call('RPUSH', list, entry)
  if count == 1 then redis.call('PEXPIREAT', list, int(record[DEADLINE] + keptMs(record) + 60000)) end
  if count > mostAttempts then redis.call('LTRIM', list, -mostAttempts, -1) end
end
