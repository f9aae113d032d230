-- A host gives a ticket up without a last claim (drain, no longer warm): remove it and issue another if jobs wait.
-- KEYS  1 base of the queue's keys
-- ARGV  1 queue tag  2 incarnation  3 ticket id  4 hosts that may take the next one  5 "aside": issue none, the next sweep
--       does; "unbegun": by the holder, which has begun nothing under it; or nothing
-- Answers  the ticket ids to offer, none when nothing waits or the ticket was not this holder's.
-- Keeps: a waiting queue has a ticket that can act, or the sweep gives it one; what was handed over under this ticket waits again where its holder
--        says that it has not begun it, else the ticket goes when it is committed.
-- Flags: allow-oom
-- @include lib-time.lua lib-flows.lua lib-tickets.lua
local base, tag, incarnation, ticketId = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local entry = redis.call('HGET', base .. 'tickets', ticketId) or ''
local state, holder = string.match(entry, '^(%a+) (%S+)')
if holder ~= incarnation then return {} end
local now = nowMs()
if state == 'handed' then
  if ARGV[5] ~= 'unbegun' then
    -- its holder lives, as far as is known, and may be at work: the ticket goes with the commit
    if not string.find(entry, ' leaving', 1, true) then redis.call('HSET', base .. 'tickets', ticketId, entry .. ' leaving') end
    return {}
  end
  -- @include lib-record.lua lib-waiting.lua lib-tally.lua lib-notices.lua lib-finish.lua lib-dead.lua lib-attempts.lua lib-return.lua lib-handing.lua
  returnHanded(base, entry, now, false)
end
redis.call('HDEL', base .. 'tickets', ticketId)
if ARGV[5] == 'aside' then return {} end
local _, waiting = waitingFlows(base)
return issueTickets(base, tag, now, waiting, waiting, tonumber(ARGV[4]), 1, true)
