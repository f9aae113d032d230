-- Ask the response cache for jobs of one queue: an answer that is known ends the job at once, a job that is equal to one under way waits for
-- it, any other leads a flight of its own.
-- KEYS  1 base of the queue's keys
-- ARGV  1 coordinator
--       then per job 15: key, entry's life in ms, bound of the cache in bytes, id, flow, tenant's weight, timeoutMs, latestStartMs, keep, listed
--       0|1, coordinator that waits or "-", fixed words (from items to traits), ms after which a follower runs by itself, "look" (nothing of
--       the job is stored) or "join" (its inputs were SET before), outputs wished 0|1
-- Answers  now, evicted entries, then per job "hit" (its record is written; outputs after a newline where wished), "follow" (it would: store the
--          inputs and join), "joined <leader>" (its record is written), "lead" (admit it now, then settle), "alone" (admit it; nothing waits for
--          it), or "existing" (a record of that id was there before).
-- Keeps: a follower is an open job in `due` and `later`; a leader that waits is followed only by jobs of its tenant that are not more urgent;
--        the same id asked again leads again.
-- @include lib-time.lua lib-record.lua lib-tally.lua lib-notices.lua lib-finish.lua lib-cache.lua
local base, coordinator = KEYS[1], ARGV[1]
local now = nowMs()
local nowText = int(now)
local perJob = 15
local mostFollowers = 1000
local flightMarginMs = 60000
local urgency = { interactive = 3, standard = 2, batch = 1 }
local evicted = 0
local listings = { index = { base .. 'index' }, recent = { base .. 'recent' } }

local function list(id, listed)
  local listing = listed == '1' and listings.index or listings.recent
  listing[#listing + 1] = nowText
  listing[#listing + 1] = id
end

-- Whether a job may count on this leader: one that runs will be done soonest; one that waits must not be held up by less than the job would be.
-- Equal requests are equal work: where one was admitted before it was known what that takes, their deadlines tell who is more urgent, but for
-- a fiftieth of the time, 100 ms at most, which requests of one moment lose differently on their way.
local function mayFollow(leader, since, flow, order, deadline, timeoutMs)
  if not leader then return now - since < unadmittedMs end
  if leader[STATE] ~= 'queued' then return leader[STATE] == 'running' end
  local class, tenant = string.match(flow, '^(%a+):(.*)$')
  local leaderClass, leaderTenant = string.match(leader[FLOW], '^(%a+):(.*)$')
  if tenant ~= leaderTenant then return false end
  if class ~= leaderClass then return urgency[leaderClass] > urgency[class] end
  return tonumber(leader[ORDER]) <= order or tonumber(leader[DEADLINE]) <= tonumber(deadline) + math.min(100, timeoutMs / 50)
end

-- A waiting leader that is overtaken stays in the queue, and is answered with the followers if it still waits then.
local function lead(name, id, earlier, overtaken)
  local head = id .. ' ' .. nowText
  if earlier then redis.call('LSET', name, 0, head) else redis.call('RPUSH', name, head) end
  if overtaken then redis.call('RPUSH', name, earlier) end
end

-- A flight outlives all who take part in it.
local function keepFlight(name, timeoutMs, isNew)
  local ms = timeoutMs + flightMarginMs
  if isNew or redis.call('PTTL', name) < ms then redis.call('PEXPIRE', name, int(ms)) end
end

local function ask(at)
  local key, ttlMs, bound, id, flow = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), ARGV[at + 3], ARGV[at + 4]
  local weight, timeoutMs, order = ARGV[at + 5], tonumber(ARGV[at + 6]), now + ARGV[at + 7]
  local keep, listed, waiter, fixed = ARGV[at + 8], ARGV[at + 9], ARGV[at + 10], ARGV[at + 11]
  local deadline = int(now + timeoutMs)
  if redis.call('EXISTS', base .. 'job:' .. id) == 1 then return 'existing' end

  local outputs = redis.call('GET', base .. 'cache:' .. key)
  if not outputs then
    local name = base .. 'flight:' .. key
    local leader, since = flightOf(base, key)
    if leader == id then return 'lead' end
    local record = leader and loadRecord(base, leader)
    if record and record[STATE] == 'succeeded' then
      -- nobody has settled it yet
      local ends = finishedAt(record) + ttlMs
      outputs = ends > now and shareableOutputs(base, leader, record)
      if outputs then
        evicted = evicted + putEntry(base, key, outputs, ends, now, bound)
      elseif ends > now then
        return 'alone'
      end
    elseif leader and mayFollow(record, since, flow, order, deadline, timeoutMs) then
      if redis.call('LLEN', name) > mostFollowers then return 'alone' end
      if ARGV[at + 13] == 'look' then return 'follow' end
      redis.call('SET', base .. 'job:' .. id, 'queued 1 ' .. waiter .. ' ' .. keep .. ' ' .. deadline .. ' 0 0 0 0 0 - - ' .. nowText .. ' '
        .. flow .. ' ' .. int(order) .. ' ' .. fixed)
      redis.call('ZADD', base .. 'due', deadline, id)
      redis.call('ZADD', base .. 'later', int(now + ARGV[at + 12]), id)
      if weight ~= '1' then redis.call('HSET', base .. 'weights', string.match(flow, ':(.*)$'), weight) end
      list(id, listed)
      redis.call('RPUSH', name, id)
      keepFlight(name, timeoutMs, false)
      if record and addWaiter(record, coordinator) then storeRecord(base, leader, record) end
      return 'joined ' .. leader
    end
    if not outputs then
      lead(name, id, leader, record and record[STATE] == 'queued')
      keepFlight(name, timeoutMs, not leader)
      return 'lead'
    end
  end

  if ARGV[at + 13] == 'join' then redis.call('UNLINK', base .. 'in:' .. id) end
  local text = 'succeeded 1 - ' .. keep .. ' ' .. deadline .. ' 0 0 0 0 0 - - ' .. nowText .. ' ' .. flow .. ' ' .. int(order) .. ' ' .. fixed
    .. endingWith(base, id, keep, outputs, nowText)
  retain(base, id, text, keep, 'succeeded', nowText)
  list(id, listed)
  return ARGV[at + 14] == '1' and 'hit\n' .. outputs or 'hit'
end

local reply = { now, 0 }
for at = 2, #ARGV, perJob do reply[#reply + 1] = ask(at) end
reply[2] = evicted
keepBytesHeld(base)
for _, listing in pairs(listings) do
  if #listing > 1 then redis.call('ZADD', unpack(listing)) end
end
if #listings.recent > 1 then redis.call('PEXPIRE', listings.recent[1], 180000) end
return reply
