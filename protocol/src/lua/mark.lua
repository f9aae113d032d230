-- Mark this place in the stream of writes, and answer what jobs are here. What is waited for after it on the same connection (WAIT, WAITAOF)
-- covers the mark and with it all that was read, whoever wrote that: replicas and the append-only file get writes in this order.
-- KEYS  1 base of the queue's keys
-- ARGV  ids of jobs
-- Answers  per job 2: its record or "", its tombstone or "".
-- Keeps: nothing is answered that was written after the mark. It passes when memory is full: outcomes are told then, too.
-- Flags: allow-oom
local base, found = KEYS[1], {}
for at, id in ipairs(ARGV) do
  local values = redis.call('MGET', base .. 'job:' .. id, base .. 'tomb:' .. id)
  found[2 * at - 1], found[2 * at] = values[1] or '', values[2] or ''
end
redis.call('SET', base .. 'mark', '', 'PX', 60000)
return found
