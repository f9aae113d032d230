/** Lists jobs newest first over one or many queues, from their index sets, by a cursor that is stable under inserts. */

import { keys, type RedisCommand, type RedisReply, tagOf } from "@switchyard/protocol/redis";
import type { JobListFilter, JobPage, JobRecord } from "../ports/job-store.ts";
import { isAfter, type ListPlace, matches, pageOf, placeOf } from "./job-pages.ts";
import { recordOf } from "./job-rows.ts";
import type { RedisConnection } from "./redis-connection.ts";
import { fieldsOf } from "./redis-fields.ts";

/** Entries that one request may look at; then it answers what it has, with a cursor. */
const scanLimit = 10_000;
/** Hot calls share the connection: this many commands are sent at once, and the next when they are answered. */
const commandsPerWrite = 500;
/** Each is asked with up to four commands. */
const sourcesPerWrite = 125;
const maxStretch = 256;

/** Of each queue: held jobs, and all others. A held job that is kept moves from the first to the second, so they are asked in this order. */
const allJobs = ["recent", "index"] as const;
const deadLetters = ["dead"] as const;

/** What is known of one queue's lists: a stretch of entries that was read, and where it ends. */
interface Source {
  tag: string;
  /** Entries up to and with this one were read. */
  last: ListPlace | undefined;
  /** How many of them were not handed on yet. */
  left: number;
  /** How many are read at once; rises with use. */
  count: number;
  /** Nothing follows `last`. */
  done: boolean;
}

/** Merges the lists of many queues, newest first, by stretches: a queue is asked again only when most of its last stretch is used. */
class Entries {
  readonly #redis: RedisConnection;
  readonly #lists: readonly string[];
  readonly #sinceMs: number | undefined;
  #sources: Source[] = [];
  /** What was read and not handed on, in order. */
  #read: (ListPlace & { source: Source })[] = [];

  constructor(redis: RedisConnection, how: { lists: readonly string[]; sinceMs: number | undefined }) {
    this.#redis = redis;
    this.#lists = how.lists;
    this.#sinceMs = how.sinceMs;
  }

  /** Most queues of a large repository list nothing: they are asked once, and left out. */
  async open(tags: readonly string[], how: { before: ListPlace | undefined; expected: number }): Promise<void> {
    const listing: string[] = [];
    for (let from = 0; from < tags.length; from += commandsPerWrite) {
      const asked = tags.slice(from, from + commandsPerWrite);
      const found = await this.#redis.sendAll(asked.map((tag) => ["exists", ...this.#lists.map((list) => `${keys.base(tag)}${list}`)]));
      listing.push(...asked.filter((_tag, at) => Number(found[at]) > 0));
    }
    const count = Math.max(2, Math.min(how.expected, Math.ceil((2 * how.expected) / Math.max(1, listing.length))));
    this.#sources = listing.map((tag) => ({ tag, last: how.before, left: 0, count, done: false }));
  }

  /** At most `count` entries that follow those before; none: there are no more. */
  async next(count: number): Promise<ListPlace[]> {
    const entries: ListPlace[] = [];
    while (entries.length < count) {
      if (this.#sources.some(isUsedUp)) await this.#readOn();
      let at = 0;
      for (let isComplete = true; isComplete && at < this.#read.length && entries.length < count; at++) {
        const { id, atMs, source } = this.#read[at]!;
        entries.push({ id, atMs });
        source.left--;
        isComplete = !isUsedUp(source); // what follows in that queue may come before the others' next
      }
      if (at === 0) break;
      this.#read = this.#read.slice(at);
    }
    return entries;
  }

  /** Reads the next stretches of queues that have used theirs up, and of those that soon will have. */
  async #readOn(): Promise<void> {
    const low = this.#sources.filter((source) => !source.done && source.left <= source.count / 4);
    for (let from = 0; from < low.length; from += sourcesPerWrite) await this.#stretches(low.slice(from, from + sourcesPerWrite));
    this.#read.sort((a, b) => (a.id === b.id ? 0 : isAfter(b, a) ? -1 : 1));
  }

  async #stretches(sources: readonly Source[]): Promise<void> {
    const commands = sources.map((source) => this.#commandsFor(source));
    const replies = await this.#redis.sendAll(commands.flat());
    let at = 0;
    sources.forEach((source, index) => {
      const size = commands[index]!.length;
      this.#take(source, replies.slice(at, at + size).map(entriesOf));
      at += size;
    });
  }

  /** Entries that share the last one's millisecond are asked for apart, so that no stretch ends inside them. */
  #commandsFor({ tag, last, count }: Source): RedisCommand[] {
    const min = this.#sinceMs === undefined ? "-inf" : `(${this.#sinceMs}`;
    return this.#lists.flatMap((list): RedisCommand[] => {
      const key = `${keys.base(tag)}${list}`;
      const max = last ? `(${last.atMs}` : "+inf";
      const rest: RedisCommand = ["zrevrangebyscore", key, max, min, "WITHSCORES", "LIMIT", 0, count];
      return last ? [rest, ["zrangebyscore", key, last.atMs, last.atMs, "WITHSCORES"]] : [rest];
    });
  }

  /** A queue is read up to where its shortest list was read; what goes beyond is left for the next time. */
  #take(source: Source, replies: readonly ListPlace[][]): void {
    const { count, last } = source;
    const repliesPerList = replies.length / this.#lists.length;
    const cut = replies.filter((reply, at) => at % repliesPerList === 0 && reply.length >= count).map((reply) => reply.at(-1)!);
    const end = cut.reduce<ListPlace | undefined>((newest, entry) => (newest && isAfter(entry, newest) ? newest : entry), undefined);
    const ids = new Set<string>();
    for (const entry of replies.flat()) {
      if ((last && !isAfter(entry, last)) || (end && isAfter(entry, end)) || ids.has(entry.id)) continue;
      ids.add(entry.id);
      this.#read.push({ ...entry, source });
    }
    source.left += ids.size;
    source.last = end ?? last;
    source.done = end === undefined;
    source.count = Math.min(2 * count, maxStretch);
  }
}

function isUsedUp({ done, left }: Source): boolean {
  return !done && left === 0;
}

function entriesOf(reply: RedisReply): ListPlace[] {
  return [...fieldsOf(reply)].map(([id, atMs]) => ({ id, atMs: Number(atMs) }));
}

export async function listJobs(redis: RedisConnection, tags: readonly string[], filter: JobListFilter): Promise<JobPage> {
  let cursor = placeOf(filter.cursor);
  // what is younger is not even looked at; dead letters are ordered by their end
  const { createdBeforeMs: beforeMs } = filter;
  if (beforeMs !== undefined && !filter.dead && (cursor === undefined || cursor.atMs >= beforeMs)) cursor = { id: "", atMs: beforeMs };
  const jobs: JobRecord[] = [];
  const expected = Math.max(50, filter.limit);
  const listed = new Entries(
    redis,
    filter.dead ? { lists: deadLetters, sinceMs: undefined } : { lists: allJobs, sinceMs: filter.createdAfterMs },
  );
  await listed.open(tags, { before: cursor, expected });
  for (let scanned = 0; scanned < scanLimit; ) {
    const entries = await listed.next(expected);
    if (entries.length === 0) return { jobs };
    const rows = await redis.sendAllRaw(entries.map(({ id }) => ["get", `${keys.base(tagOf(id))}job:${id}`]));
    for (const [at, entry] of entries.entries()) {
      scanned++;
      cursor = entry;
      const bytes = rows[at] as Buffer | null;
      if (!bytes) continue; // its record has gone; the sweeper will drop the entry
      const record = recordOf(entry.id, bytes);
      if (matches(record, filter)) jobs.push(record);
      if (jobs.length === filter.limit) return pageOf(jobs, cursor);
    }
  }
  return pageOf(jobs, cursor);
}
