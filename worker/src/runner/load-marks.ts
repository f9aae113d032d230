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
/** Longer than it takes from here to the mark, by which everybody else sees that somebody tries. */
const trialMs = 10_000;
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

  /**
   * Throws, with the reason, where too many hosts have died of it and it is too early for another try. Then one host tries, and nobody else meanwhile: those that
   * are refused all wait for the same moment.
   */
  async begin({ tag }: ModelVersion): Promise<void> {
    const { hostId, incarnation } = this.#parts;
    const nowMs = this.#parts.nowMs();
    const key = keys.loadMarks(tag);
    const others = await this.#others(tag, nowMs);
    const deaths = others.flatMap(({ diedMs }) => (diedMs === undefined ? [] : [diedMs]));
    if (deaths.length >= mostDeaths) {
      const pauseMs = Math.min(longestPauseMs, firstPauseMs * 2 ** (deaths.length - mostDeaths));
      const isTried = deaths.length < others.length || nowMs < Math.max(...deaths) + pauseMs;
      if (isTried || !(await this.#isFirst(tag))) throw new Error(reasonFor(deaths.length));
    }
    await this.#send(["hset", key, incarnation, `${nowMs} ${hostId}`], ["pexpire", key, markLivesMs]);
  }

  /** Whether nobody else begins to try in this moment. */
  async #isFirst(tag: string): Promise<boolean> {
    const [answer] = await this.#send(["set", keys.loadTrial(tag), this.#parts.incarnation, "NX", "PX", trialMs]);
    return answer === "OK";
  }

  /** Marks of other processes, and when those died that have. */
  async #others(tag: string, nowMs: number): Promise<{ diedMs: number | undefined }[]> {
    const { hostId, incarnation } = this.#parts;
    const [row] = await this.#send(["hgetall", keys.loadMarks(tag)]);
    const marks = (Array.isArray(row) ? row : []).flatMap((value, at, all) => (at % 2 === 0 ? [[String(value), String(all[at + 1])]] : []));
    const others = marks.filter(([other]) => other !== incarnation) as [string, string][];
    if (others.length < mostDeaths) return [];
    const hosts = await this.#send(...others.map(([other]): RedisCommand => ["hmget", keys.host(other), "state", "beat", "lost"]));
    return others.map(([, mark], at) => {
      const [, begun = "0", id] = /^(\d+) (.*)$/.exec(mark) ?? [];
      const host = hosts[at];
      if (!Array.isArray(host)) return { diedMs: undefined };
      const [state, beat, lost] = host as (string | null)[];
      const seenMs = Math.min(nowMs, Math.max(Number(begun), Number(beat), Number(lost)));
      // whoever has this host's name and is not this process is gone
      const isGone = id === hostId || state === "lost" || (state === null && nowMs - Number(begun) > unregisteredMs);
      return { diedMs: isGone ? seenMs : undefined };
    });
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
