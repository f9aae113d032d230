/**
 * Loads under way, marked in the store. A model that takes the whole process down while it loads (a fault in native code, a machine without the memory) says
 * nothing of it, and nobody has claimed its jobs yet, so that they would have host after host load it. A mark whose host is gone is a death; after a few of
 * them the model is tried again only now and then. A load that succeeds anywhere takes all marks away. Without an answer from the store models are loaded all
 * the same.
 */

import type { ModelVersion } from "@switchyard/protocol";
import { keys, type RawReply, type RedisCommand, replyText } from "@switchyard/protocol/redis";

/** As many as make a job poison. */
const mostDeaths = 3;
const firstPauseMs = 60_000;
const longestPauseMs = 1_800_000;
const markLivesMs = 2 * longestPauseMs;
/** A host loads models before it registers, and until then nobody knows whether it lives. */
const unregisteredMs = 120_000;

interface Parts {
  /** Together and in order; rejects while the store is away. */
  send: (commands: readonly RedisCommand[]) => Promise<(RawReply | Error)[]>;
  hostId: string;
  incarnation: string;
  /** Of this machine: a minute more or less is nothing to these times. */
  nowMs: () => number;
}

export class LoadMarks {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Throws, with the reason, where too many hosts have died of it and it is too early for another try. */
  async begin({ tag }: ModelVersion): Promise<void> {
    const { hostId, incarnation } = this.#parts;
    const nowMs = this.#parts.nowMs();
    const deaths = await this.#deaths(tag, nowMs);
    if (deaths.length >= mostDeaths) {
      const pauseMs = Math.min(longestPauseMs, firstPauseMs * 2 ** (deaths.length - mostDeaths));
      if (nowMs < Math.max(...deaths) + pauseMs) throw new Error(reasonFor(deaths.length));
    }
    const key = keys.loadMarks(tag);
    await this.#send(["hset", key, incarnation, `${nowMs} ${hostId}`], ["pexpire", key, markLivesMs]);
  }

  /** When hosts began loads that they did not outlive. */
  async #deaths(tag: string, nowMs: number): Promise<number[]> {
    const { hostId, incarnation } = this.#parts;
    const [row] = await this.#send(["hgetall", keys.loadMarks(tag)]);
    if (!Array.isArray(row)) return [];
    const deaths: number[] = [];
    for (let at = 0; at < row.length; at += 2) {
      const [other, mark] = [String(row[at]), String(row[at + 1])];
      const [, begun = "0", id] = /^(\d+) (.*)$/.exec(mark) ?? [];
      const begunMs = Math.min(Number(begun), nowMs);
      // whoever has this host's name and is not this process is gone
      if (other !== incarnation && (id === hostId || (await this.#isGone(other, nowMs - begunMs)))) deaths.push(begunMs);
    }
    return deaths;
  }

  async #isGone(incarnation: string, ageMs: number): Promise<boolean> {
    const [state] = await this.#send(["hget", keys.host(incarnation), "state"]);
    return state === "lost" || (state === null && ageMs > unregisteredMs);
  }

  /** The process has outlived it. */
  async end({ tag }: ModelVersion, { isLoaded }: { isLoaded: boolean }): Promise<void> {
    const key = keys.loadMarks(tag);
    await this.#send(isLoaded ? ["del", key] : ["hdel", key, this.#parts.incarnation]); // what is left of it lapses
  }

  async #send(...commands: RedisCommand[]): Promise<unknown[]> {
    const replies = await this.#parts.send(commands).catch(() => []);
    return replies.map((reply) => (reply instanceof Error ? undefined : replyText(reply)));
  }
}

const reasonFor = (deaths: number): string =>
  `${deaths} hosts died while they loaded this model; it is tried again a minute after the last, then ever more rarely`;
