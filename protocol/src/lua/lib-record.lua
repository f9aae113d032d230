-- Fragment: the record of a job, one string (one GET and one SET move it; a hash of as many fields cost three times the machine time).
-- Words divided by spaces, first those that change, then those that are fixed at admission; the last word is the rest of the line: the traits
-- (JSON), which begin with model, version and, of a job that is traced, its trace context. A second line is there once an attempt has ended: finished, runMs, batchItems, then the error (JSON) or "-". A third holds the framed
-- outputs of a succeeded job where they are small, as raw bytes.
-- Written only by scripts; read in TypeScript by job-rows.ts, which names the same words in the same order.

local STATE, REVISION, WAITERS, KEEP, DEADLINE, FENCE, FAILURES, DEATHS = 1, 2, 3, 4, 5, 6, 7, 8
local ATTEMPT, STARTED, INCARNATION, HOST, CREATED, FLOW, ORDER = 9, 10, 11, 12, 13, 14, 15
local ITEMS, MAX_ATTEMPTS, SIZE, SHAPE, TRAITS, ENDING = 16, 17, 18, 19, 20, 21

-- So much longer than its record a tombstone lives; and so long a dead letter.
local dayMs = 86400000
-- The trace context of a job, of the text from its shape on. Other members come behind it, and no text in them can hold the quotes.
local tracePattern = ' {"m":"[^"]*","v":%d+,"tp":"([^"]+)"'

-- Written out: it is put together neither for each record nor at each call.
local recordPattern = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) ([^\n]*)(.*)$'

-- The words as a table, or nothing. Numbers are still text. ENDING is all after the first line, with its newline, or "".
local function parseRecord(text)
  return text and { string.match(text, recordPattern) } or nil
end

local function recordText(record)
  return table.concat(record, ' ', STATE, TRAITS) .. record[ENDING]
end

local function loadRecord(base, id)
  return parseRecord(redis.call('GET', base .. 'job:' .. id))
end

-- For records without an outcome: those have no TTL, and nothing else that ends them.
local function storeRecord(base, id, record)
  redis.call('SET', base .. 'job:' .. id, recordText(record))
end

-- The texts of many records and their keys, in the order of the ids; in parts, because a call takes only so many arguments.
local function recordTexts(base, ids)
  local prefix, part, names, count = base .. 'job:', 1000, {}, #ids
  for at = 1, count do names[at] = prefix .. ids[at] end
  if count > 0 and count <= part then return redis.call('MGET', unpack(names)), names end
  local texts = {}
  for from = 1, count, part do
    for at, text in ipairs(redis.call('MGET', unpack(names, from, math.min(from + part - 1, count)))) do texts[from + at - 1] = text end
  end
  return texts, names
end

-- Records of many jobs at once, by id.
local function loadRecords(base, ids)
  local records = {}
  for at, text in ipairs(recordTexts(base, ids)) do records[ids[at]] = parseRecord(text) end
  return records
end

-- How the last attempt ended; `err` is JSON or "".
local function setEnding(record, finished, runMs, batchItems, err)
  record[ENDING] = '\n' .. finished .. ' ' .. runMs .. ' ' .. batchItems .. ' ' .. (err == '' and '-' or err)
end

local function isOpen(record)
  return record[STATE] == 'queued' or record[STATE] == 'running'
end

-- "h" and a time: a held call without a key, kept for that long after its end. "k" and a time: kept and listed.
local function isHeld(record)
  return string.sub(record[KEEP], 1, 1) == 'h'
end

local function keptMs(record)
  return tonumber(string.sub(record[KEEP], 2))
end

-- Registers a coordinator that wants to hear of the end. Answers whether the record changed.
local function addWaiter(record, coordinator)
  if not isOpen(record) then return false end
  if string.find(',' .. record[WAITERS] .. ',', ',' .. coordinator .. ',', 1, true) then return false end
  record[WAITERS] = record[WAITERS] == '-' and coordinator or (record[WAITERS] .. ',' .. coordinator)
  return true
end
