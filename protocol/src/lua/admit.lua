-- Admit jobs into one queue: records, order, index, waiter registration and the ticket decision. Inputs were SET before, plainly,
-- several together without a time to live: then in one transaction with this.
-- KEYS  1 base of the queue's keys
-- ARGV  1 queue tag  2 matching hosts  3 items of a usual batch  4 most jobs that may wait in this queue  5 number of flows, then per flow 2:
--       name, tenant's weight; then the jobs in order, those together that are alike but for their ids: flow, timeoutMs, latestStartMs, keep,
--       listed 0|1, coordinator that waits or "-", most items that may be ahead of each or "-", how long it takes until so many are served,
--       fixed words (from items to traits), number of jobs, their ids
-- Answers  {now, jobs waiting then, ticket ids, answers}; ticket ids divided by spaces; answers a line per job, or "" when all were admitted:
--          "admitted", "refused <items ahead>", "full <jobs waiting>", or "<state> <created ms> <deadline ms>" of the record that was there before.
--          A single job may be claimed for a host that lingers in the same step, and then none waits.
-- Keeps: an id is admitted once; a repeat registers the waiter and changes nothing else; a malformed job is refused before anything is
--        written; what is refused leaves nothing behind, and a repeat no inputs of what has ended (those of a dead letter live on with it).
-- @include lib-time.lua lib-record.lua lib-flows.lua lib-arrivals.lua lib-tickets.lua
local base, tag, mostWaiting = KEYS[1], ARGV[1], tonumber(ARGV[4])
local now = nowMs()
local nowText = int(now)
local interactiveShare = 0.1
local firstJob = 6 + 2 * ARGV[5]
local ids, groups = {}, {}
local at, most = firstJob, #ARGV
while at <= most do
  local timeout, latestStart, count = ARGV[at + 1], ARGV[at + 2], ARGV[at + 9]
  local timeoutMs, latestStartMs = tonumber(timeout), tonumber(latestStart)
  if not (timeoutMs and latestStartMs and timeoutMs == timeoutMs and latestStartMs == latestStartMs) then -- NaN is none
    return redis.error_reply('ERR job ' .. ARGV[at + 10] .. ' names no time: timeout ' .. timeout .. ', latest start ' .. latestStart)
  end
  groups[#groups + 1] = at
  for each = at + 10, at + 9 + count do ids[#ids + 1] = ARGV[each] end
  at = at + 10 + count
end

local flows, waiting, named = waitingFlows(base)
local weights = {}
for at = 6, firstJob - 1, 2 do weights[ARGV[at]] = ARGV[at + 1] end

-- Whether flows share the queue, or did shortly before: then what comes is counted.
local mean, sharedUntil = meanAndShared(base)
local isShared = #flows > 1 or ARGV[5] ~= '1' or (flows[1] and flows[1].name ~= ARGV[6])
if isShared and (sharedUntil < now + sharedForMs - sharedEveryMs or sharedUntil > now + sharedForMs) then
  redis.call('HSET', base .. 'clock', 'shared', int(now + sharedForMs))
end
isShared = isShared or (sharedUntil > now and sharedUntil <= now + sharedForMs)
local sharing = isShared and newSharing(base, now, flows, weights, mean)

local waitingBefore = waiting
local added, addedItems = 0, {} -- items of this call, and by flow

local texts, names = recordTexts(base, ids)
local answers, orders, due, index, recent, written = {}, {}, { base .. 'due' }, { base .. 'index' }, { base .. 'recent' }, {}
local unwanted = {} -- ids whose inputs came and have no open job
local writtenAt = {} -- where the record of an id stands in `written`: the same id may come twice in one call
local allAdmitted, urgent = true, nil
local handOver -- what is left to do where a job is claimed for a host at once
local itemsBefore = itemsOf(waitingBefore, mean)
local number = 0

for _, group in ipairs(groups) do
  local flow, coordinator, mostAhead, withinMs = ARGV[group], ARGV[group + 5], tonumber(ARGV[group + 6]) or math.huge, tonumber(ARGV[group + 7])
  local timeout, fixed = tonumber(ARGV[group + 1]), ARGV[group + 8]
  local order, deadline = int(now + ARGV[group + 2]), int(now + timeout)
  local items = tonumber(string.match(fixed, '^%d+')) or 1
  local listing = ARGV[group + 4] == '1' and index or recent
  local new = 'queued 1 ' .. coordinator .. ' ' .. ARGV[group + 3] .. ' ' .. deadline .. ' 0 0 0 0 0 - - ' .. nowText .. ' ' .. flow .. ' ' .. order
    .. ' ' .. fixed
  local mostAttempts, size = string.match(fixed, '^%d+ (%d+) (%d+)')
  if #ids == 1 and waiting == 0 and not texts[1] and tonumber(mostAttempts) > 1 then
    -- @include lib-handing.lua
    local taker = takerOf(base, redis.call('HGETALL', base .. 'tickets'), now, items, now + timeout)
    if taker then
      local keep, class = ARGV[group + 3], string.match(flow, '^%a+')
      new = 'running 2 ' .. coordinator .. ' ' .. keep .. ' ' .. deadline .. ' 1 0 0 1 ' .. nowText .. ' ' .. taker.incarnation .. ' ' .. taker.host
        .. ' ' .. nowText .. ' ' .. flow .. ' ' .. order .. ' ' .. fixed
      local trace = taker.tellsTraces and string.match(fixed, tracePattern)
      local line = ids[1] .. ' 1 1 ' .. keep .. ' ' .. deadline .. ' ' .. nowText .. ' ' .. class .. ' ' .. items .. ' ' .. size
        .. (trace and ' ' .. trace or '')
      handOver = function() handTo(base, tag, now, taker, ids[1], line) end
    end
  end
  -- as long as it would wait for company, see lua/claim
  local waits = math.min(order, string.sub(flow, 1, 12) == 'interactive:' and now + interactiveShare * timeout or order)
  local expected = sharing and sharing.expected(flow, withinMs) or 0
  local ownBefore, beside -- read when asked for
  local function itemsAhead()
    ownBefore = ownBefore or itemsOf(redis.call('ZCOUNT', base .. 'order:' .. flow, '-inf', order), mean)
    local own = ownBefore + (addedItems[flow] or 0)
    if not sharing then return own end
    beside = beside or sharing.besides(flow, withinMs)
    return sharing.aheadOf(own, beside, mostAhead)
  end
  for each = group + 10, group + 9 + ARGV[group + 9] do
    number = number + 1
    local id = ARGV[each]
    local text = texts[number] or (writtenAt[id] and written[writtenAt[id]])
    if text then
      local record = parseRecord(text)
      if not isOpen(record) then
        if redis.call('ZSCORE', base .. 'dead', id) then
          redis.call('PEXPIRE', base .. 'in:' .. id, dayMs)
        else
          unwanted[#unwanted + 1] = id
        end
      end
      if coordinator ~= '-' and addWaiter(record, coordinator) then
        if writtenAt[id] then written[writtenAt[id]] = recordText(record) else storeRecord(base, id, record) end
      end
      answers[number] = record[STATE] .. ' ' .. record[CREATED] .. ' ' .. record[DEADLINE]
      allAdmitted = false
    else
      local ahead = itemsBefore + added + expected > mostAhead and itemsAhead() or 0
      if waiting >= mostWaiting then
        answers[number] = 'full ' .. waiting
        unwanted[#unwanted + 1] = id
        allAdmitted = false
      elseif ahead > mostAhead then
        answers[number] = 'refused ' .. ahead
        unwanted[#unwanted + 1] = id
        allAdmitted = false
      else
        local last = #written + 2
        written[last - 1], written[last], writtenAt[id] = names[number], new, last
        urgent = math.min(urgent or math.huge, waits)
        local list = orders[flow]
        if not list then
          list = { base .. 'order:' .. flow }
          orders[flow] = list
        end
        if not handOver then
          last = #list + 2
          list[last - 1], list[last] = order, id
        end
        last = #due + 2
        due[last - 1], due[last] = deadline, id
        last = #listing + 2
        listing[last - 1], listing[last] = nowText, id
        answers[number] = 'admitted'
        added, addedItems[flow] = added + items, (addedItems[flow] or 0) + items
        if sharing then sharing.admitted(flow, items) end
        waiting = waiting + 1
      end
    end
  end
end

if #written > 0 then
  redis.call('MSET', unpack(written))
  redis.call('ZADD', unpack(due))
  for flow, list in pairs(orders) do
    if not handOver then
      redis.call('ZADD', unpack(list))
      if named[flow] ~= weights[flow] then redis.call('HSET', base .. 'flows', flow, weights[flow]) end
    end
    local tenant = string.match(flow, ':(.*)$')
    if weights[flow] == '1' then
      redis.call('HDEL', base .. 'weights', tenant)
    else
      redis.call('HSET', base .. 'weights', tenant, weights[flow])
    end
  end
end
if sharing and added > 0 then sharing.store() end
for _, id in ipairs(unwanted) do
  if not writtenAt[id] then redis.call('UNLINK', base .. 'in:' .. id) end -- the second of one id may have been admitted
end
if #index > 1 then redis.call('ZADD', unpack(index)) end
if #recent > 1 then
  redis.call('ZADD', unpack(recent))
  redis.call('PEXPIRE', recent[1], 180000)
end

if handOver and #written > 0 then
  handOver()
  return { now, 0, '', '' }
end

local waitingItems = itemsBefore + added
if #written > 0 then
  local newMean = (waitingBefore * mean + added) / waiting
  local text = newMean ~= mean and string.format('%.9g', newMean)
  if text and text ~= string.format('%.9g', mean) then redis.call('HSET', base .. 'clock', 'mean', text) end
end
local tickets = #written > 0 and issueTickets(base, tag, now, waiting, waitingItems, tonumber(ARGV[2]), tonumber(ARGV[3]), false, urgent) or {}
return { now, waiting, table.concat(tickets, ' '), allAdmitted and '' or table.concat(answers, '\n') }
