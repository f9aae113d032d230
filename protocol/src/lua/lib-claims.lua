-- Fragment: what an incarnation has outstanding in a queue, one entry: "<sequence> <free at>[ told] <id>=<fence> …[ ~<sequence> <id>=<fence> …]". First the claim
-- that was made last, `told` once its host has committed some of it; behind the tilde the claim before it, while some of its jobs are not committed.

-- The last claim with its jobs; the sequence and the jobs of the one before, or nothing and "" where it has none left.
local function splitClaim(entry)
  local at = string.find(entry, ' ~', 1, true)
  if not at then return entry, nil, '' end
  local sequence, jobs = string.match(entry, '^ ~(%d+)(.*)$', at)
  if jobs == '' then sequence = nil end
  return string.sub(entry, 1, at - 1), tonumber(sequence), jobs
end

-- As it stands at the end of an entry.
local function claimBefore(sequence, jobs)
  return jobs ~= '' and ' ~' .. int(sequence) .. jobs or ''
end
