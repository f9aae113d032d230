-- Fragment: which tickets live, and how many are missing. Included by admit, cache-settle, sweep, take, renew, take-back and release. A ticket is issued, held,
-- busy (with a batch of this queue, or its holder with one of another), lingering (its queue was empty), deferring (it waits for a fuller batch), handed (a job
-- was claimed for it while it lingered, see lib-handing) or leaving (its holder ends after the run at hand).
-- An entry: "<state> <incarnation> <till ms>"; of one that lingers may follow what stands for its next claim, of a handed one that claim's sequence.
-- Keeps: a waiting queue has a ticket that can act, or one is issued here; a ticket id is never used twice; tickets that nobody
-- fetched never exceed matching hosts + 1.

local heldMarginMs = 1500     -- the holder's main loop renews every 500 ms
local wakeMarginMs = 60       -- a lingering host that was woken claims within milliseconds, or it is dead
local untakenMarginMs = 400   -- after this a matching host that is idle would have taken it
local forgetUntakenMs = 30000
local lockMs = 10000          -- for which BullMQ locks what a host fetches: lockDuration in worker/src/intake/bullmq-tickets.ts
local unheardMs = 1500        -- after this a host that had heard of a ticket which it fetched would have taken it; before its lock is renewed
local deferMarginMs = 10      -- a job that must start sooner after a deferral's end wakes its host at once

-- Counts tickets: `free` can act now (issued, held, lingering), `busy` hold a device until freeAt, `untaken` were issued, `stale` are
-- the ids among them that a host should have taken by now. Leaving ones are none of these: nobody counts their holder among the
-- matching hosts. A host that holds several (it took them from queues of different reach, or kept one that a store without its last
-- second forgot) has one device all the same: it counts once, and as busy while one of them is.
-- An issued one that has been locked for long was fetched by a host that never heard of it: BullMQ gives it back when the lock has ended,
-- many seconds from now, and until then to offer it again does nothing. It is forgotten here; whoever takes it later is told that it is gone.
-- Only what was offered in the queue of this tag shows: the locks of others may lie in other slots.
-- With `repair`, lost ones are removed, too, and what cannot be read counts as lost. Handed ones go with their job, see lib-handing.
local function countTickets(base, tag, now, repair)
  local entries = redis.call('HGETALL', base .. 'tickets')
  local count = { free = 0, busy = 0, untaken = 0, stale = {} }
  local holders, sleepers = {}, {}
  for index = 1, #entries, 2 do
    local state, incarnation, till = string.match(entries[index + 1], '^(%a+) (%S+) (%d+)')
    local isHanded = state == 'handed'
    if isHanded then state = 'busy' end
    till = tonumber(till) or 0
    if state == 'issued' then
      local lock = till <= now and redis.call('PTTL', 'sy:bull:{' .. tag .. '}:' .. entries[index] .. ':lock') or 0
      if lock > 0 and lock <= lockMs - unheardMs then
        redis.call('HDEL', base .. 'tickets', entries[index])
      else
        count.untaken = count.untaken + 1
        if till <= now then count.stale[#count.stale + 1] = entries[index] end
      end
    end
    if till > now then
      if state == 'issued' then
        count.free = count.free + 1
      elseif state ~= 'leaving' then
        if holders[incarnation] ~= 'busy' then holders[incarnation] = state end
        if state == 'lingering' or state == 'deferring' then sleepers[#sleepers + 1] = { entries[index], incarnation, till, state } end
      end
    elseif repair and not isHanded and (state ~= 'issued' or till + forgetUntakenMs < now) then
      redis.call('HDEL', base .. 'tickets', entries[index])
    end
  end
  for _, state in pairs(holders) do
    local can = state == 'busy' and 'busy' or 'free'
    count[can] = count[can] + 1
  end
  for _, sleeper in ipairs(sleepers) do
    if holders[sleeper[2]] ~= 'busy' and not count[sleeper[4]] then count[sleeper[4]] = sleeper end
  end
  return count
end

-- Issues what is missing: as many tickets as matching hosts could use for the waiting jobs. Wakes one lingering host, and one that
-- waits for a full batch once there is one.
-- `items`: of the jobs that wait, an estimate. `urgent`: until when the most urgent job that has just come would wait for company. Answers the ticket ids to offer; they do nothing until the caller has done so. When as many as allowed were offered and nobody took them,
-- the offers themselves may be lost: the same ids are offered again, which is harmless where they were not.
local function issueTickets(base, tag, now, waiting, items, matchingHosts, batchItems, repair, urgent)
  local issued = {}
  if waiting == 0 then return issued end
  local count = countTickets(base, tag, now, repair)
  local deferring = count.deferring
  local isDue = deferring and (items >= batchItems or (urgent and urgent <= deferring[3] + deferMarginMs))
  local sleeper = count.lingering or (isDue and deferring)
  if sleeper then
    redis.call('HSET', base .. 'tickets', sleeper[1], 'held ' .. sleeper[2] .. ' ' .. (now + wakeMarginMs))
    redis.call('PUBLISH', 'sy:wake:' .. sleeper[2], tag)
  end
  -- without any known host one ticket is issued all the same: a host that comes later takes it
  local want = math.min(math.max(matchingHosts - count.busy, 0), math.ceil(items / batchItems), waiting)
  if want == 0 and count.free + count.busy == 0 then want = 1 end
  local missing, room = want - count.free, matchingHosts + 1 - count.untaken
  for at = 1, missing do
    local ticketId = at > room and table.remove(count.stale)
    if at > room and not ticketId then break end
    ticketId = ticketId or (tag .. '-t' .. redis.call('HINCRBY', base .. 'clock', 'tickets', 1))
    redis.call('HSET', base .. 'tickets', ticketId, 'issued - ' .. (now + untakenMarginMs))
    issued[#issued + 1] = ticketId
  end
  return issued
end
