/**
 * Who waits for which job. A notice resolves a waiter; because a notice may be lost, each waiter's record is also looked at twice a second;
 * because a deadline may pass unseen, `expire` is called for it. A waiter never decides an outcome: it repeats what the record says.
 */

import { isTerminal, PassingMap, SwitchyardError } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { JobNotice, JobStore } from "../ports/job-store.ts";
import { FirstComer } from "./first-comer.ts";

/** What woke a waiter: an outcome (with the notice when one came), or another revision. */
export type Wake = { kind: "ended"; notice?: JobNotice } | { kind: "changed" } | { kind: "time" };

export interface Wait {
  woken: Promise<Wake>;
  leave: () => void;
}

/** What tells that a caller waits no longer: what is used of an AbortSignal, which is one. */
export interface Leaving {
  readonly aborted: boolean;
  addEventListener(type: "abort", heard: () => void, how: { once: true }): void;
  removeEventListener(type: "abort", heard: () => void): void;
}

interface Waiter {
  id: string;
  afterRevision: number | undefined;
  deadlineMs: number;
  lookedMs: number;
  /** Its admission was not answered: large inputs may be on their way, and there is no record yet. */
  isAhead: boolean;
  settle: (wake: Wake) => void;
  fail: (error: unknown) => void;
}

const lookEveryMs = 500;
const looksPerTick = 500;
/** Waiters are told of a deadline within 250 ms: this much after it `expire` is asked, each tick of the loop. */
const deadlineSlackMs = 5;

export class Waiters {
  readonly #store: JobStore;
  readonly #clock: Clock;
  readonly #byJob = new PassingMap<string, Waiter[]>();
  readonly #first = new FirstComer();

  constructor(store: JobStore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  get size(): number {
    return this.#byJob.size;
  }

  /**
   * Registers a wait. `woken` resolves on the job's end, on a revision other than `afterRevision`, when the signal aborts or on `leave()`;
   * it rejects while the store is away. `isAhead`: of a job that is about to be admitted; until its deadline is set an absent record is no end.
   */
  register(id: string, how: { afterRevision?: number; deadlineMs?: number; signal?: Leaving; isAhead?: boolean }): Wait {
    const { promise, resolve, reject } = Promise.withResolvers<Wake>();
    promise.catch(() => {}); // a wait that was left is not an unhandled rejection
    const waiter: Waiter = {
      id,
      afterRevision: how.afterRevision,
      deadlineMs: how.deadlineMs ?? Number.POSITIVE_INFINITY,
      lookedMs: this.#clock.monotonicMs(),
      isAhead: how.isAhead ?? false,
      settle: (wake) => {
        this.#remove(waiter);
        how.signal?.removeEventListener("abort", leave);
        resolve(wake);
      },
      fail: (error) => {
        this.#remove(waiter);
        how.signal?.removeEventListener("abort", leave);
        reject(error);
      },
    };
    const leave = (): void => waiter.settle({ kind: "time" });
    if (how.signal?.aborted) resolve({ kind: "time" });
    else {
      how.signal?.addEventListener("abort", leave, { once: true });
      const others = this.#byJob.get(id);
      if (others) others.push(waiter);
      else this.#byJob.set(id, [waiter]);
      this.#first.came();
    }
    return { woken: promise, leave };
  }

  /** The deadline becomes known with the admission's answer. */
  setDeadline(id: string, deadlineMs: number): void {
    const waiting = this.#byJob.get(id);
    if (waiting === undefined) return;
    for (const waiter of waiting) {
      waiter.deadlineMs = deadlineMs;
      waiter.isAhead = false;
    }
  }

  #remove(waiter: Waiter): void {
    const waiting = this.#byJob.get(waiter.id);
    const at = waiting?.indexOf(waiter) ?? -1;
    if (waiting === undefined || at < 0) return;
    if (waiting.length === 1) this.#byJob.delete(waiter.id);
    else waiting.splice(at, 1);
  }

  #settleAll(id: string, wake: Wake): void {
    const waiting = this.#byJob.get(id);
    if (waiting === undefined) return;
    if (waiting.length === 1) waiting[0]!.settle(wake);
    else for (const waiter of [...waiting]) waiter.settle(wake);
  }

  onNotice(notice: JobNotice): void {
    this.#settleAll(notice.id, { kind: "ended", notice });
  }

  /** A store that does not answer ends every wait: the jobs may well go on, and a repeat finds them. */
  storeAway(): void {
    const error = new SwitchyardError("store_unavailable", "the store does not answer; the job may go on: ask again with its id or key", {
      retryAfterMs: 1_000,
    });
    for (const group of this.#byJob.values()) for (const waiter of [...group]) waiter.fail(error);
  }

  /** Resolves when somebody waits, or with the signal: until then there is nothing to look at. */
  someone(signal: AbortSignal): Promise<void> {
    return this.#first.until(this.#byJob.size > 0, signal);
  }

  /** One tick of the loop (every 50 ms): deadlines that passed, and records that were not looked at for a while. */
  async tick(): Promise<void> {
    const storeMs = this.#store.nowMs();
    const nowMs = this.#clock.monotonicMs();
    const over: string[] = [];
    const unseen: string[] = [];
    for (const [id, group] of [...this.#byJob]) {
      let isDue = false;
      for (const waiter of group) {
        if (waiter.deadlineMs + deadlineSlackMs <= storeMs) over.push(id);
        isDue ||= nowMs - waiter.lookedMs >= lookEveryMs;
      }
      if (!isDue || unseen.length >= looksPerTick) continue;
      for (const waiter of group) waiter.lookedMs = nowMs;
      unseen.push(id);
      this.#byJob.delete(id); // to the end of the line, so that with many waiters each has its turn
      this.#byJob.set(id, group);
    }
    if (over.length > 0) {
      await this.#store.expire([...new Set(over)]); // answers by notice; the look below catches a lost one
      unseen.push(...over.slice(0, looksPerTick));
    }
    if (unseen.length > 0) await this.#look([...new Set(unseen)]);
  }

  async #look(ids: string[]): Promise<void> {
    const ahead = new Set(ids.filter((id) => [...(this.#byJob.get(id) ?? [])].some(({ isAhead }) => isAhead)));
    const seen = await this.#store.peek(ids);
    for (const id of ids) {
      const now = seen.get(id);
      if (!now && ahead.has(id)) continue; // it may have been admitted since it was looked at
      if (!now || isTerminal(now.state)) {
        this.#settleAll(id, { kind: "ended" });
        continue;
      }
      for (const waiter of [...(this.#byJob.get(id) ?? [])]) {
        if (waiter.afterRevision !== undefined && now.revision !== waiter.afterRevision) waiter.settle({ kind: "changed" });
      }
    }
  }
}
