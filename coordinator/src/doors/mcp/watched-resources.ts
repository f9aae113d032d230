/**
 * Which resources somebody follows, and whether they have changed: one watch for each, however many follow it, and none while nobody does.
 * A job is watched in the store, so it does not matter which coordinator took it; everything else is looked at once a second.
 */

import { type HostView, isTerminal, SwitchyardError } from "@switchyard/protocol";
import { type Caller, localCaller, requireModel } from "../../application/caller.ts";
import type { ModelStatus } from "../../ports/model-registry.ts";
import { hostOf } from "../cluster-views.ts";
import type { DoorContext } from "../door-context.ts";
import { Lookout } from "./lookout.ts";
import { placeIn, type ResourcePlace, requireKind } from "./resource-uris.ts";
import { metricsView } from "./resource-views.ts";
import { TenantShares } from "./tenant-shares.ts";

type WatchContext = Pick<DoorContext, "jobs" | "models" | "hosts" | "overview" | "clock" | "log">;
type JobPlace = Extract<ResourcePlace, { id: string }>;

/** Changes of one job that come faster are told as one. */
const leastBetweenMs = 250;
const lookEveryMs = 1_000;
const longestWaitMs = 60_000;
const storeAwayMs = 1_000;
/** Of all tenants. */
const mostWatchedJobs = 5_000;

interface Watch {
  followers: number;
  stop: () => void;
}

interface Looked {
  place: ResourcePlace;
  /** What was seen last; undefined before the first look. */
  seen: string | undefined;
}

export class WatchedResources {
  readonly #context: WatchContext;
  readonly #changed: (uri: string) => void;
  readonly #watches = new Map<string, Watch>();
  /** Those that are looked at. */
  readonly #looked = new Map<string, Looked>();
  readonly #lookout: Lookout;
  readonly #jobShares = new TenantShares(mostWatchedJobs);
  #isClosed = false;

  constructor(context: WatchContext, changed: (uri: string) => void) {
    this.#context = context;
    this.#changed = changed;
    this.#lookout = new Lookout({ clock: context.clock, log: context.log, everyMs: lookEveryMs, look: () => this.#look() });
  }

  /**
   * Until the returned function is called. `uri` is spelt as we spell it, or one resource would have several watches. Throws as reading it would, except that a job's output need not be there yet, and `rate_limited`
   * when its tenant has its share of the jobs that are followed here.
   */
  async follow(uri: string, caller: Caller): Promise<() => void> {
    const place = placeIn(uri);
    if (place === undefined) throw new SwitchyardError("not_found", `there is no resource ${uri.slice(0, 200)}`);
    requireKind(caller, place.kind);
    const begin = await this.#checked(uri, place, caller);
    if (this.#isClosed) return () => {};
    let watch = this.#watches.get(uri);
    if (!watch) {
      watch = { followers: 0, stop: begin() };
      this.#watches.set(uri, watch);
    }
    const followed = watch;
    followed.followers += 1;
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      followed.followers -= 1;
      if (followed.followers > 0) return;
      this.#watches.delete(uri);
      followed.stop();
    };
  }

  close(): void {
    this.#isClosed = true;
    for (const { stop } of this.#watches.values()) stop();
    this.#watches.clear();
    this.#lookout.stop();
  }

  /** How to begin to watch it. */
  async #checked(uri: string, place: ResourcePlace, caller: Caller): Promise<() => () => void> {
    const { hosts, jobs, models } = this.#context;
    switch (place.kind) {
      case "job":
      case "output": {
        const record = await jobs.get(place.id, caller);
        return () => this.#beginJob(uri, place, { caller, state: record.state, revision: record.revision });
      }
      case "host":
        hostOf({ hosts }, place.id);
        break;
      case "model":
      case "version":
        requireModel(caller, place.model);
        models.resolve(place.model, place.kind === "version" ? place.version : undefined);
        break;
      default:
    }
    return () => this.#beginLooking(uri, place);
  }

  #beginLooking(uri: string, place: ResourcePlace): () => void {
    const looked: Looked = { place, seen: undefined };
    this.#looked.set(uri, looked);
    this.#lookout.start();
    const first = new Snapshot(this.#context).of(place);
    first.then(
      (seen) => {
        looked.seen ??= seen;
      },
      () => {}, // the store is away: the next look is the first
    );
    return () => {
      this.#looked.delete(uri);
      if (this.#looked.size === 0) this.#lookout.stop();
    };
  }

  #beginJob(uri: string, place: JobPlace, from: { caller: Caller; state: string; revision: number }): () => void {
    const stop = new AbortController();
    const giveBack = this.#jobShares.take(from.caller.tenant);
    if (giveBack === undefined) {
      const detail = `This tenant has its share of the ${mostWatchedJobs} jobs that are followed here; ask for their state instead`;
      throw new SwitchyardError("rate_limited", detail);
    }
    void this.#watchJob(uri, place, { ...from, signal: stop.signal }).catch((error: unknown) => {
      this.#context.log.error("mcp_watch_failed", { error: error instanceof Error ? error.stack : String(error) });
    });
    return () => {
      giveBack();
      stop.abort();
    };
  }

  /** Until it has ended: it does not change afterwards, except that it goes. */
  async #watchJob(
    uri: string,
    place: JobPlace,
    { caller, signal, ...from }: { caller: Caller; state: string; revision: number; signal: AbortSignal },
  ): Promise<void> {
    const { clock, jobs } = this.#context;
    let { revision } = from;
    let hasEnded = isEnded(from.state);
    while (!hasEnded && !signal.aborted) {
      try {
        const record = await jobs.wait(place.id, { waitMs: longestWaitMs, afterRevision: revision, signal }, caller);
        if (signal.aborted) return;
        if (record.revision === revision) continue;
        revision = record.revision;
        hasEnded = isTerminal(record.state);
        if (place.kind === "job" || hasEnded) this.#changed(uri);
        await clock.sleep(leastBetweenMs, signal);
      } catch (error) {
        if (!(error instanceof SwitchyardError)) throw error;
        if (error.code !== "store_unavailable") {
          if (!signal.aborted) this.#changed(uri); // it is gone, which whoever reads it is told
          return;
        }
        await clock.sleep(storeAwayMs, signal);
      }
    }
  }

  async #look(): Promise<void> {
    const snapshot = new Snapshot(this.#context);
    for (const [uri, looked] of [...this.#looked]) {
      const seen = await snapshot.of(looked.place).catch(() => looked.seen); // the store is away
      if (looked.seen !== undefined && seen !== looked.seen && this.#looked.get(uri) === looked) this.#changed(uri);
      looked.seen = seen;
    }
  }
}

const isEnded = (state: string): boolean => isTerminal(state as Parameters<typeof isTerminal>[0]);

/** The cluster at one look, as text that differs where what is shown differs. Everything is asked for once. */
class Snapshot {
  readonly #context: WatchContext;
  #models: Map<string, ModelStatus[]> | undefined;
  #figures: Promise<string> | undefined;

  constructor(context: WatchContext) {
    this.#context = context;
  }

  async of(place: ResourcePlace): Promise<string> {
    switch (place.kind) {
      case "models":
        return JSON.stringify([...this.#versions().values()].flat().map(statusText));
      case "model":
        return JSON.stringify((this.#versions().get(place.model) ?? []).map(statusText));
      case "version":
        return JSON.stringify(
          (this.#versions().get(place.model) ?? []).filter(({ version }) => version.version === place.version).map(statusText),
        );
      case "hosts":
        return JSON.stringify(this.#context.hosts.list().map(hostText));
      case "host":
        return JSON.stringify(
          this.#context.hosts
            .list()
            .filter(({ id }) => id === place.id)
            .map(hostText),
        );
      default: {
        this.#figures ??= this.#figuresText();
        return this.#figures;
      }
    }
  }

  #versions(): Map<string, ModelStatus[]> {
    this.#models ??= Map.groupBy(this.#context.models.list(), ({ version }) => version.model);
    return this.#models;
  }

  /** Of all models: who may see some of them only is told a little too often. */
  async #figuresText(): Promise<string> {
    const { now, recent } = await metricsView(this.#context, localCaller);
    return JSON.stringify([{ ...now, oldest_ms: undefined }, recent]);
  }
}

function statusText({ batching, loading, missing, reason, state, version, warmOn }: ModelStatus): string {
  return JSON.stringify([version.model, version.version, version.digest, state, loading, reason, missing, warmOn, batching]);
}

/** Without what changes with every beat and every run. */
function hostText(host: HostView): string {
  return JSON.stringify({ ...host, heartbeat_age_ms: 0, clock_offset_ms: 0, batches: undefined, tickets: undefined });
}
