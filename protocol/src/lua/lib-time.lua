-- Fragment: the one clock that decides. Each script reads it once, in whole milliseconds.
local function nowMs()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Whole numbers as text. Redis and Lua turn numbers into text by way of floating point, which showed in profiles.
local function int(value)
  return string.format('%d', value)
end
