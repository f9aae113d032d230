-- The holder's main loop lives on while its runner is busy: keep the ticket counted.
-- KEYS  1 base of the queue's keys
-- ARGV  1 incarnation  2 ticket id  3 "occupied": its device is at something long of another queue, so that a held ticket cannot act; "leaving": its holder
--       ends after the run at hand, and this ticket keeps nobody else from being asked; or nothing
-- Answers  "renewed", "not_yours", "barred".
-- Keeps: a busy or held ticket counts as long as its holder renews it; lingering, deferring and handed are bounded and never prolonged.
-- Flags: allow-oom
-- @include lib-time.lua lib-tickets.lua
local base, incarnation, ticketId = KEYS[1], ARGV[1], ARGV[2]
if redis.call('ZSCORE', base .. 'barred', incarnation) then return 'barred' end
local state, holder, till = string.match(redis.call('HGET', base .. 'tickets', ticketId) or '', '^(%a+) (%S+) (%d+)')
if holder ~= incarnation then return 'not_yours' end
if state == 'handed' then return 'renewed' end
local renewed = nowMs() + heldMarginMs
local wanted = state
if ARGV[3] == 'leaving' then
  wanted = 'leaving'
elseif state == 'lingering' or state == 'deferring' then
  return 'renewed'
elseif ARGV[3] == 'occupied' and state == 'held' then
  wanted = 'busy'
end
if wanted == 'leaving' then
  till = renewed -- coordinators of the release before take it for one that can act, and may do so no longer
elseif tonumber(till) < renewed then
  till = renewed
elseif wanted == state then
  return 'renewed'
end
redis.call('HSET', base .. 'tickets', ticketId, wanted .. ' ' .. holder .. ' ' .. till)
return 'renewed'
