-- Fragment: the record of a job, one string of words divided by spaces (one GET and one SET move it; a hash of as many fields cost three
-- times the machine time). The last word is the rest of the string: the traits (JSON), and after a newline the error (JSON) if there is one.
-- Written only by scripts; read in TypeScript by job-rows.ts, which names the same words in the same order.

local STATE, REVISION, FENCE, FAILURES, DEATHS, ATTEMPT, CLASS, ORDER = 1, 2, 3, 4, 5, 6, 7, 8
local CREATED, DEADLINE, STARTED, FINISHED, MAX_ATTEMPTS, ITEMS, TTL, HELD = 9, 10, 11, 12, 13, 14, 15, 16
local RUN_MS, BATCH_ITEMS, INCARNATION, HOST, WAITERS, SHAPE, TENANT, REST = 17, 18, 19, 20, 21, 22, 23, 24

local recordPattern = '^' .. string.rep('(%S+) ', 23) .. '(.*)$'

-- The words as a table, or nothing. Numbers are still text.
local function parseRecord(text)
  return text and { string.match(text, recordPattern) } or nil
end

local function loadRecord(base, id)
  return parseRecord(redis.call('GET', base .. 'job:' .. id))
end

-- For records without an outcome: those have no TTL.
local function storeRecord(base, id, record)
  redis.call('SET', base .. 'job:' .. id, table.concat(record, ' '))
end

-- Records of many jobs at once, by id; in parts, because a call takes only so many arguments.
local function loadRecords(base, ids)
  local records, part = {}, 1000
  for from = 1, #ids, part do
    local names = {}
    for at = from, math.min(from + part - 1, #ids) do names[#names + 1] = base .. 'job:' .. ids[at] end
    for at, text in ipairs(redis.call('MGET', unpack(names))) do records[ids[from + at - 1]] = parseRecord(text) end
  end
  return records
end

local function setError(record, err)
  record[REST] = string.match(record[REST], '^[^\n]*') .. (err ~= '' and ('\n' .. err) or '')
end

local function isOpen(record)
  return record[STATE] == 'queued' or record[STATE] == 'running'
end

-- Back among the waiting, under its old order key.
local function enqueue(base, id, record)
  redis.call('ZADD', base .. 'order:' .. record[CLASS], record[ORDER], id)
end

-- Retries whose time has come wait again.
local function promoteDue(base, now, most)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. 'later', '-inf', now, 'LIMIT', 0, most)) do
    redis.call('ZREM', base .. 'later', id)
    local record = loadRecord(base, id)
    if record and record[STATE] == 'queued' then enqueue(base, id, record) end
  end
end

-- Registers a coordinator that wants to hear of the end. Answers whether the record changed.
local function addWaiter(record, coordinator)
  if not isOpen(record) then return false end
  if string.find(',' .. record[WAITERS] .. ',', ',' .. coordinator .. ',', 1, true) then return false end
  record[WAITERS] = record[WAITERS] == '-' and coordinator or (record[WAITERS] .. ',' .. coordinator)
  return true
end
