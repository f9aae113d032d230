-- Fragment: the response cache of a queue, and its flights. An entry holds the framed outputs of a succeeded job under the key of its request. A
-- flight is the one job that runs for a key, its leader, and the equal jobs that wait for it, its followers: a list, first "<leader> <since
-- ms>", then the followers' ids. A follower is a queued job that stands in `later`, so that it runs by itself if nobody ends its wait.
-- Included, after lib-record and lib-finish, by cache-ask and cache-settle.
-- Keeps: what is in the cache was committed by a host under the fence of a job that succeeded, and is gone after its time; the entries of a
-- queue never count more than the bound that the last one was written under; every key has a TTL.

local largestEntryBytes = 1048576  -- larger outputs are neither kept nor shared
local entryOverheadBytes = 256     -- what an entry's keys take
local mostEvicted = 1000           -- in one step; where more would have to go, the newcomer is not kept
local recordOutputBytes = 1024     -- smaller outputs stand in the record, as hosts write them
local endsMarginMs = 10000         -- the list of entries stays so long after the last of them
local unadmittedMs = 400           -- between taking the lead and being admitted a leader has no record

-- The outputs of a succeeded job, or nothing where they are gone, or too large to be kept or copied.
local function shareableOutputs(base, id, record)
  local outputs = string.match(record[ENDING], '^\n[^\n]*\n(.*)$')
  if not outputs then
    local name = base .. 'out:' .. id .. ':' .. record[FENCE]
    if redis.call('STRLEN', name) > largestEntryBytes then return nil end
    outputs = redis.call('GET', name)
  end
  -- a reference to a large value elsewhere; no frame begins so
  if not outputs or string.sub(outputs, 1, 4) == '\255\255\255\255' then return nil end
  return outputs
end

local function finishedAt(record)
  return tonumber(string.match(record[ENDING], '^\n(%d+)'))
end

-- Bytes that this queue's entries count, once this step has asked; what is over counts no longer.
local heldBytes
local function bytesHeld(base, now)
  if heldBytes then return heldBytes end
  heldBytes = tonumber(redis.call('GET', base .. 'cache-bytes') or '0')
  -- a key lives through the last of its milliseconds
  local over = redis.call('ZRANGEBYSCORE', base .. 'cache-ends', '-inf', '(' .. int(now), 'LIMIT', 0, mostEvicted)
  for _, entry in ipairs(over) do heldBytes = heldBytes - string.match(entry, '%d+$') end
  if #over > 0 then redis.call('ZREM', base .. 'cache-ends', unpack(over)) end
  return heldBytes
end

-- Writes an entry that lives until `ends`; the oldest give way. Answers how many did. The step ends with keepBytesHeld().
local function putEntry(base, key, outputs, ends, now, bound)
  local cost, list = #outputs + entryOverheadBytes, base .. 'cache-ends'
  if ends <= now or cost > bound or redis.call('EXISTS', base .. 'cache:' .. key) == 1 then return 0 end
  local held, evicted = bytesHeld(base, now), 0
  while held + cost > bound and evicted < mostEvicted do
    local entry = redis.call('ZPOPMIN', list)[1]
    if not entry then
      held = 0
      break
    end
    local name, size = string.match(entry, '^(%S+) (%d+)$')
    redis.call('UNLINK', base .. 'cache:' .. name)
    held = held - size
    evicted = evicted + 1
  end
  if held + cost <= bound then
    redis.call('SET', base .. 'cache:' .. key, outputs, 'PXAT', int(ends))
    held = held + cost * redis.call('ZADD', list, int(ends), key .. ' ' .. cost)
  end
  heldBytes = held
  return evicted
end

-- The sum and the list end after the last entry; to save a step's time they are not set anew for each.
local function keepBytesHeld(base)
  if not heldBytes then return end
  local list, sum = base .. 'cache-ends', base .. 'cache-bytes'
  local last = redis.call('ZRANGE', list, -1, -1, 'WITHSCORES')[2]
  if not last then
    redis.call('UNLINK', sum)
    return
  end
  local ends = redis.call('PEXPIRETIME', list)
  if ends < last + 1000 then
    ends = last + endsMarginMs
    redis.call('PEXPIREAT', list, int(ends))
  end
  redis.call('SET', sum, int(heldBytes), 'PXAT', int(ends))
end

-- The end of a record whose answer came without a run; larger outputs are written beside it. `keep` is its word KEEP.
local function endingWith(base, id, keep, outputs, nowText)
  local ending = '\n' .. nowText .. ' 0 0 -'
  if #outputs <= recordOutputBytes then return ending .. '\n' .. outputs end
  redis.call('SET', base .. 'out:' .. id .. ':0', outputs, 'PX', int(string.sub(keep, 2) + 5000))
  return ending
end

-- Leader and since when it leads, or nothing.
local function flightOf(base, key)
  local head = redis.call('LINDEX', base .. 'flight:' .. key, 0)
  if not head then return nil end
  local leader, since = string.match(head, '^(%S+) (%d+)$')
  return leader, tonumber(since)
end
