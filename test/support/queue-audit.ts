/** Everything that one queue holds in Redis, read in one step; only for tests, since it scans. */

import type { JobClass, JobState } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { Redis } from "ioredis";
import type { QueueAudit } from "./job-rig.ts";

export async function auditQueue(redis: Redis, tag: string): Promise<QueueAudit> {
  return auditOf(JSON.parse((await redis.eval(auditScript, 1, keys.base(tag))) as string) as RawAudit);
}

interface RawAudit {
  now: number;
  records: [id: string, ttlMs: number, ...fields: (string | false)[]][];
  order: [flow: string, ids: string[]][];
  later: string[];
  due: string[];
  dead: string[];
  claims: string[];
  tickets: string[];
  immortal: string[];
}

// An empty Lua table comes back as {}.
const auditScript = `
local base = KEYS[1]
local time = redis.call('TIME')
local answer = { now = time[1] * 1000 + math.floor(time[2] / 1000), records = {}, immortal = {} }
local now, untilMs = answer.now, {}
local ended = redis.call('ZRANGE', base .. 'ended', 0, -1, 'WITHSCORES')
for at = 1, #ended, 2 do
  for id in string.gmatch(ended[at], '%S+') do untilMs[id] = ended[at + 1] end
end
for _, key in ipairs(redis.call('KEYS', string.gsub(base, '[%[%]]', '?') .. '*')) do
  local name = string.sub(key, #base + 1)
  local id = string.match(name, '^job:(.+)$')
  local ttl = redis.call('PTTL', key)
  if id then
    -- it is forgotten at the next look after its time, ten seconds later at the latest
    if ttl < 0 and untilMs[id] and now - untilMs[id] < 15000 then ttl = math.max(0, untilMs[id] - now) end
    local row = { string.match(redis.call('GET', key), '^(%S+) (%S+) %S+ %S+ %S+ (%S+) (%S+) %S+ (%S+)') }
    answer.records[#answer.records + 1] = { id, ttl, row[1], row[2], row[3], row[5], row[4] }
    if row[1] ~= 'queued' and row[1] ~= 'running' and ttl < 0 then answer.immortal[#answer.immortal + 1] = name end
  elseif (string.find(name, '^tomb:') or string.find(name, '^out:') or string.find(name, '^attempts:')) and ttl < 0 then
    answer.immortal[#answer.immortal + 1] = name
  elseif string.find(name, '^in:') and ttl < 0 then
    local state = string.match(redis.call('GET', base .. 'job:' .. string.sub(name, 4)) or '', '^%S+')
    if state ~= 'queued' and state ~= 'running' then answer.immortal[#answer.immortal + 1] = name end
  end
end
answer.order = {}
for _, flow in ipairs(redis.call('HKEYS', base .. 'flows')) do
  answer.order[#answer.order + 1] = { flow, redis.call('ZRANGE', base .. 'order:' .. flow, 0, -1) }
end
answer.later = redis.call('ZRANGE', base .. 'later', 0, -1)
answer.due = redis.call('ZRANGE', base .. 'due', 0, -1)
answer.dead = redis.call('ZRANGE', base .. 'dead', 0, -1)
answer.claims = redis.call('HGETALL', base .. 'claims')
answer.tickets = redis.call('HGETALL', base .. 'tickets')
return cjson.encode(answer)`;

function auditOf(raw: RawAudit): QueueAudit {
  const list = (value: unknown): string[] => (Array.isArray(value) ? (value as string[]) : []);
  const pairs = (value: unknown): [string, string][] => {
    const flat = list(value);
    return flat.flatMap((name, at) => (at % 2 === 0 ? [[name, flat[at + 1] as string] as [string, string]] : []));
  };
  const records = Array.isArray(raw.records) ? raw.records : [];
  const flows = Array.isArray(raw.order) ? raw.order : [];
  const waitingIn = (jobClass: JobClass): string[] => flows.flatMap(([flow, ids]) => (flow.startsWith(`${jobClass}:`) ? list(ids) : []));
  return {
    nowMs: raw.now,
    jobs: new Map(
      records.map(([id, ttlMs, state, revision, fence, attempt, failures]) => [
        id,
        {
          state: state as JobState,
          revision: Number(revision),
          fence: Number(fence),
          attempt: Number(attempt),
          failures: Number(failures),
          ttlMs,
        },
      ]),
    ),
    order: { interactive: waitingIn("interactive"), standard: waitingIn("standard"), batch: waitingIn("batch") },
    later: list(raw.later),
    due: list(raw.due),
    dead: list(raw.dead),
    claims: pairs(raw.claims).map(([incarnation, text]) => ({
      incarnation,
      jobs: [...text.matchAll(/ ([\w-]+)=(\d+)/g)].map(([, id, fence]) => ({ id: id as string, fence: Number(fence) })),
    })),
    tickets: pairs(raw.tickets).map(([id, text]) => {
      const [state, incarnation, until] = text.split(" ") as [string, string, string];
      return { id, state, incarnation, untilMs: Number(until) };
    }),
    immortal: list(raw.immortal),
  };
}
