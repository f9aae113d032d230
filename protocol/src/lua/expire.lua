-- Tell the truth about deadlines: move records whose deadline has passed.
-- KEYS  1 base of the queue's keys
-- ARGV  job ids
-- Answers  per job the state that the record then has, or "none".
-- Keeps: a client hears `expired` only after the record says so.
-- Flags: allow-oom
-- @include lib-time.lua lib-record.lua lib-tally.lua lib-notices.lua lib-finish.lua
local base = KEYS[1]
local now = nowMs()
local answers = {}
local records = loadRecords(base, ARGV)
for _, id in ipairs(ARGV) do
  local record = records[id]
  if record and isOpen(record) and tonumber(record[DEADLINE]) <= now then
    endOutside(base, id, record, 'expired', int(now), expiredError)
  end
  answers[#answers + 1] = record and record[STATE] or 'none'
end
flushNotices()
return answers
