-- A host received a ticket from BullMQ: bind it to this incarnation. The last taker wins.
-- KEYS  1 base of the queue's keys
-- ARGV  1 incarnation  2 ticket id  3 "occupied": its device is at something long of another queue; or nothing
-- Answers  "held", "gone" (retired or replaced meanwhile), "barred".
-- Keeps: every live ticket names at most one holder.
-- Flags: allow-oom
-- @include lib-time.lua lib-tickets.lua
local base, incarnation, ticketId = KEYS[1], ARGV[1], ARGV[2]
if redis.call('ZSCORE', base .. 'barred', incarnation) then return 'barred' end
if redis.call('HEXISTS', base .. 'tickets', ticketId) == 0 then return 'gone' end
local state = ARGV[3] == 'occupied' and 'busy ' or 'held '
redis.call('HSET', base .. 'tickets', ticketId, state .. incarnation .. ' ' .. (nowMs() + heldMarginMs))
return 'held'
