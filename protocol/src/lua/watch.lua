-- Read a record and register a waiter in one step, so that no outcome falls between the two.
-- KEYS  1 base of the queue's keys
-- ARGV  1 job id  2 coordinator
-- Answers  {"record", its text}, or {"tomb", "<state> <finishedMs> <flow>"}, or nothing.
-- Keeps: a terminal record is not written.
-- Flags: allow-oom
-- @include lib-record.lua
local base, id, coordinator = KEYS[1], ARGV[1], ARGV[2]
local record = loadRecord(base, id)
if not record then
  local tomb = redis.call('GET', base .. 'tomb:' .. id)
  return tomb and { 'tomb', tomb } or {}
end
if addWaiter(record, coordinator) then storeRecord(base, id, record) end
return { 'record', recordText(record) }
