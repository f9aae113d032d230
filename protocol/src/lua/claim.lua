-- Take a batch under a ticket: promote due retries, drop what can no longer finish, take jobs of one shape class in order, raise their fences.
-- KEYS  1 base of the queue's keys
-- ARGV  1 queue tag  2 incarnation  3 sequence (rises by one per claim of this incarnation and queue)  4 ticket id  5 host id
--       6 largest batch in items  7 busyMs: predicted run + margin  8 lingerMs (0 retires the ticket when nothing waits)
--       9 overheadMs: from the claim to the commit, without the run  10 delayMs: how long jobs may wait for a fuller batch
--       11 parts: with 2 a claim takes half of what waits, but 32 jobs at least; with 1 all that fits
--       12 "ahead": its host still runs the one before, which busyMs and overheadMs then hold, too. "after": a commit stands before it in the same
--       write, and may have let the ticket linger: as long as it does nothing has come since. Else "alone"
--       then the run times known, per size class one text: size class, then items and ms by turns, ascending;
--       last "traced", where the trace contexts of jobs are to be told, and "listed", where the ids of claimed jobs are to be listed, too, for a
--       plain command in the same write that answers their inputs: they are where all inputs together are not large
-- Answers  {"batch", now, jobs, inputs …}: jobs in order, a line for those together that are alike but for their ids: the ids, divided by commas, then fence,
--          attempt, keep, deadline, created, class, items, size class, trace context if there is one and it is wished; then the inputs of each job,
--          if there are few and all of them small;
--          {"empty", now} with the ticket lingering, {"defer", until, now} with the ticket deferring (until is now where so much was dropped
--          that another look is due), {"retired", now} (a retry that is due later gets a ticket from the sweeper), {"not_yours"}, {"barred"},
--          {"stale_sequence"}, {"uncommitted", its sequence} while an earlier claim has jobs, of a claim ahead while the one before the last has some. A claim
--          ahead leaves its ticket as it is where it answers no batch, and answers "empty" then. It ends no job but for its deadline.
-- Keeps: one outstanding claim per incarnation and queue, and one ahead of it; nothing starts after its deadline, nor when its run could not end before; one
--        batch holds one shape class and ends before the first of its deadlines, as far as run times are known; flows share by weight; a job
--        whose host died while it ran is claimed alone, and neither ahead nor with others ahead of its end, so that no other shares the blame when the next
--        host dies too.
-- Under repetition: the same incarnation and sequence get the same batch; after its commit, "stale_sequence".
-- Flags: allow-oom
-- @include lib-time.lua

local base, tag, incarnation, sequence, ticketId = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local hostId, maxItems, busyMs, lingerMs = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local overheadMs, delayMs, parts, isAhead = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12] == 'ahead'
local now = nowMs()
local nowText = int(now)

-- No byte of another batch goes out, whatever is answered.
local isListed, list = ARGV[#ARGV] == 'listed', base .. 'batch:' .. incarnation
if isListed then redis.call('DEL', list) end

if redis.call('ZSCORE', base .. 'barred', incarnation) then return { 'barred' } end
local ticket = redis.call('HGET', base .. 'tickets', ticketId)
local state, holder, till = string.match(ticket or '', '^(%a+) (%S+) (%d+)')
if holder ~= incarnation then return { 'not_yours' } end
if ARGV[12] == 'after' and state == 'lingering' and tonumber(till) > now then return { 'empty', now } end

-- @include lib-record.lua lib-claims.lua lib-flows.lua

local lookAhead = 32 -- how many jobs of a flow may be skipped because they do not fit the batch
local mostJobs = 128 -- in one claim: right after a fork each page that a script writes is copied, some 40 a job of a commit, 3 µs each
local mostDropped = 500
local mostRounds = 4 -- of turns, while what waits first does not fit
local deferMarginMs = 5
local leastOfParts = 32
local mostSampled = 64
local mostWithInputs, mostInputBytes = 2, 16384
-- A batch is not known to be in hand before all of its answer has come, and a large one would keep what is behind it on the connection waiting.
local mostListedBytes, listedMs = 262144, 60000
local waitShare = 0.1 -- of its time, how much an interactive job waits for a fuller batch at most, and any of which no run time is known

-- What ends jobs. A function costs its making at every call of the script, so these are made when they are first needed.
local ends
local function ending()
  if ends then return ends end
  -- @include lib-tally.lua lib-notices.lua lib-finish.lua
  ends = { finish = finish, endOutside = endOutside, flushNotices = flushNotices, expiredError = expiredError, lateError = lateError }
  return ends
end

local lines = {} -- the answer's, in pieces
local tellsTraces = ARGV[#ARGV - (isListed and 1 or 0)] == 'traced'
-- What stands behind the ids in a line. `rest`: of the record, from before its traits on.
local function facts(fence, attempt, keep, deadline, created, class, items, size, rest)
  local trace = tellsTraces and string.match(rest, tracePattern)
  return ' ' .. fence .. ' ' .. attempt .. ' ' .. keep .. ' ' .. deadline .. ' ' .. created .. ' ' .. class .. ' ' .. items .. ' ' .. size
    .. (trace and ' ' .. trace or '')
end

local function tell(id, told)
  local at = #lines
  if lines[at] == told then
    lines[at], lines[at + 1], lines[at + 2] = ',', id, told
  else
    lines[at + 1], lines[at + 2], lines[at + 3] = at > 0 and '\n' or '', id, told
  end
end

-- The answer with a few small inputs: that saves a round trip where nothing else fills the time.
local function withInputs(ids)
  local reply = { 'batch', now, table.concat(lines) }
  for at = 1, #ids <= mostWithInputs and #ids or 0 do
    local input = redis.call('GETRANGE', base .. 'in:' .. ids[at], 0, mostInputBytes)
    if #input > mostInputBytes then return { 'batch', now, reply[3] } end
    reply[at + 3] = input ~= '' and input -- no input is empty: this one is gone
  end
  return reply
end

local outstanding = redis.call('HGET', base .. 'claims', incarnation)
local earlier, earlierJobs -- the claim before this one, and its jobs that are not committed
if outstanding then
  local own
  own, earlier, earlierJobs = splitClaim(outstanding)
  local last = tonumber(string.match(own, '^%d+'))
  if last > sequence then return { 'stale_sequence' } end
  if last == sequence then
    local told = string.find(own, ' told', 1, true) -- its host has committed, so it had its reply
    local over, again = {}, {}
    for id in string.gmatch(own, ' ([%w-]+)=%d+') do
      local record = loadRecord(base, id)
      -- its host must not start one that is over by now
      if record and tonumber(record[DEADLINE]) > now then
        tell(id, facts(record[FENCE], record[ATTEMPT], record[KEEP], record[DEADLINE], record[CREATED], string.match(record[FLOW], '^%a+'),
          record[ITEMS], record[SIZE], ' ' .. record[TRAITS]))
        again[#again + 1] = id
      elseif record then
        over[id] = record
      end
    end
    if #lines > 0 then
      -- it was claimed for this host, which has not heard, or hears of it here and now
      if state == 'handed' or state == 'held' then redis.call('HSET', base .. 'tickets', ticketId, 'busy ' .. incarnation .. ' ' .. int(now + busyMs)) end
      return withInputs(again)
    end
    if told then return { 'stale_sequence' } end
    -- another claim takes the place of this one, and none may lose a job that runs
    for id, record in pairs(over) do ending().endOutside(base, id, record, 'expired', nowText, ending().expiredError) end
    if ends then ends.flushNotices() end
  elseif string.find(own, '=', 1, true) then
    if earlier then return { 'uncommitted', earlier } end
    earlier, earlierJobs = last, string.match(own, ' [%w-]+=.*$')
    -- a job that may be what its host died of takes nothing down with it that waits behind it
    local alone = isAhead and string.match(earlierJobs, '^ ([%w-]+)=%d+$')
    local record = alone and loadRecord(base, alone)
    if record and record[DEATHS] ~= '0' then return { 'empty', now } end
  end
  if earlier and not isAhead then return { 'uncommitted', earlier } end
end

local retries = redis.call('ZRANGEBYSCORE', base .. 'later', '-inf', now, 'LIMIT', 0, 100)
if retries[1] then
  -- @include lib-waiting.lua
  promote(base, retries)
end

-- The predicted run of so many items, nothing where none is known of that size class. Tables are read when they are first asked for.
local ladders = {}
local knownSize, knownFrom, knownTo, knownMs -- the rung that was asked for last: the next job is mostly on it, too
local function runMs(size, items)
  if size == knownSize and items > knownFrom and items <= knownTo then return knownMs end
  local ladder = ladders[size]
  if not ladder then
    ladder = {}
    for at = 13, #ARGV do
      local rest = string.match(ARGV[at], '^' .. size .. ' (.*)$')
      if rest then
        for step, ms in string.gmatch(rest, '(%S+) (%S+)') do ladder[#ladder + 1] = { tonumber(step), tonumber(ms) } end
      end
    end
    ladders[size] = ladder
  end
  local from = 0
  for _, step in ipairs(ladder) do
    if items <= step[1] then
      knownSize, knownFrom, knownTo, knownMs = size, from, step[1], step[2]
      return knownMs
    end
    from = step[1]
  end
  local last = ladder[#ladder]
  return last and last[2] * items / last[1]
end

-- When a run of so many items that began now would be committed; now itself where run times are unknown: then only deadlines bind.
local function endMs(size, items)
  local ms = runMs(size, items)
  return ms and now + ms + overheadMs or now
end

local flows, waiting = waitingFlows(base)
local mostItems, waitingFirst = maxItems, waiting
local seen, alike, isSampled = 0, {}, false -- jobs that this claim has looked at, and how many of each shape

-- Inputs without a common axis 0 run alone, and so does a job that may be what its host died of.
local function runsAlone(shape, deaths)
  return deaths ~= '0' or string.byte(shape) == 61
end

local function see(shape)
  seen = seen + 1
  alike[shape] = (alike[shape] or 0) + 1
end

-- The smallest batch that is worth running while so many wait that could share it. Batches that shrink to save a head that is nearly late
-- cost many others.
local function leastItems(sharing)
  local least = 1
  while 2 * least <= mostItems and 4 * least <= sharing do least = 2 * least end
  return least
end
local leastOfOneShape = leastItems(waitingFirst)

-- How many wait that could share a batch with a job of this shape, by what was seen, by the rest of its pop and by the first of all flows.
local function waitingAlike(shape, texts, at)
  if not isSampled then
    isSampled = true
    local shapePattern = '^' .. string.rep('%S+ ', SHAPE - 1) .. '(%S+)'
    for rest = at + 1, #texts do
      if texts[rest] then see(string.match(texts[rest], shapePattern)) end
    end
    local ids, each = {}, math.ceil(mostSampled / #flows)
    for _, flow in ipairs(flows) do
      if #ids >= mostSampled then break end
      for _, id in ipairs(redis.call('ZRANGE', base .. 'order:' .. flow.name, 0, each - 1)) do ids[#ids + 1] = id end
    end
    for _, text in ipairs(recordTexts(base, ids)) do
      if text then see(string.match(text, shapePattern)) end
    end
  end
  if seen < 2 then return waitingFirst end
  return 1 + (waitingFirst - 1) * ((alike[shape] or 1) - 1) / (seen - 1)
end

-- Whether a job would be late in the smallest batch that is worth running; the others are looked at only where it depends on them.
local function cannotFinish(deadline, size, own, shape, isAlone, texts, at)
  if deadline <= now then return true end
  if deadline >= endMs(size, math.max(own, leastOfOneShape)) then return false end
  if isAlone then return deadline < endMs(size, own) end
  return deadline < endMs(size, math.max(own, leastItems(waitingAlike(shape, texts, at))))
end

-- A fuller batch is worth waiting for while the first deadline allows it.
local waitingItems = delayMs > 0 and waiting > 0 and waiting < maxItems and itemsOf(waiting, meanItems(base))
if waitingItems and waitingItems < maxItems then
  local till
  for _, flow in ipairs(flows) do
    local head = redis.call('ZRANGE', base .. 'order:' .. flow.name, 0, 0)[1]
    local record = head and loadRecord(base, head)
    if record then
      local fuller = 1
      while fuller <= waitingItems do fuller = fuller * 2 end
      local created, deadline = tonumber(record[CREATED]), tonumber(record[DEADLINE])
      local fullerMs = runMs(record[SIZE], math.min(fuller, maxItems)) or 0
      local latest = math.min(created + delayMs, deadline - fullerMs - overheadMs - deferMarginMs)
      if fullerMs == 0 or string.sub(flow.name, 1, 12) == 'interactive:' then
        latest = math.min(latest, created + waitShare * (deadline - created))
      end
      if runsAlone(record[SHAPE], record[DEATHS]) then latest = now end
      till = till and math.min(till, latest) or latest
    end
  end
  till = till and math.floor(till)
  if till and till > now then
    if isAhead then return { 'empty', now } end
    redis.call('HSET', base .. 'tickets', ticketId, 'deferring ' .. incarnation .. ' ' .. int(till))
    return { 'defer', till, now }
  end
end

if parts > 1 then maxItems = math.min(maxItems, math.max(leastOfParts, math.ceil(waiting / parts))) end
local shape, apart, items, dropped, isFull, firstDeadline, firstItems = nil, false, 0, 0, false, nil, nil
local taken, ended, inputs, running = {}, { base .. 'due' }, {}, {}
local held = {} -- of the claim's entry, in pieces
local claimPattern = '^(%a+) (%d+) (%S+) (%S+) (%d+) (%d+) (%d+) (%d+) %d+ %d+ %S+ %S+ (.*)$'
local fixedPattern = '^(%d+) (%a+):%S+ %S+ (%d+) %d+ (%d+) (%S+) '

-- What a claim needs of a record, or nothing where it does not wait. Jobs that came together have the same text: it is read once.
local readText, read
local function readWaiting(text)
  if text == readText then return read end
  readText, read = text, nil
  if not text then return nil end
  local state, revision, waiters, keep, deadline, fence, failures, deaths, fixed = string.match(text, claimPattern)
  if state ~= 'queued' then return nil end
  local created, class, items, size, jobShape = string.match(fixed, fixedPattern)
  fence = int(fence + 1)
  local attempt = int(failures + 1)
  read = {
    deadline = tonumber(deadline),
    items = tonumber(items),
    size = size,
    shape = jobShape,
    isAlone = runsAlone(jobShape, deaths),
    isSuspect = deaths ~= '0',
    held = '=' .. fence,
    told = facts(fence, attempt, keep, deadline, created, class, items, size, fixed),
    running = 'running ' .. int(revision + 1) .. ' ' .. waiters .. ' ' .. keep .. ' ' .. deadline .. ' ' .. fence .. ' ' .. failures .. ' '
      .. deaths .. ' ' .. attempt .. ' ' .. nowText .. ' ' .. incarnation .. ' ' .. hostId .. ' ' .. fixed,
  }
  return read
end

-- Takes jobs of one flow until it has got `slots` items, or more by a part of the last job; answers how many, those of the last job, and
-- those of the largest.
local function serve(flow, slots)
  local order, served, last, largest, skipped, misfits = base .. 'order:' .. flow.name, 0, 1, 0, {}, 0
  local function skip(score, id)
    skipped[#skipped + 1] = score
    skipped[#skipped + 1] = id
  end
  while served < slots and items < maxItems and not isFull and #taken < mostJobs and dropped < mostDropped and #skipped / 2 < lookAhead do
    local asked = math.min(math.ceil((slots - served) / last), 64, mostJobs - #taken)
    local heads = redis.call('ZPOPMIN', order, asked)
    if #heads == 0 then break end
    flow.left = flow.left - #heads / 2
    local ids = {}
    for at = 1, #heads, 2 do ids[#ids + 1] = heads[at] end
    local texts, names = recordTexts(base, ids)
    for at, id in ipairs(ids) do
      local text = texts[at]
      local job = readWaiting(text)
      if job then
        local deadline, own, jobShape, isAlone = job.deadline, job.items, job.shape, job.isAlone
        if not isSampled then see(jobShape) end
        if job.isLate == nil then job.isLate = cannotFinish(deadline, job.size, own, jobShape, isAlone, texts, at) end
        if job.isLate and isAhead and deadline > now then
          misfits = misfits + 1
          skip(heads[2 * at], id) -- after the run at hand it would be late, and another host may be free sooner
        elseif job.isLate then
          ended[#ended + 1] = id
          inputs[#inputs + 1] = base .. 'in:' .. id
          local err = deadline <= now and ending().expiredError or ending().lateError
          ending().finish(base, id, parseRecord(text), 'expired', nowText, err, '0', '0')
          dropped = dropped + 1
        elseif isAhead and job.isSuspect then
          isFull = true -- its host must die of nothing else: it is claimed when the device is free
          skip(heads[2 * at], id)
        elseif isFull or served >= slots then
          skip(heads[2 * at], id)
        elseif items > 0 and (jobShape ~= shape or apart or isAlone or items + own > maxItems) then
          misfits = misfits + 1
          skip(heads[2 * at], id)
        else
          local first = firstDeadline and math.min(firstDeadline, deadline) or deadline
          if items > 0 and first < endMs(job.size, items + own) then
            isFull = true -- with one more the batch would end after the first of its deadlines
            skip(heads[2 * at], id)
          else
            firstItems = firstItems or own
            firstDeadline, shape, items, served, last = first, jobShape, items + own, served + own, own
            apart, largest = isAlone, math.max(largest, own)
            local most = #running
            running[most + 1], running[most + 2] = names[at], job.running
            taken[#taken + 1] = id
            most = #held
            held[most + 1], held[most + 2], held[most + 3] = ' ', id, job.held
            tell(id, job.told)
          end
        end
      end
    end
    if #heads < 2 * asked then break end
  end
  if #skipped > 0 then redis.call('ZADD', order, unpack(skipped)) end
  flow.left = flow.left + #skipped / 2
  flow.fresh = misfits < lookAhead and flow.left - misfits or 0
  return served, last, largest
end

local rounds = 0
if #flows == 1 then
  serve(flows[1], maxItems)
elseif #flows > 1 then
  -- @include lib-shares.lua

  local mean = math.max(1, meanItems(base))
  local virtual, changed = readTags(base, flows, mostItems)
  local fit = flows -- of which something may fit into this batch
  while rounds < mostRounds and #fit > 0 and items < maxItems and not isFull and not apart and dropped < mostDropped and #taken < mostJobs do
    rounds = rounds + 1
    local before, droppedBefore, others = items, dropped, {}
    local slots = math.min(maxItems - items, math.ceil(math.min(mostJobs - #taken, waiting) * mean))
    for _, flow in ipairs(allot(fit, slots, mean)) do
      local served, last, largest = serve(flow, flow.slots)
      if served > 0 then flow.served, flow.last, flow.largest = flow.served + served, last, math.max(flow.largest, largest) end
    end
    waiting = 0
    for _, flow in ipairs(flows) do waiting = waiting + flow.left end
    for _, flow in ipairs(fit) do
      if flow.fresh > 0 then others[#others + 1] = flow end
    end
    if items == before and dropped == droppedBefore and #others == #fit then break end
    fit = others
  end
  local isWaste = #fit == 0 and waiting > 0 and items < maxItems and not isFull and not apart and #taken < mostJobs
  virtual = charge(flows, virtual, changed, { items = items, mostItems = mostItems, unused = isWaste and maxItems - items or 0 })
  storeTags(base, virtual, changed)
end

if #ended > 1 then
  redis.call('ZREM', unpack(ended))
  redis.call('UNLINK', unpack(inputs))
end
if ends then ends.flushNotices() end

-- Of all that were taken: items of one shape class are of one size, unless they are texts.
local function inputBytes()
  if not string.find(shape, 'BYTES', 1, true) then return redis.call('STRLEN', base .. 'in:' .. taken[1]) / firstItems * items end
  local sum = 0
  for _, id in ipairs(taken) do sum = sum + redis.call('STRLEN', base .. 'in:' .. id) end
  return sum
end

if #taken > 0 then
  redis.call('MSET', unpack(running))
  local freeAt = int(now + busyMs)
  redis.call('HSET', base .. 'claims', incarnation, sequence .. ' ' .. freeAt .. table.concat(held) .. claimBefore(earlier, earlierJobs or ''))
  redis.call('HSET', base .. 'tickets', ticketId, 'busy ' .. incarnation .. ' ' .. freeAt)
  local reply = withInputs(taken)
  if isListed and #reply == 3 and inputBytes() <= mostListedBytes then
    redis.call('RPUSH', list, unpack(taken))
    redis.call('PEXPIRE', list, listedMs)
  end
  return reply
end
if isAhead then return { 'empty', now } end
if dropped >= mostDropped or (rounds == mostRounds and waiting > 0) then return { 'defer', now, now } end
if lingerMs > 0 then
  redis.call('HSET', base .. 'tickets', ticketId, 'lingering ' .. incarnation .. ' ' .. int(now + lingerMs))
  return { 'empty', now }
end
redis.call('HDEL', base .. 'tickets', ticketId)
return { 'retired', now }
