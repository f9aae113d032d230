/** Lists jobs newest first over one or many queues, from their index sets, by a cursor that is stable under inserts. */

import { SwitchyardError } from "@switchyard/protocol";
import { keys, tagOf } from "@switchyard/protocol/redis";
import type { JobListFilter, JobPage, JobRecord } from "../ports/job-store.ts";
import { recordOf } from "./job-rows.ts";
import type { RedisConnection } from "./redis-connection.ts";

/** Entries that one request may look at; then it answers what it has, with a cursor. */
const scanLimit = 10_000;

interface Entry {
  id: string;
  createdMs: number;
}

/** Newest first; ids break ties, so that the order is total. */
function isAfter(entry: Entry, cursor: Entry): boolean {
  return entry.createdMs < cursor.createdMs || (entry.createdMs === cursor.createdMs && entry.id < cursor.id);
}

function parseCursor(text: string): Entry {
  const [created, id] = Buffer.from(text, "base64url").toString("utf8").split(" ");
  if (!created || !id || !Number.isSafeInteger(Number(created))) {
    throw new SwitchyardError("invalid_request", "the cursor is not one that a list answered", {
      fields: [{ pointer: "cursor", expected: "the cursor of links.next", got: text.slice(0, 40) }],
    });
  }
  return { id, createdMs: Number(created) };
}

async function nextEntries(redis: RedisConnection, tags: readonly string[], before: Entry | undefined, count: number): Promise<Entry[]> {
  const max = before ? before.createdMs : "+inf";
  // entries that share the cursor's millisecond are asked for apart, so that a page never ends inside them
  const commands = tags.flatMap((tag) =>
    ["index", "recent"].flatMap((list) => {
      const key = `${keys.base(tag)}${list}`;
      const rest: [string, ...(string | number)[]] = [
        "zrevrangebyscore",
        key,
        before ? `(${max}` : max,
        "-inf",
        "WITHSCORES",
        "LIMIT",
        0,
        count,
      ];
      return before ? [rest, ["zrangebyscore", key, max, max, "WITHSCORES"] as typeof rest] : [rest];
    }),
  );
  const entries: Entry[] = [];
  for (const reply of await redis.sendAll(commands)) {
    const flat = reply as string[];
    for (let at = 0; at < flat.length; at += 2) entries.push({ id: flat[at] as string, createdMs: Number(flat[at + 1]) });
  }
  return entries
    .filter((entry) => !before || isAfter(entry, before))
    .sort((a, b) => (isAfter(b, a) ? -1 : 1))
    .slice(0, count);
}

function matches(record: JobRecord, filter: JobListFilter): boolean {
  if (filter.state && record.state !== filter.state) return false;
  if (filter.class && record.class !== filter.class) return false;
  if (filter.createdAfterMs !== undefined && record.createdMs <= filter.createdAfterMs) return false;
  if (filter.tag) {
    const [name, value] = filter.tag.split(/[:=](.*)/s);
    const held = record.tags?.[name as string];
    if (held === undefined || (value !== undefined && held !== value)) return false;
  }
  return true;
}

export async function listJobs(redis: RedisConnection, tags: readonly string[], filter: JobListFilter): Promise<JobPage> {
  let cursor = filter.cursor ? parseCursor(filter.cursor) : undefined;
  const jobs: JobRecord[] = [];
  for (let scanned = 0; scanned < scanLimit; ) {
    const entries = await nextEntries(redis, tags, cursor, Math.max(50, filter.limit));
    if (entries.length === 0) return { jobs };
    const rows = await redis.sendAll(entries.map(({ id }) => ["get", `${keys.base(tagOf(id))}job:${id}`]));
    for (const [at, entry] of entries.entries()) {
      scanned++;
      cursor = entry;
      const text = rows[at];
      if (!text) continue; // its record has gone; the sweeper will drop the entry
      const record = recordOf(entry.id, String(text));
      if (matches(record, filter)) jobs.push(record);
      if (jobs.length === filter.limit) return page(jobs, cursor);
    }
    if (filter.createdAfterMs !== undefined && (cursor?.createdMs ?? 0) <= filter.createdAfterMs) return { jobs };
  }
  return page(jobs, cursor);
}

function page(jobs: JobRecord[], cursor: Entry | undefined): JobPage {
  return cursor ? { jobs, cursor: Buffer.from(`${cursor.createdMs} ${cursor.id}`).toString("base64url") } : { jobs };
}
