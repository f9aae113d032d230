-- Fragment: who is told of a job's outcome. Included by admit and watch.
-- Keeps: each coordinator stands in the list once; an ended record is not written.
local function addWaiter(key, state, waiters, coordinator)
  if state ~= 'queued' and state ~= 'running' then return end
  if not waiters or waiters == '' then
    redis.call('HSET', key, 'waiters', coordinator)
  elseif not string.find(',' .. waiters .. ',', ',' .. coordinator .. ',', 1, true) then
    redis.call('HSET', key, 'waiters', waiters .. ',' .. coordinator)
  end
end
