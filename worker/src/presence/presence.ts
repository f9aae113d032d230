/**
 * This host's presence: one heartbeat a second with what may change, and the news that the cluster has given it up. A host that was declared
 * lost never comes back under the same incarnation; its process ends and a new one registers.
 */

import type { ChangingFacts, HostFacts } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";
import type { RedisClient } from "../redis-client.ts";
import { runScript } from "../redis-connection.ts";

export const heartbeatMs = 1_000;

interface Parts {
  redis: RedisClient;
  clock: Clock;
  facts: HostFacts;
  changing: () => Omit<ChangingFacts, "clockOffsetMs">;
  knownClaims: () => string;
  onLost: () => void;
  onBeat: () => void;
  /** How long the store took to accept a beat. */
  onRoundtrip: (ms: number) => void;
}

export class Presence {
  readonly #parts: Parts;
  readonly #stop = new AbortController();
  #loop: Promise<void> = Promise.resolve();
  #clockOffsetMs = 0;
  #lastBeatMs = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Registers; resolves after the first beat was accepted. */
  async register(): Promise<void> {
    await this.#beat();
    this.#loop = this.#beats();
  }

  async #beats(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await this.#parts.clock.sleep(heartbeatMs, this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      await this.beatNow().catch(() => {}); // Redis away: the next beat says whether we are still known
    }
  }

  /** Beats out of turn, so that a change is seen at once. */
  async beatNow(): Promise<void> {
    await this.#beat();
    this.#parts.onBeat();
  }

  async #beat(): Promise<void> {
    const { redis, clock, facts, changing, knownClaims, onLost, onRoundtrip } = this.#parts;
    const sentMs = clock.nowMs();
    const askedMs = clock.monotonicMs();
    const reply = (await runScript(redis, "heartbeat", keys.host(facts.incarnation), [
      JSON.stringify({ ...changing(), clockOffsetMs: this.#clockOffsetMs } satisfies ChangingFacts),
      knownClaims(),
      JSON.stringify(facts),
    ])) as [number, string];
    const answeredMs = clock.nowMs();
    onRoundtrip(clock.monotonicMs() - askedMs);
    this.#clockOffsetMs = Math.round(reply[0] - (sentMs + answeredMs) / 2);
    this.#lastBeatMs = clock.monotonicMs();
    if (reply[1] === "lost") return onLost();
    // with each beat: a store that lost its data lists its hosts again
    await redis.zadd(keys.hosts, "NX", Math.round(reply[0]), facts.incarnation);
  }

  /** Milliseconds since the store last accepted a beat. */
  silentMs(): number {
    return this.#parts.clock.monotonicMs() - this.#lastBeatMs;
  }

  /** Says goodbye: the incarnation is over at once, nobody waits for its beats. */
  async deregister(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    await runScript(this.#parts.redis, "lose", keys.host(this.#parts.facts.incarnation), [-1]);
    await this.#parts.redis.zrem(keys.hosts, this.#parts.facts.incarnation);
  }

  stop(): void {
    this.#stop.abort();
  }
}
