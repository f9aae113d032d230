-- A process reports what runs of this queue took, of which estimates are made, and what it has counted; both survive every process.
-- KEYS  1 base of the queue's keys
-- ARGV  1 reporter  2 its number for these counters, which rises ("0": there are none)  then per fact 3: field, how, text. How is the most
--       entries that the field keeps (0: the text takes the place of what was there; else the entries of the text, divided by spaces, are
--       added), or, for counters, "+" (the numbers of the text are added to those that are there) or "max" (the larger number stands)
-- Answers  "reported", or "repeated" when these counters had been added before.
-- Keeps: no field holds more than its most entries; the newest stay. Counters only grow.
-- Under repetition: counters are added once; a sample is counted twice, which moves an estimate by one run.
-- Flags: allow-oom
-- @include lib-time.lua lib-tally.lua
local base, reporter, number = KEYS[1], ARGV[1], tonumber(ARGV[2])
local runs, tally = base .. 'runs', base .. 'tally'
local forgetMs = 3600000 -- far longer than a process that the store does not answer lives on

-- Whether these counters are to be added; then they count as added.
local function isNew()
  if number == 0 then return false end
  local field, now = 'told ' .. reporter, nowMs()
  local last = redis.call('HGET', tally, field)
  if last and tonumber(string.match(last, '^%d+')) >= number then return false end
  if not last then
    for _, other in ipairs(redis.call('HKEYS', tally)) do
      local at = string.sub(other, 1, 5) == 'told ' and string.match(redis.call('HGET', tally, other), '%d+$')
      if at and at + forgetMs < now then redis.call('HDEL', tally, other) end
    end
  end
  redis.call('HSET', tally, field, int(number) .. ' ' .. int(now))
  return true
end

local counts = isNew()
for at = 3, #ARGV, 3 do
  local field, how, text = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if how == '+' then
    if counts then raise(base, field, text) end
  elseif how == 'max' then
    if counts and tonumber(text) > (tonumber(redis.call('HGET', tally, field) or '') or 0) then redis.call('HSET', tally, field, text) end
  else
    local most = tonumber(how)
    if most > 0 then
      local before = redis.call('HGET', runs, field)
      if before then text = before .. ' ' .. text end
      local entries = {}
      for entry in string.gmatch(text, '%S+') do entries[#entries + 1] = entry end
      text = table.concat(entries, ' ', math.max(1, #entries - most + 1))
    end
    redis.call('HSET', runs, field, text)
  end
end
return (counts or number == 0) and 'reported' or 'repeated'
