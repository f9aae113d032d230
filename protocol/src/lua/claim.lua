-- Take a batch under a ticket: promote due retries, drop expired heads, take jobs of one shape class in order, raise their fences.
-- KEYS  1 base of the queue's keys
-- ARGV  1 queue tag  2 incarnation  3 sequence (rises by one per claim of this incarnation and queue)  4 ticket id  5 host id
--       6 largest batch in items  7 busyMs: predicted run + margin  8 lingerMs (0 retires the ticket when nothing waits)
-- Answers  {"batch", now, then per job 8: id, fence, deadline, items, attempt, created, class, ttl},
--          {"empty", now} with the ticket lingering, {"retired", now} (a retry that is due later gets a ticket from the sweeper),
--          {"not_yours"}, {"barred"}, {"stale_sequence"}, {"uncommitted"} while an earlier claim has jobs.
-- Keeps: one outstanding claim per incarnation and queue; nothing starts after its deadline; one batch holds one shape class.
-- Under repetition: the same incarnation and sequence get the same batch; after its commit, "stale_sequence".
-- Flags: allow-oom
-- @include lib-time.lua lib-record.lua lib-finish.lua

local base, tag, incarnation, sequence, ticketId = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local maxItems, busyMs, lingerMs = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local now = nowMs()
local nowText = int(now)
local classWeights = { interactive = 70, standard = 25, batch = 5 }
local lookAhead = 32 -- how many jobs of other shape classes may be skipped
local mostJobs = 500 -- in one claim, so that no call grows without bound

if redis.call('ZSCORE', base .. 'barred', incarnation) then return { 'barred' } end
local ticket = redis.call('HGET', base .. 'tickets', ticketId)
if not ticket or string.match(ticket, '^%a+ (%S+)') ~= incarnation then return { 'not_yours' } end

local reply = { 'batch', now }
local function add(id, record)
  local at = #reply
  reply[at + 1], reply[at + 2], reply[at + 3], reply[at + 4] = id, record[FENCE], record[DEADLINE], record[ITEMS]
  reply[at + 5], reply[at + 6], reply[at + 7], reply[at + 8] = record[ATTEMPT], record[CREATED], record[CLASS], record[TTL]
end

local outstanding = redis.call('HGET', base .. 'claims', incarnation)
if outstanding then
  local last = tonumber(string.match(outstanding, '^%d+'))
  if last > sequence then return { 'stale_sequence' } end
  if last == sequence then
    local told = string.find(outstanding, ' told', 1, true) -- its host has committed, so it had its reply
    local over = {}
    for id in string.gmatch(outstanding, ' ([%w-]+)=%d+') do
      local record = loadRecord(base, id)
      -- its host must not start one that is over by now
      if record then
        if tonumber(record[DEADLINE]) > now then add(id, record) else over[id] = record end
      end
    end
    if #reply > 2 then return reply end
    if told then return { 'stale_sequence' } end
    -- another claim takes the place of this one, and none may lose a job that runs
    for id, record in pairs(over) do endOutside(base, id, record, 'expired', nowText, expiredError) end
  elseif string.find(outstanding, '=', 1, true) then
    return { 'uncommitted' }
  end
end

promoteDue(base, now, 100)

-- Start-time fair queueing over the classes that wait: the smallest start tag goes first, weights share a busy device.
local backlog = {}
for class, weight in pairs(classWeights) do
  if redis.call('EXISTS', base .. 'order:' .. class) == 1 then
    backlog[#backlog + 1] = { class = class, weight = weight, start = 0 }
  end
end
if #backlog > 1 then
  local tags = redis.call('HMGET', base .. 'clock', 'virtual', 'interactive', 'standard', 'batch')
  local finished = { interactive = tonumber(tags[2]) or 0, standard = tonumber(tags[3]) or 0, batch = tonumber(tags[4]) or 0 }
  for _, entry in ipairs(backlog) do entry.start = math.max(tonumber(tags[1]) or 0, finished[entry.class]) end
  table.sort(backlog, function(a, b)
    if a.start == b.start then return a.weight > b.weight end
    return a.start < b.start
  end)
end

local shape, apart, items, expired, hostId = nil, false, 0, 0, ARGV[5]
local taken, ended, running = {}, { base .. 'due' }, {}
for _, entry in ipairs(backlog) do
  local order, served, skipped = base .. 'order:' .. entry.class, 0, {}
  while items < maxItems and #taken < mostJobs and expired < 500 and #skipped / 2 < lookAhead do
    local heads = redis.call('ZPOPMIN', order, math.min(maxItems - items, 64))
    if #heads == 0 then break end
    local ids = {}
    for at = 1, #heads, 2 do ids[#ids + 1] = heads[at] end
    local records = loadRecords(base, ids)
    for at = 1, #heads, 2 do
      local id = heads[at]
      local record = records[id]
      if record and record[STATE] == 'queued' then
        local size = tonumber(record[ITEMS])
        if tonumber(record[DEADLINE]) <= now then
          ended[#ended + 1] = id
          redis.call('UNLINK', base .. 'in:' .. id)
          finish(base, id, record, 'expired', nowText, expiredError, '0', '0')
          expired = expired + 1
        elseif items > 0 and (record[SHAPE] ~= shape or apart or items + size > maxItems) then
          skipped[#skipped + 1] = heads[at + 1]
          skipped[#skipped + 1] = id
        else
          record[STATE], record[REVISION], record[FENCE] = 'running', int(record[REVISION] + 1), int(record[FENCE] + 1)
          record[ATTEMPT], record[STARTED], record[INCARNATION], record[HOST] = int(record[FAILURES] + 1), nowText, incarnation, hostId
          running[#running + 1] = base .. 'job:' .. id
          running[#running + 1] = table.concat(record, ' ')
          shape, items, served = record[SHAPE], items + size, served + size
          apart = string.sub(shape, 1, 1) == '=' -- its inputs have no common axis 0: it runs alone
          taken[#taken + 1] = id .. '=' .. record[FENCE]
          add(id, record)
        end
      end
    end
  end
  if #skipped > 0 then redis.call('ZADD', order, unpack(skipped)) end
  if served > 0 and #backlog > 1 then
    redis.call('HSET', base .. 'clock', 'virtual', entry.start, entry.class, entry.start + served / entry.weight)
  end
end
if #ended > 1 then redis.call('ZREM', unpack(ended)) end
flushNotices()

if #taken > 0 then
  redis.call('MSET', unpack(running))
  local freeAt = now + busyMs
  redis.call('HSET', base .. 'claims', incarnation, sequence .. ' ' .. freeAt .. ' ' .. table.concat(taken, ' '))
  redis.call('HSET', base .. 'tickets', ticketId, 'busy ' .. incarnation .. ' ' .. freeAt)
  return reply
end
if lingerMs > 0 then
  redis.call('HSET', base .. 'tickets', ticketId, 'lingering ' .. incarnation .. ' ' .. (now + lingerMs))
  return { 'empty', now }
end
redis.call('HDEL', base .. 'tickets', ticketId)
return { 'retired', now }
