-- A host reports what runs of this queue took: estimates are made of it, and survive every process.
-- KEYS  1 base of the queue's keys
-- ARGV  per fact 3: field, most entries (0: the text takes the place of what was there), text (entries divided by spaces)
-- Answers  "reported".
-- Keeps: no field holds more than its most entries; the newest stay.
-- Under repetition: a sample is counted twice, which moves an estimate by one run.
-- Flags: allow-oom
local name = KEYS[1] .. 'runs'
for at = 1, #ARGV, 3 do
  local field, most, text = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
  if most > 0 then
    local before = redis.call('HGET', name, field)
    if before then text = before .. ' ' .. text end
    local entries = {}
    for entry in string.gmatch(text, '%S+') do entries[#entries + 1] = entry end
    text = table.concat(entries, ' ', math.max(1, #entries - most + 1))
  end
  redis.call('HSET', name, field, text)
end
return 'reported'
