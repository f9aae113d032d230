/**
 * Durable writing on Redis: which tiers it offers, asked again once a second, and the waiting. What waits, waits together: lua/mark reads all
 * jobs that are asked for and leaves a mark behind them, then WAIT or WAITAOF on that connection waits until the mark, and so whatever
 * came before it, is where it should be. The records are read there again, and not taken from another connection, because a failed-over
 * address may lead two connections to two servers: what is answered is what the server has that was waited for.
 */

import { type DurableTier, readBlobReference, SwitchyardError } from "@switchyard/protocol";
import { keys, type RawReply, type RedisCommand, type RedisTarget, replyText, type Script, tagOf } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";
import type { BlobStore } from "../ports/blob-store.ts";
import type { DurableStore } from "../ports/durable-store.ts";
import type { JobRecord, TombState } from "../ports/job-store.ts";
import { alwaysFault, alwaysSettings, type Means, type Offers, offersOf, settingsOf } from "./durability-offers.ts";
import { outputsIn, recordOf, tombOf } from "./job-rows.ts";
import { BlockingConnection } from "./redis-blocking-connection.ts";
import { type RedisConnection, scripts } from "./redis-connection.ts";

const askEveryMs = 1_000;
/** From being asked to being told that it is not settled: with the time of the write itself within what callers of a frozen store are promised. */
const settleWithinMs = 2_000;
/** Of that, what is left for the way of the reply. */
const replyMarginMs = 150;
/** Waits of one tier that are under way at once. */
const mostWaits = 8;
/**
 * The more waits are under way, the longer the next one is gathered, so that their connections last over the second that a sync may be away,
 * and a newcomer is not left to the sync after the next.
 */
const gatherMs = 40;
const mostIdsPerScript = 200;

export class RedisDurability implements DurableStore {
  readonly #redis: RedisConnection;
  readonly #clock: Clock;
  readonly #blobs: BlobStore | undefined;
  readonly #lanes: Record<DurableTier, Lane>;
  readonly #ask: (redis: RedisConnection) => Promise<Offers>;
  #offers: { askedMs: number; offers: Promise<Offers> } | undefined;

  /** `ask`: what the store offers; a test may know better than the store. */
  constructor(parts: {
    redis: RedisConnection;
    target: RedisTarget;
    clock: Clock;
    blobs?: BlobStore;
    ask?: (redis: RedisConnection) => Promise<Offers>;
  }) {
    this.#redis = parts.redis;
    this.#clock = parts.clock;
    this.#blobs = parts.blobs;
    this.#ask = parts.ask ?? storeOffers;
    this.#lanes = { fsync: new Lane(parts), replicated: new Lane(parts) };
  }

  /** At most a second old. */
  #known(): Promise<Offers> {
    const nowMs = this.#clock.monotonicMs();
    if (!this.#offers || nowMs - this.#offers.askedMs > askEveryMs) {
      const offers = this.#ask(this.#redis);
      this.#offers = { askedMs: nowMs, offers };
      offers.catch(() => {
        this.#offers = undefined;
      });
    }
    return this.#offers.offers;
  }

  async require(tier: DurableTier): Promise<void> {
    const offers = await this.#known();
    const offer = offers[tier];
    if ("by" in offer) return;
    const others = (["fsync", "replicated"] as const).filter((other) => "by" in offers[other]);
    throw new SwitchyardError(
      "durability_unavailable",
      `durability '${tier}' cannot be given: ${offer.why}. To change that: ${offer.fix}`,
      {
        fields: [{ pointer: "/durability", expected: `one of ${["fast", ...others].join(", ")}`, got: tier }],
      },
    );
  }

  async settled(id: string, tier: DurableTier): Promise<JobRecord | TombState | undefined> {
    const offer = await this.#offerFor(id, tier);
    try {
      const lane = this.#lanes[tier];
      let { record, tomb } = await lane.settled(id, offer);
      if (!record && !tomb) {
        // a connection that was idle may lead to a server that is not the one any more, and never had the job
        lane.closeIdle();
        ({ record, tomb } = await lane.settled(id, offer));
      }
      if (record && tier === "fsync") await this.#syncOutputs(record);
      if (record) return recordOf(id, record);
      return tomb && tombOf(tomb.toString());
    } catch (error) {
      if (!(error instanceof Unsettled || error instanceof SwitchyardError)) throw error;
      this.#offers = undefined; // what it rests on may have changed
      throw unsettled(id, tier, error.message);
    }
  }

  /** Those that are a file; whoever wrote it did not know the tier. */
  async #syncOutputs(record: Buffer): Promise<void> {
    const reference = readBlobReference(outputsIn(record) ?? noBytes);
    if (reference) await this.#blobs?.sync(reference);
  }

  /** What was promised with the admission is kept, or waited for: it is not refused afterwards, and never weakened. */
  async #offerFor(id: string, tier: DurableTier): Promise<Means> {
    const offer = (await this.#known())[tier];
    if ("by" in offer) return offer.by;
    throw unsettled(id, tier, offer.why);
  }

  close(): void {
    for (const lane of Object.values(this.#lanes)) lane.close();
  }
}

const noBytes = new Uint8Array();

/** Asks the store what it offers. Nothing here blocks the connection. Throws `store_unavailable`. */
export async function storeOffers(redis: RedisConnection): Promise<Offers> {
  if (redis.form === "cluster") {
    // a wait concerns one connection, and so one master; which one depends on the queue
    const none = { why: "the store is a cluster, whose masters are not waited for yet", fix: "use one server, or one behind sentinels" };
    return { fsync: none, replicated: none };
  }
  const [info, settings, wait, waitAof] = await redis.send([
    ["info"],
    ["config", "get", ...Object.keys(alwaysSettings)],
    ["wait", 0, 1],
    ["waitaof", 0, 0, 1],
  ]);
  // cut off in the middle: an Error in a reply's place that is no refusal
  for (const reply of [info, settings, wait, waitAof]) {
    if (reply instanceof Error && !/^(ERR|NOPERM)/.test(reply.message)) {
      throw new SwitchyardError("store_unavailable", "the store does not answer; try again", { retryAfterMs: 1_000 });
    }
  }
  const known = settings instanceof Error ? settings : settingsOf(settings);
  return offersOf({ info: info instanceof Error ? info : String(info), settings: known, wait, waitAof });
}

/** Why the wait was in vain, in words for the caller. */
class Unsettled extends Error {}

function unsettled(id: string, tier: DurableTier, why: string): SwitchyardError {
  const where = tier === "fsync" ? "safe on its disk" : "on a replica";
  const detail = `job ${id} is in the store, but not known to be ${where}: ${why}. It goes on; ask for it again, or repeat the request with the same idempotency key`;
  return new SwitchyardError("store_unavailable", detail, { jobId: id, retryAfterMs: 1_000 });
}

interface Found {
  record: Buffer | undefined;
  tomb: Buffer | undefined;
}

interface Asked {
  id: string;
  means: Means;
  untilMs: number;
  resolve: (found: Found) => void;
  reject: (error: unknown) => void;
}

/** The waits of one tier: a replica that hangs must not hold up who asks for the disk. */
class Lane {
  readonly #target: RedisTarget;
  readonly #clock: Clock;
  readonly #idle: BlockingConnection[] = [];
  readonly #busy = new Set<BlockingConnection>();
  #asked: Asked[] = [];
  #stopTimer: (() => void) | undefined;

  constructor(parts: { target: RedisTarget; clock: Clock }) {
    this.#target = parts.target;
    this.#clock = parts.clock;
  }

  settled(id: string, means: Means): Promise<Found> {
    const { promise, resolve, reject } = Promise.withResolvers<Found>();
    this.#asked.push({ id, means, untilMs: this.#clock.monotonicMs() + settleWithinMs, resolve, reject });
    if (this.#asked.length === 1) setImmediate(() => this.#schedule()); // with all others of this turn
    return promise;
  }

  #schedule(): void {
    if (this.#asked.length === 0 || this.#busy.size >= mostWaits) return;
    if (this.#busy.size === 0) this.#go();
    else this.#stopTimer ??= this.#clock.after(this.#busy.size * gatherMs, () => this.#go());
  }

  #go(): void {
    this.#stopTimer?.();
    this.#stopTimer = undefined;
    const asked = this.#asked;
    this.#asked = [];
    if (asked.length > 0) void this.#wait(asked);
  }

  async #wait(asked: readonly Asked[]): Promise<void> {
    const connection = this.#connection();
    this.#busy.add(connection);
    try {
      const found = await this.#settle(connection, asked);
      for (const { id, resolve } of asked) resolve(found.get(id) ?? { record: undefined, tomb: undefined });
    } catch (error) {
      for (const { reject } of asked) reject(error);
    } finally {
      this.#busy.delete(connection);
      if (connection.usable) this.#idle.push(connection);
      else connection.close(); // it would go on connecting for good
      if (this.#busy.size < mostWaits) this.#go(); // what has gathered meanwhile need not wait longer
    }
  }

  #connection(): BlockingConnection {
    for (let idle = this.#idle.pop(); idle; idle = this.#idle.pop()) {
      if (idle.usable) return idle;
      idle.close();
    }
    return new BlockingConnection({ target: this.#target, name: "switchyard-coordinator-durable", clock: this.#clock });
  }

  async #settle(connection: BlockingConnection, asked: readonly Asked[]): Promise<Map<string, Found>> {
    const leftMs = Math.floor(Math.min(...asked.map(({ untilMs }) => untilMs)) - this.#clock.monotonicMs());
    if (leftMs <= replyMarginMs) throw new Unsettled("too many others waited");
    const { means } = asked[0] as Asked; // of one tier any means will do for all: each proves by itself what it says
    const groups = groupsOf(asked);
    const { source } = scripts.get("mark") as Script;
    // by its text, not its digest: a server that has forgotten it would wait first and ask for the text then
    const marks = groups.map((ids): RedisCommand => ["eval", source, 1, keys.base(tagOf(ids[0] as string)), ...ids]);
    const replies = await connection.send([...marks, waitFor(means, leftMs - replyMarginMs)], leftMs);
    const fault = faultOf(means, replies.pop());
    const found = new Map<string, Found>();
    for (const [at, ids] of groups.entries()) {
      const reply = replies[at];
      if (reply instanceof Error) {
        if (/^(ERR|WRONGTYPE|NOPERM)/.test(reply.message)) throw reply; // our own fault
        connection.close(); // READONLY and its like: this is not the server any more, or it is gone
        throw new Unsettled("the store does not answer, or takes no writes any more");
      }
      const values = reply as Buffer[];
      ids.forEach((id, of) => {
        const [record, tomb] = values.slice(2 * of, 2 * of + 2);
        found.set(id, { record: record?.length ? record : undefined, tomb: tomb?.length ? tomb : undefined });
      });
    }
    if (fault !== undefined) throw new Unsettled(fault);
    return found;
  }

  closeIdle(): void {
    for (const connection of this.#idle.splice(0)) connection.close();
  }

  close(): void {
    for (const connection of [...this.#idle, ...this.#busy]) connection.close();
  }
}

/** Ids of one queue each, not more than a script should read at once. */
function groupsOf(asked: readonly Asked[]): string[][] {
  const groups: string[][] = [];
  for (const ids of Map.groupBy(new Set(asked.map(({ id }) => id)), tagOf).values()) {
    for (let from = 0; from < ids.length; from += mostIdsPerScript) groups.push(ids.slice(from, from + mostIdsPerScript));
  }
  return groups;
}

function waitFor(means: Means, ms: number): RedisCommand {
  if (means === "wait") return ["wait", 1, ms];
  if (means === "waitaof") return ["waitaof", 1, 0, ms];
  return ["config", "get", ...Object.keys(alwaysSettings)];
}

/** What the answer of `waitFor` lacks; nothing when the mark is where it should be. */
function faultOf(means: Means, raw: RawReply | Error | undefined): string | undefined {
  const reply = raw instanceof Error || raw === undefined ? raw : replyText(raw);
  if (reply === undefined || reply instanceof Error) return "the store no longer says so";
  if (means === "always") return alwaysFault(settingsOf(reply));
  const reached = means === "wait" ? Number(reply) : Number((reply as unknown[])[0]);
  if (reached >= 1) return undefined;
  return means === "wait" ? "no replica has acknowledged it in time" : "its append-only file was not synced in time";
}
