-- Take a batch under a ticket: promote due retries, drop expired heads, take jobs of one shape class in order, raise their fences.
-- KEYS  1 base of the queue's keys
-- ARGV  1 queue tag  2 incarnation  3 sequence (rises by one per claim of this incarnation and queue)  4 ticket id  5 host id
--       6 largest batch in items  7 busyMs: predicted run + margin  8 lingerMs (0 retires the ticket when nothing waits)
-- Answers  {"batch", now, then per job: id, fence, deadline, items, attempt, created, class},
--          {"empty", now} with the ticket lingering, {"retired", now}, {"later", now, ms until a retry is due} with the ticket retired,
--          {"not_yours"}, {"barred"}, {"stale_sequence"}, {"uncommitted"} while an earlier claim has jobs.
-- Keeps: one outstanding claim per incarnation and queue; nothing starts after its deadline; one batch holds one shape class.
-- Under repetition: the same incarnation and sequence get the same batch; after its commit, "stale_sequence".
-- Flags: allow-oom
-- @include lib-time.lua lib-finish.lua

local base, tag, incarnation, sequence, ticketId = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local maxItems, busyMs, lingerMs = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local now = nowMs()
local classWeights = { interactive = 70, standard = 25, batch = 5 }
local lookAhead = 32 -- how many jobs of other shape classes may be skipped

if redis.call('ZSCORE', base .. 'barred', incarnation) then return { 'barred' } end
local ticket = redis.call('HGET', base .. 'tickets', ticketId)
if not ticket or string.match(ticket, '^%a+ (%S+)') ~= incarnation then return { 'not_yours' } end

local reply = { 'batch', now }
local function add(id, facts)
  for _, value in ipairs({ id, facts.fence, facts.deadline, facts.items, facts.attempt, facts.created, facts.class, facts.ttl }) do reply[#reply + 1] = value end
end

local outstanding = redis.call('HGET', base .. 'claims', incarnation)
if outstanding then
  local last = tonumber(string.match(outstanding, '^%d+'))
  if last > sequence then return { 'stale_sequence' } end
  if last == sequence then
    local told = string.find(outstanding, ' told', 1, true) -- its host has committed, so it had its reply
    for id, fence in string.gmatch(outstanding, ' ([%w-]+)=(%d+)') do
      local row = redis.call('HMGET', base .. 'job:' .. id, 'deadline', 'items', 'attempt', 'created', 'class', 'ttl')
      if row[1] then add(id, { fence = fence, deadline = row[1], items = row[2], attempt = row[3], created = row[4], class = row[5], ttl = row[6] }) end
    end
    if #reply > 2 then return reply end
    if told then return { 'stale_sequence' } end
  elseif string.find(outstanding, '=', 1, true) then
    return { 'uncommitted' }
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. 'later', '-inf', now, 'LIMIT', 0, 100)) do
  local row = redis.call('HMGET', base .. 'job:' .. id, 'state', 'class', 'order')
  redis.call('ZREM', base .. 'later', id)
  if row[1] == 'queued' then redis.call('ZADD', base .. 'order:' .. row[2], row[3], id) end
end

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
local taken, ended = {}, { base .. 'due' }
for _, entry in ipairs(backlog) do
  local order, served, skipped = base .. 'order:' .. entry.class, 0, {}
  while items < maxItems and expired < 500 and #skipped / 2 < lookAhead do
    local heads = redis.call('ZPOPMIN', order, math.min(maxItems - items, 64))
    if #heads == 0 then break end
    for at = 1, #heads, 2 do
      local id = heads[at]
      local key = base .. 'job:' .. id
      local row = redis.call('HMGET', key, 'state', 'revision', 'fence', 'created', 'started', 'deadline', 'attempt', 'ttl', 'held', 'waiters',
        'class', 'shape', 'items', 'failures')
      if row[1] == 'queued' then
        local size = tonumber(row[13])
        if tonumber(row[6]) <= now then
          ended[#ended + 1] = id
          redis.call('UNLINK', base .. 'in:' .. id)
          finish(base, id, row, 'expired', now, expiredError, 0, 0)
          expired = expired + 1
        elseif items > 0 and (row[12] ~= shape or apart or items + size > maxItems) then
          skipped[#skipped + 1] = heads[at + 1]
          skipped[#skipped + 1] = id
        else
          local fence, attempt = tonumber(row[3]) + 1, tonumber(row[14]) + 1
          redis.call('HSET', key, 'state', 'running', 'revision', tonumber(row[2]) + 1, 'fence', fence, 'attempt', attempt, 'started', now,
            'host', hostId, 'incarnation', incarnation)
          shape, items, served = row[12], items + size, served + size
          apart = string.sub(shape, 1, 1) == '=' -- its inputs have no common axis 0: it runs alone
          taken[#taken + 1] = id .. '=' .. fence
          add(id, { fence = fence, deadline = row[6], items = size, attempt = attempt, created = row[4], class = entry.class, ttl = row[8] })
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
local nextRetry = redis.call('ZRANGE', base .. 'later', 0, 0, 'WITHSCORES')
if nextRetry[2] then return { 'later', now, math.max(1, nextRetry[2] - now) } end
return { 'retired', now }
