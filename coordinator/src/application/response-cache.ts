/**
 * Jobs of models that have a response cache: an answer that is known ends them at once, an equal job under way is waited for, else they
 * lead. Owns which leaders this coordinator hears of, so that their flights are settled when they end. Nothing here is truth: a flight that
 * is forgotten is settled by the next equal request, or its followers run by themselves.
 */

import { PassingMap, SwitchyardError } from "@switchyard/protocol";
import { tagOf } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";
import type { HostRegistry } from "../ports/host-registry.ts";
import type { JobNotice, JobRecord, JobStore, NewJob } from "../ports/job-store.ts";
import type { Log } from "../ports/log.ts";
import type { Metrics } from "../ports/metrics.ts";
import type { ModelRegistry } from "../ports/model-registry.ts";
import type { CacheableJob, Flight, ResponseCache } from "../ports/response-cache.ts";
import type { CacheTallies } from "./cache-tallies.ts";
import type { Forecasts } from "./forecasts.ts";
import { newRecord } from "./new-record.ts";
import type { Wait, Waiters } from "./waiters.ts";

const usualBatchItems = 8;
/** A leader that was not heard of so long after its deadline is forgotten. */
const forgetAfterMs = 60_000;

interface Parts {
  cache: ResponseCache;
  store: Pick<JobStore, "nowMs">;
  hosts: Pick<HostRegistry, "matching">;
  models: Pick<ModelRegistry, "byTag">;
  waiters: Waiters;
  forecasts: Pick<Forecasts, "opened">;
  metrics: Metrics;
  tallies: Pick<CacheTallies, "hit" | "joined" | "missed">;
  clock: Pick<Clock, "monotonicMs">;
  log: Log;
  onAdmitted: (tag: string) => void;
}

/** Where a job came to stand; no record when one of its id was there before. */
export interface Placement {
  record: JobRecord | undefined;
  /** The framed outputs, where they were wished and are known. */
  outputs?: Uint8Array;
}

interface KnownFlight extends Flight {
  /** When its leader must have ended. */
  overMs: number;
  /** Where others wait for it, its record is looked at too: a notice may be lost. */
  wait?: Wait;
}

export class CachedResponses {
  readonly #parts: Parts;
  /** By leader; in the order in which they came. */
  readonly #flights = new PassingMap<string, KnownFlight>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** `admit` lets the job run as any other; it answers nothing when a job of that id was there before. Throws what it throws. */
  async place(job: CacheableJob, how: { outputs: boolean; admit: () => Promise<JobRecord | undefined> }): Promise<Placement> {
    const { cache, clock, metrics, tallies } = this.#parts;
    const askedMs = clock.monotonicMs();
    const asked = await cache.ask(job, how);
    const tookMs = clock.monotonicMs() - askedMs;
    switch (asked.answer) {
      case "existing":
        return { record: undefined };
      case "alone":
        metrics.cacheAsked(job.model, "miss");
        tallies.missed(tagOf(job.id), tookMs);
        return { record: await how.admit() };
      case "lead":
        metrics.cacheAsked(job.model, "miss");
        tallies.missed(tagOf(job.id), tookMs);
        return { record: await this.#lead(job, how.admit) };
      case "joined":
        metrics.cacheAsked(job.model, "joined");
        return { record: this.#joined(job, asked) };
      case "hit":
        metrics.cacheAsked(job.model, "hit");
        tallies.hit(tagOf(job.id), tookMs, asked.nowMs);
        return this.#hit(job, asked);
    }
  }

  #hit(job: CacheableJob, { nowMs, outputs }: { nowMs: number; outputs?: Uint8Array }): Placement {
    const { metrics } = this.#parts;
    metrics.admitted(job.model, job.class);
    metrics.finished(job.model, job.class, "succeeded", { e2eSeconds: 0, tenant: job.tenant });
    const record: JobRecord = {
      ...newRecord(job, { state: "succeeded", createdMs: nowMs, deadlineMs: nowMs + job.timeoutMs }),
      finishedMs: nowMs,
      timings: { queueMs: 0, runMs: 0, totalMs: 0, batchItems: 0 },
    };
    return outputs ? { record, outputs } : { record };
  }

  async #lead(job: CacheableJob, admit: () => Promise<JobRecord | undefined>): Promise<JobRecord | undefined> {
    const flight = this.#flightOf(job, job.id);
    this.#forgetOld();
    this.#flights.set(job.id, flight); // before the admission: its end may be told at any moment after it
    try {
      const record = await admit();
      if (record) flight.overMs = record.deadlineMs;
      return record;
    } catch (error) {
      this.#end(job.id, { abandoned: true });
      throw error;
    }
  }

  #joined(job: CacheableJob, { leader, nowMs }: { leader: string; nowMs: number }): JobRecord {
    const { forecasts, metrics, onAdmitted, waiters } = this.#parts;
    const record = newRecord(job, { state: "queued", createdMs: nowMs, deadlineMs: nowMs + job.timeoutMs });
    const tag = tagOf(job.id);
    metrics.admitted(job.model, job.class);
    onAdmitted(tag);
    forecasts.opened(tag);
    waiters.setDeadline(job.id, record.deadlineMs);
    this.#hearOf(this.#flightOf(job, leader));
    return record;
  }

  #flightOf(job: CacheableJob, leader: string): KnownFlight {
    const overMs = this.#parts.store.nowMs() + job.timeoutMs;
    return { model: job.model, tag: tagOf(job.id), cache: job.cache, leader, overMs };
  }

  /** Looks at the leader's record until it has ended. */
  #hearOf(flight: KnownFlight): void {
    const known = this.#flights.get(flight.leader) ?? flight;
    if (known.wait) return;
    this.#flights.set(known.leader, known);
    known.wait = this.#parts.waiters.register(known.leader, {});
    known.wait.woken.then(
      () => this.#end(known.leader),
      () => {
        // the store went away: its leader may well go on
        delete known.wait;
        if (this.#flights.get(known.leader) === known) this.#hearOf(known);
      },
    );
  }

  onNotice({ counts, createdMs, finishedMs, id, startedMs, state }: JobNotice): void {
    if (counts && state === "succeeded" && startedMs === 0) this.#parts.tallies.joined(tagOf(id), finishedMs - createdMs, finishedMs);
    if (this.#flights.size > 0) this.#end(id);
  }

  #end(leader: string, { abandoned = false } = {}): void {
    const flight = this.#flights.get(leader);
    if (!flight) return;
    this.#flights.delete(leader);
    flight.wait?.leave();
    void this.#settle(flight, abandoned);
  }

  async #settle(flight: KnownFlight, abandoned: boolean): Promise<void> {
    const { cache, hosts, log, models } = this.#parts;
    const { tag } = flight;
    const { wait, ...next } = flight;
    const batchItems = models.byTag(tag)?.batching?.maxItems ?? usualBatchItems;
    try {
      const { leader } = await cache.settle(flight, { abandoned, matchingHosts: hosts.matching(tag), batchItems });
      if (leader !== undefined) this.#hearOf({ ...next, leader });
    } catch (error) {
      if (!(error instanceof SwitchyardError)) log.error("flight_not_settled", { job_id: flight.leader, error: String(error) });
      else if (wait) this.#hearOf(next); // the store is away: again when it answers
    }
  }

  /** Those whose end was never told; nobody waits for them here. */
  #forgetOld(): void {
    const overMs = this.#parts.store.nowMs() - forgetAfterMs;
    for (const [leader, flight] of this.#flights) {
      if (flight.wait || flight.overMs > overMs) return;
      this.#flights.delete(leader);
    }
  }
}

export function isCacheable(job: NewJob): job is CacheableJob {
  return job.cache !== undefined;
}
