/**
 * What coordinators want this host to hold, followed with each beat: load what is missing, one model at a time, let go what should go once
 * nothing runs there, and protect what was promised. Without orders everything stays, and models are loaded on demand.
 */

import type { ModelVersion } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { Redis } from "ioredis";
import type { RunnerHandle } from "../runner/runner-handle.ts";
import type { HeldModels } from "./held-models.ts";
import type { KnownModels } from "./known-models.ts";

interface Orders {
  load: string[];
  drop: string[];
  keep: string[];
}

interface Parts {
  redis: Redis;
  incarnation: string;
  known: KnownModels;
  held: HeldModels;
  runner: Pick<RunnerHandle, "keep" | "unload">;
  stop: AbortSignal;
  fits: (version: ModelVersion) => boolean;
  /** Whether a ticket of this queue is at hand. */
  serves: (tag: string) => boolean;
  subscribe: (tag: string) => Promise<void>;
  unsubscribe: (tag: string) => Promise<void>;
  log: (event: string, fields?: Record<string, unknown>) => void;
}

export class PlacementOrders {
  readonly #parts: Parts;
  #kept = "";
  #loading = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async follow(): Promise<void> {
    const { incarnation, redis, stop } = this.#parts;
    const text = await redis.hget(keys.placement, incarnation);
    if (text === null || stop.aborted) return;
    const { drop, keep, load } = JSON.parse(text) as Orders;
    if (keep.join() !== this.#kept) this.#parts.runner.keep(keep);
    this.#kept = keep.join();
    for (const tag of drop) await this.#drop(tag);
    for (const tag of load) if (this.#begin(tag)) break;
  }

  /** No further tickets first; the model goes when those at hand are over, with a later beat. */
  async #drop(tag: string): Promise<void> {
    const { held, known, runner, serves, unsubscribe } = this.#parts;
    const version = known.byTag(tag);
    if (!version || !held.holds(tag)) return;
    await unsubscribe(tag);
    if (!serves(tag)) runner.unload(version);
  }

  #begin(tag: string): boolean {
    const { fits, held, known, log, stop, subscribe } = this.#parts;
    const version = known.byTag(tag);
    if (!version || held.holds(tag) || this.#loading || held.isBackingOff(tag) || !fits(version)) return false;
    this.#loading = true;
    held
      .load(version, stop)
      .then(() => (held.holds(tag) ? subscribe(tag) : undefined))
      .catch((error: Error) => log("ticket_trouble", { message: error.message }))
      .finally(() => {
        this.#loading = false;
      });
    return true;
  }
}
