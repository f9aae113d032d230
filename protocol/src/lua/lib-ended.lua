-- Fragment: jobs of held calls that ended well, several in one step. A key with a time to live costs several times as much as one without, when it is
-- written and when Redis looks for it to end it, and a busy queue has hundreds of thousands of them. So these have none: they are written together
-- and stand in the sorted set `ended`, by when to forget them, one member for those of a step: `<id> <id> …`. Sweeps forget them together.
-- Included by commit, sweep and forget.
-- Keeps: an ended record has a time to live or stands in `ended`; it is forgotten no sooner than it was to be, and not at all if it was kept on
-- meanwhile: such ids stand in `spared`.

-- `written`: the keys and texts of records, in turns; `ids` in the same order.
local function keepTogether(base, untilMs, ids, written)
  local part = 500
  for from = 1, #ids, part do
    local upTo = math.min(from + part - 1, #ids)
    redis.call('MSET', unpack(written, 2 * from - 1, 2 * upTo))
    redis.call('ZADD', base .. 'ended', int(untilMs), table.concat(ids, ' ', from, upTo))
  end
end

-- Forgets what is over, the oldest first, up to some hundreds. Answers whether more is.
local function forgetEnded(base, now)
  local ended, spared, most = base .. 'ended', base .. 'spared', 500
  local areSpared, names = redis.call('EXISTS', spared) == 1, {}
  local together
  repeat
    together = redis.call('ZRANGEBYSCORE', ended, '-inf', int(now), 'LIMIT', 0, 1)[1]
    if not together or #names >= most then break end
    redis.call('ZREM', ended, together)
    for id in string.gmatch(together, '%S+') do
      if not (areSpared and redis.call('SREM', spared, id) == 1) then names[#names + 1] = base .. 'job:' .. id end
    end
  until false
  if #names > 0 then redis.call('UNLINK', unpack(names)) end
  return together ~= nil
end
