-- Fragment: tells coordinators of the ends that they wait for. Included by every script that may reach an outcome.
-- Keeps: each waiting coordinator is told once per call.

local notices = {} -- by waiter
local lengths = {} -- what a notice says between the id and the record, where the waiter is to count it; by the record's bytes

-- Collects one notice for every coordinator that waits for the job; publishNotices() tells them, one message each. A notice is a line "<id>
-- <1 for the one waiter that counts it, else 0> <bytes of the record>", then the record and a newline.
local function note(id, waiters, text)
  if waiters == '-' then return end
  local length = lengths[#text]
  if not length then
    length = ' 1 ' .. #text .. '\n'
    lengths[#text] = length
  end
  local lines = notices[waiters]
  if lines then -- the one waiter of a job, which has others
    local at = #lines
    lines[at + 1], lines[at + 2], lines[at + 3], lines[at + 4] = '\n', id, length, text
    return
  end
  for waiter in string.gmatch(waiters, '[^,]+') do
    lines = notices[waiter] or {}
    local at = #lines
    if at > 0 then
      at = at + 1
      lines[at] = '\n'
    end
    lines[at + 1], lines[at + 2], lines[at + 3] = id, length, text
    notices[waiter] = lines
    length = ' 0 ' .. #text .. '\n'
  end
end

local function publishNotices()
  for waiter, lines in pairs(notices) do redis.call('PUBLISH', 'sy:notices:' .. waiter, table.concat(lines)) end
  notices = {}
end
