-- Fragment: start-time fair queueing (Goyal et al.) over the flows of a queue: each slot of a batch, an item, goes to the flow with the smallest start tag.
-- Included, after lib-flows, by claim. The hash `shares` holds the virtual clock and each flow's finish tag, behind it the items of its largest job where those
-- are more than a batch. With one flow there is nothing to share, and its tags stand still; a flow that comes later starts level with it.

local tagsInPart = 1000 -- a call takes only so many arguments

local function goesBefore(a, b)
  if a.tag ~= b.tag then return a.tag < b.tag end
  if a.share ~= b.share then return a.share > b.share end
  return a.name < b.name
end

local function changeTag(changed, name, tag, largest)
  changed[#changed + 1] = name
  changed[#changed + 1] = string.format('%.17g', tag) .. (largest and ' ' .. largest or '')
end

-- Gives each flow its share and its start tag; answers the clock, and the tags to store. A tag was charged by the share of its time: a flow whose share has
-- grown since is ahead by a batch at most, or by its last job, if that is larger.
local function readTags(base, flows, mostItems)
  setShares(flows)
  local virtual = tonumber(redis.call('HGET', base .. 'shares', 'virtual')) or 0
  local changed = {}
  for from = 1, #flows, tagsInPart do
    local names = {}
    for at = from, math.min(from + tagsInPart - 1, #flows) do names[#names + 1] = flows[at].name end
    for at, text in ipairs(redis.call('HMGET', base .. 'shares', unpack(names))) do
      local flow, tag, largest = flows[from + at - 1], tonumber(text), 0
      if text and not tag then
        tag, largest = string.match(text, '^(%S+) (%d+)$')
        tag, largest = tonumber(tag), tonumber(largest) or 0
      end
      tag = tag or 0
      local mostTag = virtual + math.max(mostItems, largest) / flow.share
      if tag > mostTag then changeTag(changed, flow.name, mostTag) end
      flow.start = math.max(virtual, math.min(tag, mostTag))
      flow.served, flow.last, flow.largest = 0, 0, 0
    end
  end
  return virtual, changed
end

-- What those owe who were served, and where the clock stands then: at the start tag of the last job that was served, but behind no flow that still waits. Flows
-- whose jobs are large, or did not fit in, keep what they are owed; who comes later starts level with them. `unused`: slots that nobody could use while somebody
-- waited. They are charged to those who were served, by their items: who can only be served in small batches takes the device's time all the same.
local function charge(flows, virtual, changed, how)
  local lastStart
  for _, flow in ipairs(flows) do
    if flow.served > 0 then
      lastStart = math.max(lastStart or 0, flow.start + (flow.served - flow.last) / flow.share)
      flow.start = flow.start + flow.served * (1 + how.unused / how.items) / flow.share
      changeTag(changed, flow.name, flow.start, flow.largest > how.mostItems and flow.largest)
    end
  end
  if not lastStart then return virtual end
  for _, flow in ipairs(flows) do
    if flow.left > 0 then lastStart = math.min(lastStart, flow.start) end
  end
  return math.max(virtual, lastStart)
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
  for _, flow in ipairs(flows) do flow.tag, flow.slots = flow.start + flow.served / flow.share, 0 end
  local turns, first = {}, firstFlows(flows, slots)
  for _ = 1, slots do
    local best
    for _, flow in ipairs(first) do
      if flow.slots < flow.fresh * mean and (not best or goesBefore(flow, best)) then best = flow end
    end
    if not best then break end
    if best.slots == 0 then turns[#turns + 1] = best end
    best.slots = best.slots + 1
    best.tag = best.tag + 1 / best.share
  end
  return turns
end
