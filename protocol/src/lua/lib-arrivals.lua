-- Fragment: how many items came lately of each flow, and how many are expected: in the time to come about as many as in the same time before. The
-- same figures as coordinator/src/scheduler/arrivals.ts. The hash `arrivals` holds them by flow, and of all flows together under '*':
-- `<tenant's weight> <ms of the last> <items, by moving mean …>`. Counted only while flows wait beside each other, and for a while after that, by the
-- field `shared` of `clock`: a queue of one flow pays nothing.

local allFlows = '*'
local spansMs = { 1000, 2000, 4000, 8000, 16000, 32000, 64000 }
local ageShare, rememberedMs, sharedForMs, mostFieldsRead = 0.7, 64000, 8000, 1000

local function parseArrivals(text)
  local counts, head = {}, {}
  for word in string.gmatch(text or '1 0', '%S+') do
    local list = #head < 2 and head or counts
    list[#list + 1] = tonumber(word)
  end
  for at = 1, #spansMs do counts[at] = counts[at] or 0 end
  return { weight = head[1] or 1, at = head[2] or 0, counts = counts }
end

-- Of a count, by now; while a clock that went back catches up, all of it.
local function leftOf(arrivals, at, now)
  return arrivals.counts[at] * math.exp(-math.max(0, now - arrivals.at) / (ageShare * spansMs[at]))
end

local function withArrived(arrivals, weight, items, now)
  local words = { weight, int(math.max(arrivals.at, now)) }
  for at = 1, #spansMs do words[at + 2] = string.format('%.6g', leftOf(arrivals, at, now) + items) end
  return table.concat(words, ' ')
end

local function expectedItems(arrivals, withinMs, now)
  if withinMs <= 0 then return 0 end
  local at = math.max(1, math.min(#spansMs, 1 + math.floor(math.log(withinMs / spansMs[1]) / math.log(2) + 0.5)))
  return leftOf(arrivals, at, now) * withinMs / (ageShare * spansMs[at])
end

-- Of every flow that came lately, by name; takes away those that did not.
local function readArrivals(base, now)
  local texts, flows, over = redis.call('HGETALL', base .. 'arrivals'), {}, {}
  for at = 1, #texts, 2 do
    local arrivals = parseArrivals(texts[at + 1])
    if now - arrivals.at > rememberedMs then
      over[#over + 1] = texts[at]
    elseif texts[at] ~= allFlows then
      flows[texts[at]] = arrivals
    end
  end
  for from = 1, #over, mostFieldsRead do
    redis.call('HDEL', base .. 'arrivals', unpack(over, from, math.min(from + mostFieldsRead - 1, #over)))
  end
  return flows
end

-- Items ahead of a job that `own` of its flow precede: aheadOf of coordinator/src/scheduler/fair-share.ts, which says why.
local function aheadOf(own, rivals, mostAhead)
  local ahead, largest = own, own
  for _, rival in ipairs(rivals) do
    rival.most = math.max(math.min(rival.items, math.ceil((own + 1) * rival.ratio)), math.floor(own * rival.ratio))
    ahead = ahead + math.min(rival.items + rival.coming, rival.most)
    largest = largest + rival.most
  end
  if ahead <= mostAhead or mostAhead <= 0 then return math.ceil(ahead) end
  local served = largest
  while true do
    local fixed, pace = own, 0
    for _, rival in ipairs(rivals) do
      if rival.items + rival.coming * served / mostAhead >= rival.most then
        fixed = fixed + rival.most
      else
        fixed, pace = fixed + rival.items, pace + rival.coming / mostAhead
      end
    end
    local next = pace < 1 and fixed / (1 - pace) or served
    if not (next < served) then return math.max(mostAhead + 1, math.ceil(served)) end
    served = next
  end
end
