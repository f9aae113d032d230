-- Fragment: how many items came lately, and how many are expected: in the time to come about as many as in the same time before. The same figures as
-- coordinator/src/scheduler/arrivals.ts. The hash `arrivals` holds them by flow and by class: `<ms of the last> <items, by moving mean …>`, and of a class the
-- number of its flows. Counted only while flows wait beside each other and for a while after that, by the field `shared` of `clock`: a queue of one
-- flow pays nothing else. So the functions are made only where they are needed: to make all of them took an admission of one flow seven microseconds.

local sharedForMs, sharedEveryMs = 8000, 1000

-- How arrivals are counted, and what follows; without the store.
local function arrivalFigures()
  local spansMs = { 1000, 2000, 4000, 8000, 16000, 32000, 64000 }
  local ageShare, trace = 0.7, 1e-6

  -- {ms of the last, counts …, flows}, as text; nothing where none came.
  local function parseArrivals(text)
    local words = { string.match(text or '', '^(%d+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) ?(%d*)$') }
    return words[1] and words
  end
  local FLOWS = 2 + #spansMs

  -- Of a count, by now.
  local function leftOf(arrivals, at, now)
    return (tonumber(arrivals[at + 1]) or 0) * math.exp(-math.max(0, now - arrivals[1]) / (ageShare * spansMs[at]))
  end

  local function withArrived(arrivals, items, now)
    local words = { int(now) }
    for at = 1, #spansMs do words[at + 1] = string.format('%.9g', (arrivals and leftOf(arrivals, at, now) or 0) + items) end
    return table.concat(words, ' ')
  end

  -- Which of the moving means is for such a look ahead.
  local function spanOf(withinMs)
    if withinMs <= spansMs[1] then return 1 end
    return math.min(#spansMs, 1 + math.floor(math.log(withinMs / spansMs[1]) / math.log(2) + 0.5))
  end

  local function expectedItems(arrivals, withinMs, now)
    if not arrivals then return 0 end
    local at = spanOf(withinMs)
    return leftOf(arrivals, at, now) * withinMs / (ageShare * spansMs[at])
  end

  local floor, ceil = math.floor, math.ceil
  local function mostBefore(before, items, ratio)
    local least, most = floor(before * ratio), ceil((before + 1) * ratio)
    if items < most then most = items end
    return most > least and most or least
  end

  -- Items ahead of a job that `own` of its flow precede: aheadOf of coordinator/src/scheduler/fair-share.ts, which says why. In `beside`:
  -- name, weight, classWeight  the job's own
  -- tenants, comingOf          those of its class that wait, the one of that name being itself, and what is expected of one
  -- crowd                      all others of its class that come, if any do: one rival of their weight together
  -- classes                    the other classes
  local function aheadOf(own, beside, mostAhead)
    local certain, lanes, weight, name, comingOf, crowd = own, {}, beside.weight, beside.name, beside.comingOf, beside.crowd
    if crowd then lanes[1] = { items = 0, coming = crowd.coming, most = mostBefore(own, 0, crowd.weight / weight) } end
    for _, tenant in ipairs(beside.tenants) do
      if tenant.name ~= name then
        local items = tenant.items
        local most = mostBefore(own, items, tenant.weight / weight)
        local coming = items < most and comingOf(tenant) or 0
        if coming == 0 then
          certain = certain + (items < most and items or most)
        else
          lanes[#lanes + 1] = { items = items, coming = coming, most = most }
        end
      end
    end
    local function after(part)
      local before = certain
      for _, lane in ipairs(lanes) do before = before + math.min(lane.items + lane.coming * part, lane.most) end
      local all = before
      for _, one in ipairs(beside.classes) do
        all = all + math.min(one.items + one.coming * part, mostBefore(before, one.items, one.weight / beside.classWeight))
      end
      return ceil(all - trace)
    end
    local ahead = after(1)
    if ahead <= mostAhead or mostAhead <= 0 then return ahead end
    local low, high = mostAhead, after(1e300)
    while high - low > math.max(1, high / 100) do
      local middle = floor((low + high) / 2)
      if after(middle / mostAhead) > middle then low = middle else high = middle end
    end
    return high
  end

  return {
    parse = parseArrivals, withArrived = withArrived, expectedItems = expectedItems, aheadOf = aheadOf,
    spanOf = spanOf, leftOf = leftOf, ageShare = ageShare, spansMs = spansMs, FLOWS = FLOWS,
  }
end

-- Of a queue that flows share: what is expected of them and what is ahead of a job, for one admission. `weights`: by flow of this call, as text.
local function newSharing(base, now, flows, weights, mean)
  local figures = arrivalFigures()
  local parseArrivals, withArrived, expectedItems = figures.parse, figures.withArrived, figures.expectedItems
  local spanOf, leftOf, ageShare, spansMs, FLOWS = figures.spanOf, figures.leftOf, figures.ageShare, figures.spansMs, figures.FLOWS
  local rememberedMs, mostFieldsRead, floor = 64000, 1000, math.floor
  local addedItems = {} -- of this call, by flow

  -- By name, those of `names` that came.
  local function readArrivals(names)
    local found = {}
    for from = 1, #names, mostFieldsRead do
      local texts = redis.call('HMGET', base .. 'arrivals', unpack(names, from, math.min(from + mostFieldsRead - 1, #names)))
      for at, text in ipairs(texts) do found[names[from + at - 1]] = parseArrivals(text) end
    end
    return found
  end

  -- Those that did not come for long make way; answers which went, and how many flows of each class are left.
  local function forgetArrivals()
    local texts, over, gone, flowsOf = redis.call('HGETALL', base .. 'arrivals'), {}, {}, {}
    for at = 1, #texts, 2 do
      local last = tonumber(string.match(texts[at + 1], '^%d+')) or 0
      local class, isFlow = string.match(texts[at], '^(%a+)(:?)')
      if math.abs(now - last) > rememberedMs then
        over[#over + 1], gone[texts[at]] = texts[at], true
      elseif isFlow == ':' then
        flowsOf[class] = (flowsOf[class] or 0) + 1
      end
    end
    for from = 1, #over, mostFieldsRead do
      redis.call('HDEL', base .. 'arrivals', unpack(over, from, math.min(from + mostFieldsRead - 1, #over)))
    end
    return gone, flowsOf
  end

  local classNames = {}
  for class in pairs(classWeights) do classNames[#classNames + 1] = class end
  local asked = { unpack(classNames) }
  for name in pairs(weights) do asked[#asked + 1] = name end
  local came = readArrivals(asked) -- by flow of this call, and by class

  -- What waits by class: items of all, and of each flow. What waited before is counted by the mean of the items, an estimate.
  local byClass
  local mostRead, unread = 200, {} -- what comes of further flows is counted with the crowd
  local function ofClass(class)
    local all = byClass[class]
    if not all then
      all = { items = 0, flows = {}, named = {}, left = {}, counted = 0 }
      byClass[class] = all
    end
    return all
  end
  local function addWaiting(name, weight, items)
    local all = ofClass(string.match(name, '^%a+'))
    local flow = all.named[name]
    if not flow then
      flow = { name = name, weight = weight, items = 0, left = {} }
      all.named[name], all.flows[#all.flows + 1] = flow, flow
      all.left = {}
      if came[name] or unread[name] then all.counted = all.counted + 1 end
    end
    flow.items, all.items = flow.items + items, all.items + items
  end
  local function readWaiting()
    byClass = {}
    local names = {}
    for _, flow in ipairs(flows) do
      if not came[flow.name] then
        if #names < mostRead then names[#names + 1] = flow.name else unread[flow.name] = true end
      end
    end
    for name, arrivals in pairs(readArrivals(names)) do came[name] = arrivals end
    for _, flow in ipairs(flows) do addWaiting(flow.name, flow.weight, itemsOf(flow.waiting, mean)) end
    for name, items in pairs(addedItems) do addWaiting(name, tonumber(weights[name]), items) end
  end

  -- Of what came of all flows of a class that wait, by now.
  local function leftOfWaiting(all, span)
    if not all.left[span] then
      local sum = 0
      for _, flow in ipairs(all.flows) do
        local arrivals = came[flow.name]
        flow.left[span] = arrivals and leftOf(arrivals, span, now) or 0
        sum = sum + flow.left[span]
      end
      all.left[span] = sum
    end
    return all.left[span]
  end

  local leastPassing = 0.5

  -- What is served beside a job of this flow: other tenants of its class that wait, those that come now and then together, and each other class.
  local function besides(name, withinMs)
    if not byClass then readWaiting() end
    local class, weight = string.match(name, '^%a+'), tonumber(weights[name])
    local all, span = ofClass(class), spanOf(withinMs)
    local expects = withinMs / (ageShare * spansMs[span])
    local isListed = all.named[name] ~= nil
    local left, known = leftOfWaiting(all, span), all.counted
    if came[name] and not isListed then left, known = left + leftOf(came[name], span, now), known + 1 end
    local passing = expectedItems(came[class], withinMs, now) - left * expects
    local crowd
    if passing >= leastPassing then
      crowd = { coming = passing, weight = math.max(1, (tonumber(came[class][FLOWS]) or 0) - known) }
    end
    local classes = {}
    for other, classWeight in pairs(classWeights) do
      if other ~= class then
        local items, coming = byClass[other] and byClass[other].items or 0, expectedItems(came[other], withinMs, now)
        classes[#classes + 1] = { items = items, coming = coming, weight = classWeight }
      end
    end
    local function comingOf(flow) return flow.left[span] * expects end
    return {
      name = name, weight = weight, classWeight = classWeights[class],
      tenants = all.flows, comingOf = comingOf, crowd = crowd, classes = classes,
    }
  end

  -- Items of all others that are expected within a time.
  local function expected(name, withinMs)
    local sum = 0
    for _, class in ipairs(classNames) do sum = sum + expectedItems(came[class], withinMs, now) end
    return math.max(0, sum - expectedItems(came[name], withinMs, now))
  end

  local function admitted(name, items)
    addedItems[name] = (addedItems[name] or 0) + items
    if byClass then addWaiting(name, tonumber(weights[name]), items) end
  end

  -- Once all were admitted, if any was.
  local function store()
    local isDue = false -- about once a minute
    for flow in pairs(addedItems) do
      local before = came[string.match(flow, '^%a+')]
      isDue = isDue or (before and floor(before[1] / rememberedMs) ~= floor(now / rememberedMs))
    end
    local gone, flowsOf = {}, nil
    if isDue then
      gone, flowsOf = forgetArrivals()
    end
    local counted, addedOf, firsts = {}, {}, {}
    for flow, items in pairs(addedItems) do
      local class = string.match(flow, '^%a+')
      addedOf[class] = (addedOf[class] or 0) + items
      if not came[flow] or gone[flow] then firsts[class] = (firsts[class] or 0) + 1 end
      counted[#counted + 1], counted[#counted + 2] = flow, withArrived(came[flow], items, now)
    end
    for class in pairs(classWeights) do
      local before = came[class]
      local known = flowsOf and (flowsOf[class] or 0) or before and tonumber(before[FLOWS]) or 0
      local text = addedOf[class] and withArrived(before, addedOf[class], now)
        or (flowsOf and before and not gone[class] and table.concat(before, ' ', 1, FLOWS - 1))
      if text then counted[#counted + 1], counted[#counted + 2] = class, text .. ' ' .. int(known + (firsts[class] or 0)) end
    end
    redis.call('HSET', base .. 'arrivals', unpack(counted))
    redis.call('PEXPIRE', base .. 'arrivals', rememberedMs)
  end

  return { expected = expected, besides = besides, aheadOf = figures.aheadOf, admitted = admitted, store = store }
end
