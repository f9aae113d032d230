-- Return a claim that its living host does not know of: the reply was lost, and nothing ran; or a store without its last moments has forgotten the commit.
-- Called by coordinators, when the host has told other claims for long, and by the host itself, when it may not claim because of it.
-- KEYS  1 base of the queue's keys
-- ARGV  1 incarnation  2 sequence
-- Answers  how many jobs came back.
-- Keeps: only the named sequence is returned; the sequence stays recorded, so that a late repeat of that claim is refused.
-- Flags: allow-oom
-- @include lib-time.lua lib-record.lua lib-waiting.lua lib-tally.lua lib-notices.lua lib-finish.lua lib-dead.lua lib-attempts.lua lib-return.lua lib-claims.lua
local base, incarnation, sequence = KEYS[1], ARGV[1], tonumber(ARGV[2])
local claim = redis.call('HGET', base .. 'claims', incarnation)
if not claim then return 0 end
local last, earlier, earlierJobs = splitClaim(claim)
local now = nowMs()
local jobs
if tonumber(string.match(last, '^%d+')) == sequence then
  jobs = last
  redis.call('HSET', base .. 'claims', incarnation, (sequence + 1) .. ' ' .. now .. claimBefore(earlier, earlierJobs))
elseif earlier == sequence then
  jobs = earlierJobs
  redis.call('HSET', base .. 'claims', incarnation, last)
else
  return 0
end
local returned = returnJobs(base, jobs, now, false)
return returned
