-- Change one entry of a hash, if it still is what the writer has read.
-- KEYS  1 the hash
-- ARGV  1 field  2 value as it was read, "" for none  3 new value, "" to remove the entry
-- Answers  what stands there then, "" for nothing: the new value, or what somebody else has written meanwhile.
-- Keeps: nobody's change is overwritten unseen.
-- Under repetition: the same answer.
local found = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if found ~= ARGV[2] then return found end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return ARGV[3]
