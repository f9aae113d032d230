-- Fragment: the one clock that decides. Each script reads it once, in whole milliseconds.
local function nowMs()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
