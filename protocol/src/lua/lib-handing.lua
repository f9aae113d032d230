-- Fragment: a single job that finds nothing waiting, and a host that lingers with nothing in hand, is claimed for that host in the step that admits it:
-- the host hears of the job itself, in the place of a wake-up, and saves the look. What its next claim would have said stands in its ticket, where its last
-- commit left it: "<sequence> <host id> <busyMs> <largest batch in items> <neededMs> <traced|->"; neededMs is the longest run known and what a claim costs beside it.
-- Included by admit, sweep and release.
-- Keeps: it is the claim that the host would have made next, under the sequence that it would have used, and the host makes that claim when it has not heard,
-- at the end of its linger at the latest. A host that has died does neither: handed jobs that are not committed in time go back, and it counts as their host's
-- death. So a job that may be tried only once is not handed over.

local mostHandedBytes = 16384
local doubtedMs = 25 -- as in sweeper.ts, which looks again a little later
local handedMarginMs = 60 -- beyond neededMs; as a lingering host that was woken, it claims within milliseconds, or it is dead

-- The ticket under which a job of so many items may be claimed now. `entries`: of the hash `tickets`.
local function takerOf(base, entries, now, items, deadline)
  for index = 1, #entries, 2 do
    local incarnation, till, standing = string.match(entries[index + 1], '^lingering (%S+) (%d+) (.+)$')
    if standing and tonumber(till) > now then
      local sequence, host, busyMs, mostItems, neededMs, traced = string.match(standing, '^(%d+) (%S+) (%d+) (%d+) (%d+) (%S+)$')
      local last = redis.call('HGET', base .. 'claims', incarnation) or '0'
      local isNext = tonumber(string.match(last, '^%d+')) < tonumber(sequence) and not string.find(last, '=', 1, true)
      if isNext and items <= tonumber(mostItems) and now + neededMs <= deadline then
        return {
          ticketId = entries[index],
          incarnation = incarnation,
          sequence = sequence,
          host = host,
          busyMs = busyMs,
          neededMs = neededMs,
          tellsTraces = traced == 'traced',
        }
      end
    end
  end
end

-- Claims the job for that host, and tells it: "<tag> <ticket id> <sequence> <now>", a line as claim answers it, and the inputs if they are small.
local function handTo(base, tag, now, taker, id, line)
  local freeAt = int(now + taker.busyMs)
  redis.call('HSET', base .. 'claims', taker.incarnation, taker.sequence .. ' ' .. freeAt .. ' ' .. id .. '=1')
  local till = int(now + taker.neededMs + handedMarginMs)
  redis.call('HSET', base .. 'tickets', taker.ticketId, 'handed ' .. taker.incarnation .. ' ' .. till .. ' ' .. taker.sequence)
  local input = redis.call('GETRANGE', base .. 'in:' .. id, 0, mostHandedBytes)
  if #input > mostHandedBytes then input = '' end
  local message = tag .. ' ' .. taker.ticketId .. ' ' .. taker.sequence .. ' ' .. int(now) .. '\n' .. line .. '\n' .. input
  redis.call('PUBLISH', 'sy:wake:' .. taker.incarnation, message)
end

-- Gives back what was handed over under this ticket, an entry of the hash `tickets`. `died`: its host is taken for dead, which counts as an attempt; else it has
-- not begun. Answers how many jobs came back.
local function returnHanded(base, entry, now, died)
  local incarnation, sequence = string.match(entry, '^handed (%S+) %d+ (%d+)')
  local claim = incarnation and redis.call('HGET', base .. 'claims', incarnation)
  if not claim or string.match(claim, '^%d+') ~= sequence then return 0 end
  -- the host may make that claim yet, of other jobs; what it may have begun unasked it commits under fences that are no longer theirs
  redis.call('HSET', base .. 'claims', incarnation, sequence .. ' ' .. int(now))
  return (returnJobs(base, claim, now, died))
end

-- All that was not committed in time: its host may be dead, and that is not known for seconds. What is late is first doubted for a moment: where Redis itself
-- stood still the commit is what comes next. `takers`: two of the hosts that could take the job, if there are so many; where none is but its own, it waits for
-- that to be known as dead, as all that is in hand. Answers how many jobs came back, and how many tickets are doubted.
local function returnLateHanded(base, entries, now, takers)
  local returned, doubted = 0, 0
  for index = 1, #entries, 2 do
    local name, entry = entries[index], entries[index + 1]
    local incarnation, till, sequence, rest = string.match(entry, '^handed (%S+) (%d+) (%d+)(.*)$')
    local isDoubted = incarnation and string.find(rest, ' doubted', 1, true)
    local isLate = incarnation and tonumber(till) <= now
    local claim = isLate and redis.call('HGET', base .. 'claims', incarnation)
    local hasOthers = false
    if isLate then
      for taker in string.gmatch(takers, '%S+') do hasOthers = hasOthers or taker ~= incarnation end
    end
    if isLate and not (claim and string.find(claim, '=', 1, true)) then
      redis.call('HDEL', base .. 'tickets', name) -- its job has ended, or gone back, otherwise
    elseif isLate and hasOthers and isDoubted then
      returned = returned + returnHanded(base, entry, now, true)
      redis.call('HDEL', base .. 'tickets', name)
    elseif isLate and hasOthers then
      local doubt = 'handed ' .. incarnation .. ' ' .. int(now + doubtedMs) .. ' ' .. sequence .. rest .. ' doubted'
      redis.call('HSET', base .. 'tickets', name, doubt)
      doubted = doubted + 1
    elseif isDoubted then
      doubted = doubted + 1
    end
  end
  return returned, doubted
end
