-- Fragment: jobs of held calls that ended well, several in one step. A key with a time to live costs several times as much as one without, when it is
-- written and when Redis looks for it to end it, and a busy queue has hundreds of thousands of them. So these have none: they are written together
-- and stand in the sorted set `ended`, by when to forget them, one member for those of a step: `<id> <id> …`. Coordinators forget them together.
-- Included by commit and forget.
-- Keeps: an ended record has a time to live or stands in `ended`; it is forgotten no sooner than it was to be, and not at all if it was kept on
-- meanwhile: such ids stand in `spared` until those beside them go.

-- `written`: the keys and texts of records, in turns; `ids` in the same order. No more than a claim holds.
local function keepTogether(base, untilMs, ids, written)
  redis.call('MSET', unpack(written))
  redis.call('ZADD', base .. 'ended', int(untilMs), table.concat(ids, ' '))
end

-- Forgets some of what is over, the oldest first. Answers whether more is.
local function forgetEnded(base, now)
  local ended, spared, mostMembers, mostJobs = base .. 'ended', base .. 'spared', 64, 256
  -- a key lives through the last of its milliseconds, and so do these
  local over = redis.call('ZRANGEBYSCORE', ended, '-inf', '(' .. int(now), 'LIMIT', 0, mostMembers)
  if #over == 0 then return false end
  local areSpared, names, taken, jobs = redis.call('EXISTS', spared) == 1, {}, { ended }, 0
  for _, together in ipairs(over) do
    if jobs >= mostJobs then break end
    taken[#taken + 1] = together
    for id in string.gmatch(together, '%S+') do
      jobs = jobs + 1
      if not (areSpared and redis.call('SREM', spared, id) == 1) then names[#names + 1] = base .. 'job:' .. id end
    end
  end
  redis.call('ZREM', unpack(taken))
  if #names > 0 then redis.call('UNLINK', unpack(names)) end
  return redis.call('ZCOUNT', ended, '-inf', '(' .. int(now)) > 0
end
