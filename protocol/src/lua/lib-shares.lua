-- Fragment: start-time fair queueing (Goyal et al.) over the flows of a queue: each slot of a batch, an item, goes to the flow with the smallest start tag.
-- Included, after lib-flows, by claim. The hash `shares` holds the virtual clock, each flow's finish tag, and the items of the largest job that was served.
-- With one flow there is nothing to share, and its tags stand still; a flow that comes later starts level with it.

local tagsInPart = 1000 -- a call takes only so many arguments

local function goesBefore(a, b)
  if a.tag ~= b.tag then return a.tag < b.tag end
  if a.share ~= b.share then return a.share > b.share end
  return a.name < b.name
end

local function changeTag(changed, name, tag)
  changed[#changed + 1] = name
  changed[#changed + 1] = string.format('%.17g', tag)
end

-- Gives each flow its share and its start tag; answers the clock, the largest job, and the tags to store. A tag was charged by the share of its time: a flow
-- whose share has grown since is ahead by a batch at most, or by one job that is larger.
local function readTags(base, flows, mostItems)
  setShares(flows)
  local clock = redis.call('HMGET', base .. 'shares', 'virtual', 'largest')
  local virtual, largest = tonumber(clock[1]) or 0, tonumber(clock[2]) or 0
  mostItems = math.max(mostItems, largest)
  local changed = {}
  for from = 1, #flows, tagsInPart do
    local names = {}
    for at = from, math.min(from + tagsInPart - 1, #flows) do names[#names + 1] = flows[at].name end
    for at, text in ipairs(redis.call('HMGET', base .. 'shares', unpack(names))) do
      local flow, tag = flows[from + at - 1], tonumber(text) or 0
      local mostTag = virtual + mostItems / flow.share
      if tag > mostTag then changeTag(changed, flow.name, mostTag) end
      flow.start = math.max(virtual, math.min(tag, mostTag))
      flow.tag, flow.slots = flow.start, 0
    end
  end
  return virtual, largest, changed
end

-- Where the clock stands after a turn: at the start tag of the last job that was served, but behind none that waited beside it. Flows whose jobs are large,
-- or did not fit in, keep what they are owed; who comes later starts level with them.
local function clockAfter(virtual, lastStart, flows)
  local least = lastStart
  for _, flow in ipairs(flows) do
    if flow.left > 0 then least = math.min(least, flow.start) end
  end
  return math.max(virtual, least)
end

local function storeTags(base, virtual, changed)
  if #changed == 0 then return end
  changeTag(changed, 'virtual', virtual)
  for from = 1, #changed, tagsInPart do
    redis.call('HSET', base .. 'shares', unpack(changed, from, math.min(from + tagsInPart - 1, #changed)))
  end
end

-- The first of all flows, in order; only so many can get one of so many slots.
local function firstFlows(flows, slots)
  local first = {}
  for _, flow in ipairs(flows) do
    if #first < slots or goesBefore(flow, first[slots]) then
      local at = math.min(#first + 1, slots)
      while at > 1 and goesBefore(flow, first[at - 1]) do
        first[at] = first[at - 1]
        at = at - 1
      end
      first[at] = flow
    end
  end
  return first
end

-- Divides slots; answers the flows that got any, in the order of their first. `mean`: items of a job.
local function allot(flows, slots, mean)
  local turns, first = {}, firstFlows(flows, slots)
  for _ = 1, slots do
    local best
    for _, flow in ipairs(first) do
      if flow.slots < flow.waiting * mean and (not best or goesBefore(flow, best)) then best = flow end
    end
    if not best then break end
    if best.slots == 0 then turns[#turns + 1] = best end
    best.slots = best.slots + 1
    best.tag = best.tag + 1 / best.share
  end
  return turns
end

-- Slots that nobody could use are credited to the first flow that waits all the same, because its jobs do not fit in: else those of which few come at a time
-- would go before it for long, in small batches that take the time of all.
local function creditFirst(base, flows, mostItems, unused)
  local virtual, _, changed = readTags(base, flows, mostItems)
  local first
  for _, flow in ipairs(flows) do
    if flow.left > 0 and (not first or goesBefore(flow, first)) then first = flow end
  end
  if not first then return end
  changeTag(changed, first.name, math.max(virtual, first.start - unused / first.share))
  storeTags(base, virtual, changed)
end
