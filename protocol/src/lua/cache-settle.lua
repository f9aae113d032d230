-- Settle flights whose leaders have ended: a success goes into the cache and ends its followers, a failure lets them run by themselves, a
-- leader that was cancelled, expired or never admitted is followed by one of them.
-- KEYS  1 base of the queue's keys
-- ARGV  1 queue tag  2 matching hosts  3 items of a usual batch  4 coordinator
--       then per flight 4: key, entry's life in ms, bound of the cache in bytes, id of a leader that was not admitted or "-"
-- Answers  now, evicted entries, ticket ids to offer divided by spaces, then per flight "settled", "open <leader>" (this coordinator hears of its
--          end), or "more" (settle it again).
-- Keeps: only what a host has committed is kept and shared; a follower that runs, or ran, is left alone; nobody's end is another's end.
-- @include lib-time.lua lib-record.lua lib-waiting.lua lib-tally.lua lib-notices.lua lib-finish.lua lib-flows.lua lib-tickets.lua lib-cache.lua
local base, tag, coordinator = KEYS[1], ARGV[1], ARGV[4]
local now = nowMs()
local nowText = int(now)
local mostAnswered = 200
local mostAnsweredBytes = 16777216
local evicted, released = 0, 0

-- A follower runs by itself, from now on in its place among the waiting.
local function release(id, record)
  if redis.call('ZREM', base .. 'later', id) == 0 then return end -- it does so already
  enqueue(base, id, record)
  released = released + 1
end

local function answer(id, record, outputs)
  redis.call('ZREM', base .. 'order:' .. record[FLOW], id)
  redis.call('ZREM', base .. 'later', id)
  redis.call('ZREM', base .. 'due', id)
  redis.call('UNLINK', base .. 'in:' .. id)
  record[STATE], record[REVISION] = 'succeeded', int(record[REVISION] + 1)
  record[ENDING] = endingWith(base, id, record[KEEP], outputs, nowText)
  local text = recordText(record)
  retain(base, id, text, record[KEEP], 'succeeded', nowText)
  note(id, record[WAITERS], text)
end

-- Whether it has never been claimed: what a host once ran may still be written under its fence.
local function isFollower(record)
  return record and record[STATE] == 'queued' and record[FENCE] == '0'
end

local function releaseAll(name)
  local followers = redis.call('LRANGE', name, 1, -1)
  local records = loadRecords(base, followers)
  for _, id in ipairs(followers) do
    if isFollower(records[id]) then release(id, records[id]) end
  end
  redis.call('UNLINK', name)
  return 'settled'
end

local function answerFollowers(name, outputs)
  local most = math.max(1, math.min(mostAnswered, math.floor(mostAnsweredBytes / #outputs)))
  local followers = redis.call('LPOP', name, most + 1)
  local head = table.remove(followers, 1)
  if #followers > 0 then
    local records = loadRecords(base, followers)
    for _, id in ipairs(followers) do
      if isFollower(records[id]) then answer(id, records[id], outputs) end
    end
  end
  if #followers < most or redis.call('EXISTS', name) == 0 then return 'settled' end
  redis.call('LPUSH', name, head)
  return 'more'
end

-- The first follower that is still open leads the others.
local function leadOn(name)
  redis.call('LPOP', name)
  while true do
    local id = redis.call('LINDEX', name, 0)
    if not id then return 'settled' end
    local record = loadRecord(base, id)
    if record and isOpen(record) then
      if record[STATE] == 'queued' then release(id, record) end
      if addWaiter(record, coordinator) then storeRecord(base, id, record) end
      redis.call('LSET', name, 0, id .. ' ' .. nowText)
      return 'open ' .. id
    end
    redis.call('LPOP', name)
  end
end

local function settle(key, ttlMs, bound, abandoned)
  local name = base .. 'flight:' .. key
  local leader, since = flightOf(base, key)
  if not leader then return 'settled' end
  local record = loadRecord(base, leader)
  if not record then
    if leader ~= abandoned and now - since < unadmittedMs then return 'open ' .. leader end
    return leadOn(name)
  end
  if isOpen(record) then
    if addWaiter(record, coordinator) then storeRecord(base, leader, record) end
    return 'open ' .. leader
  end
  if record[STATE] == 'failed' then return releaseAll(name) end
  if record[STATE] ~= 'succeeded' then return leadOn(name) end
  local outputs = shareableOutputs(base, leader, record)
  if not outputs then return releaseAll(name) end
  evicted = evicted + putEntry(base, key, outputs, finishedAt(record) + ttlMs, now, bound)
  return answerFollowers(name, outputs)
end

local answers = {}
for at = 5, #ARGV, 4 do answers[#answers + 1] = settle(ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), ARGV[at + 3]) end
keepBytesHeld(base)
flushNotices()
local tickets = {}
if released > 0 then
  local flows, waiting = waitingFlows(base)
  local items, urgent = itemsOf(waiting, meanItems(base)), firstStart(base, flows)
  tickets = issueTickets(base, tag, now, waiting, items, tonumber(ARGV[2]), tonumber(ARGV[3]), false, urgent)
end
return { now, evicted, table.concat(tickets, ' '), unpack(answers) }
