/**
 * Finds out whether another live host has this one's id, and tells it once for each. Nothing of a job depends on ids, so that such hosts do not
 * disturb one another's work; but they are drained together, and records, figures and logs do not tell them apart.
 */

import { type ChangingFacts, type HostFacts, shareTheirId } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";
import type { RedisClient } from "../redis-client.ts";

/** Between two looks at who has registered. */
const lookEveryMs = 3_000;
/** A registration is listed a little after the moment that it bears. */
const lateMs = 30_000;

interface Parts {
  redis: RedisClient;
  clock: Clock;
  facts: Pick<HostFacts, "id" | "incarnation">;
  log: (event: string, fields?: Record<string, unknown>) => void;
}

interface Row {
  lives: boolean;
  draining: boolean;
  registeredMs: number;
  beatMs: number;
  facts: HostFacts;
}

export class SharedId {
  readonly #parts: Parts;
  /** Incarnations of which it is known whether they have this id: it never changes. Those that are listed no more are forgotten. */
  #known: ReadonlySet<string> = new Set();
  /** Of these, those that have it and may live. */
  readonly #namesakes = new Set<string>();
  readonly #told = new Set<string>();
  #lookedMs = Number.NEGATIVE_INFINITY;
  #newestMs: number | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** With each beat. Throws when the store fails: the next one goes on. */
  async follow(): Promise<void> {
    const nowMs = this.#parts.clock.monotonicMs();
    if (nowMs - this.#lookedMs >= lookEveryMs) {
      await this.#look();
      this.#lookedMs = nowMs;
    }
    if (this.#namesakes.size > 0) await this.#judge();
  }

  /** All that are listed, and later those that came since. */
  async #look(): Promise<void> {
    const { facts, redis } = this.#parts;
    const from = this.#newestMs === undefined ? "-inf" : this.#newestMs - lateMs;
    const listed = await redis.zrangebyscore(keys.hosts, from, "+inf", "WITHSCORES");
    const incarnations = listed.filter((_, at) => at % 2 === 0);
    const unknown = incarnations.filter((one) => one !== facts.incarnation && !this.#known.has(one));
    const rows = await Promise.all(unknown.map((one) => this.#rowOf(one)));
    for (const [at, one] of unknown.entries()) if (rows[at]?.facts.id === facts.id) this.#namesakes.add(one);
    this.#known = new Set(incarnations);
    if (listed.length > 0) this.#newestMs = Number(listed.at(-1));
  }

  async #judge(): Promise<void> {
    const { facts, log } = this.#parts;
    const own = await this.#rowOf(facts.incarnation);
    for (const one of this.#namesakes) {
      const other = await this.#rowOf(one);
      if (!other?.lives || this.#told.has(one)) this.#namesakes.delete(one);
      else if (own && shareTheirId(own, other)) {
        this.#told.add(one);
        log("host_id_shared", {
          other: { incarnation: one, metrics: other.facts.metrics, registered_at: new Date(other.registeredMs).toISOString() },
          fix: `another live worker is ${facts.id} too: give each a SWITCHYARD_HOST_ID (--host-id) of its own, or none, and it chooses one`,
        });
      }
    }
  }

  async #rowOf(incarnation: string): Promise<Row | undefined> {
    const row = await this.#parts.redis.hmget(keys.host(incarnation), "state", "registered", "beat", "facts", "changing");
    const [state, registered, beat, facts, changing] = row;
    if (!state || !facts || !changing) return undefined;
    const { draining } = JSON.parse(changing) as ChangingFacts;
    const [registeredMs, beatMs] = [Number(registered), Number(beat)];
    return { lives: state !== "lost", draining, registeredMs, beatMs, facts: JSON.parse(facts) as HostFacts };
  }
}
