/**
 * What coordinators want this host to hold, followed with each beat: load what is missing, one model at a time, let go what should go once
 * nothing runs there, and protect what was promised. Without orders everything stays, and models are loaded on demand.
 */

import type { ModelVersion } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { RedisClient } from "../redis-client.ts";
import type { RunnerHandle } from "../runner/runner-handle.ts";
import type { HeldModels } from "./held-models.ts";
import type { KnownModels } from "./known-models.ts";

interface Orders {
  load: string[];
  drop: string[];
  keep: string[];
}

interface Parts {
  redis: RedisClient;
  incarnation: string;
  known: KnownModels;
  held: HeldModels;
  runner: Pick<RunnerHandle, "keep" | "unload">;
  stop: AbortSignal;
  fits: (version: ModelVersion) => boolean;
  /** Whether a ticket of this queue is at hand. */
  serves: (tag: string) => boolean;
  subscribe: (tag: string) => Promise<void>;
  unsubscribe: (tag: string) => void;
  log: (event: string, fields?: Record<string, unknown>) => void;
}

export class PlacementOrders {
  readonly #parts: Parts;
  #kept: readonly string[] = [];
  #dropping: ReadonlySet<string> = new Set();
  /** Loads that were begun here, until they are over or the model is to go. */
  readonly #begun = new Set<string>();
  #loading = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** For `follow`. */
  ask(): Promise<string | null> {
    const { incarnation, redis } = this.#parts;
    return redis.hget(keys.placement, incarnation);
  }

  async follow(asked = this.ask()): Promise<void> {
    const { stop } = this.#parts;
    const text = await asked;
    if (stop.aborted) return;
    const { drop, keep, load } = text === null ? { drop: [], keep: this.#kept, load: [] } : (JSON.parse(text) as Orders);
    if (keep.join() !== this.#kept.join()) this.#parts.runner.keep(keep);
    this.#kept = keep;
    this.#dropping = new Set(drop);
    for (const tag of drop) this.#drop(tag);
    for (const tag of load) if (this.#begin(tag)) break;
    await this.#subscribeHeld();
  }

  /** It is to go as soon as nothing runs there: no new tickets for it. */
  isDropping(tag: string): boolean {
    return this.#dropping.has(tag);
  }

  /** No further tickets first; the model goes when those at hand are over, with a later beat. */
  #drop(tag: string): void {
    const { held, known, runner, serves, unsubscribe } = this.#parts;
    const version = known.byTag(tag);
    this.#begun.delete(tag);
    if (!version || !held.holds(tag)) return;
    unsubscribe(tag);
    if (!serves(tag)) runner.unload(version);
  }

  /** What was ordered takes tickets of its own once it is here, however long its load took. */
  async #subscribeHeld(): Promise<void> {
    const { held, known, subscribe } = this.#parts;
    for (const tag of [...this.#kept, ...this.#begun]) {
      if (!known.byTag(tag) || !held.holds(tag)) continue;
      this.#begun.delete(tag);
      await subscribe(tag);
    }
  }

  #begin(tag: string): boolean {
    const { fits, held, known, log, stop } = this.#parts;
    const version = known.byTag(tag);
    if (!version || held.holds(tag) || this.#loading || held.isBackingOff(tag) || !fits(version)) return false;
    this.#loading = true;
    this.#begun.add(tag);
    held
      .load(version, stop)
      .then(() => this.#subscribeHeld())
      .catch((error: Error) => log("ticket_trouble", { message: error.message }))
      .finally(() => {
        this.#loading = false;
      });
    return true;
  }
}
