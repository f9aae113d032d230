-- Tell the truth about deadlines: move records whose deadline has passed.
-- KEYS  1 base of the queue's keys
-- ARGV  job ids
-- Answers  per job the state that the record then has, or "none".
-- Keeps: a client hears `expired` only after the record says so.
-- Flags: allow-oom
-- @include lib-time.lua lib-finish.lua
local base = KEYS[1]
local now = nowMs()
local answers = {}
for _, id in ipairs(ARGV) do
  local row = redis.call('HMGET', base .. 'job:' .. id, unpack(finishFields))
  if row[1] and stillOpen(row[1]) and tonumber(row[6]) <= now then
    endOutside(base, id, row, 'expired', now, expiredError)
    answers[#answers + 1] = 'expired'
  else
    answers[#answers + 1] = row[1] or 'none'
  end
end
flushNotices()
return answers
