-- Fragment: counters of a queue, the hash `tally`: by field whole numbers divided by spaces, durations in microseconds; see
-- scheduling/queue-tally.ts. Included by report, and before lib-finish by the scripts that end jobs.
-- Keeps: counters only grow; each of a reporter's sequences is added once.

local function raise(base, field, numbers)
  local sums, at = {}, 0
  for number in string.gmatch(redis.call('HGET', base .. 'tally', field) or '', '%S+') do sums[#sums + 1] = number end
  for number in string.gmatch(numbers, '%S+') do
    at = at + 1
    sums[at] = string.format('%.0f', (tonumber(sums[at]) or 0) + number)
  end
  redis.call('HSET', base .. 'tally', field, table.concat(sums, ' '))
end
