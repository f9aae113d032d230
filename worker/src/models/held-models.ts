/**
 * What the runner's model cache holds and what it could not load, as its messages say; the main loop's picture of it. A failed load is
 * held against a model only for its back-off: 0.5 s, doubling to 30 s, by the clock; where there was no room, always a second. After that
 * it may be tried again, by the host itself while there is room, or for the next request.
 */

import { type ChangingFacts, isNoRoom, isRoomAwaited, type ModelVersion } from "@switchyard/protocol";
import { configMark } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";
import { loadedKey } from "./loaded-key.ts";

const firstBackOffMs = 500;
const longestBackOffMs = 30_000;
/** Told a little longer than the back-off, so that a host that tries again by itself is not asked in between. */
const toldMarginMs = 5_000;
/** Room may come with any run that ends: waiting longer each time would miss it. */
const noRoomBackOffMs = 1_000;
/** A load that says nothing for this long is left to the runner, which loads the model at its own turn. */
const silentLoadMs = 10_000;
/** A load that takes longer is one that others are held up by; one that said nothing for so long was answered otherwise. */
const longLoadMs = 250;
const lostLoadMs = 600_000;

interface Failure {
  reason: string;
  /** In a row. */
  attempts: number;
  /** Local monotonic ms. */
  retryAtMs: number;
}

interface Parts {
  clock: Clock;
  /** Asks the runner to load a version; its answer comes as `loaded` or `failed`, or not at all. */
  load: (version: ModelVersion) => void;
}

export interface Loaded {
  /** As it was loaded for this queue. */
  version: ModelVersion;
  maxItems: number;
  reason: string;
  sizeBytes: number;
  loadMs: number;
  /** Stands for the settings that it was loaded with. */
  config: string;
}

export class HeldModels {
  readonly #parts: Parts;
  readonly #loaded = new Map<string, Loaded>();
  readonly #usedMs = new Map<string, number>();
  readonly #batches = new Map<string, [runs: number, items: number]>();
  readonly #failures = new Map<string, Failure>();
  readonly #loads = new Map<string, PromiseWithResolvers<void>>();
  /** Since when loads that the runner was asked for are without an answer. */
  readonly #asked = new Map<string, number>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  loaded(tag: string, model: Loaded): void {
    this.#loaded.set(tag, model);
    this.#failures.delete(tag);
    this.#asked.delete(tag);
    this.#settle(tag);
  }

  failed(tag: string, reason: string): void {
    const noRoom = isNoRoom(reason);
    const attempts = (this.#failures.get(tag)?.attempts ?? 0) + (noRoom ? 0 : 1);
    const backOffMs = noRoom ? noRoomBackOffMs : Math.min(longestBackOffMs, firstBackOffMs * 2 ** (attempts - 1));
    this.#failures.set(tag, { reason, attempts, retryAtMs: this.#parts.clock.monotonicMs() + backOffMs });
    this.#asked.delete(tag);
    this.#settle(tag);
  }

  evicted(tag: string): void {
    this.#loaded.delete(tag);
    this.#usedMs.delete(tag);
    this.#batches.delete(tag);
  }

  /** Its queue has ended: how loads for it went is of no interest any more. */
  forget(tag: string): void {
    this.#failures.delete(tag);
  }

  ran(tag: string, { items, runMs }: { items: number; runMs: number }): void {
    this.#usedMs.set(tag, (this.#usedMs.get(tag) ?? 0) + runMs);
    const [runs, before] = this.#batches.get(tag) ?? [0, 0];
    this.#batches.set(tag, [runs + 1, before + items]);
  }

  /** Queues whose models the runner was asked to load, without an answer yet. */
  asked(): string[] {
    return [...this.#asked.keys()];
  }

  /** What a run of this queue takes on average, in ms; 0 where none was seen. */
  usualRunMs(tag: string): number {
    const [runs = 0] = this.#batches.get(tag) ?? [];
    return runs === 0 ? 0 : (this.#usedMs.get(tag) ?? 0) / runs;
  }

  /** Whether the load of another model has been under way for long: loads are made one after another, and some keep the runner's thread. */
  isHeldUp(tag: string): boolean {
    const nowMs = this.#parts.clock.monotonicMs();
    return [...this.#asked].some(([other, sinceMs]) => other !== tag && nowMs - sinceMs >= longLoadMs && nowMs - sinceMs < lostLoadMs);
  }

  #settle(tag: string): void {
    this.#loads.get(tag)?.resolve();
    this.#loads.delete(tag);
  }

  holds(tag: string): boolean {
    return this.#loaded.has(tag);
  }

  /** What is held with other settings than these are now. */
  outdated(versionOf: (tag: string) => ModelVersion | undefined): ModelVersion[] {
    return [...this.#loaded].flatMap(([tag, { config }]) => {
      const version = versionOf(tag);
      return version && configMark(version.config) !== config ? [version] : [];
    });
  }

  /** Queues whose model is held; several may share one. */
  tags(): string[] {
    return [...this.#loaded.keys()];
  }

  /** Each once, for however many queues: jobs with requirements of their own have another queue, and often the same model. */
  #models(): ReadonlyMap<string, Loaded> {
    return new Map([...this.#loaded.values()].map((one) => [loadedKey(one.version), one]));
  }

  count(): number {
    return this.#models().size;
  }

  /** The files of all models held, together. */
  sizeBytes(): number {
    return [...this.#models().values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  /** Whether it could be loaded and push out no other, as far as the sizes of files tell; what is held for another queue takes no room. */
  hasRoomFor(version: ModelVersion, most: { models: number; bytes: number }): boolean {
    const models = this.#models();
    if (models.has(loadedKey(version))) return true;
    return models.size < most.models && 2 * (this.sizeBytes() + version.sizeBytes) <= most.bytes;
  }

  isLoading(tag?: string): boolean {
    return tag === undefined ? this.#loads.size > 0 : this.#loads.has(tag);
  }

  /** It would not load when last tried, and it is too early to try again. */
  isBackingOff(tag: string): boolean {
    const failure = this.#failures.get(tag);
    return failure !== undefined && this.#parts.clock.monotonicMs() < failure.retryAtMs;
  }

  /** There was no room for it when last tried, and there may be as soon as a run ends. */
  waitsForRoom(tag: string): boolean {
    return isRoomAwaited(this.#failures.get(tag)?.reason ?? "");
  }

  /** The version that failed longest ago and may be tried again. */
  retryDue(versionOf: (tag: string) => ModelVersion | undefined): ModelVersion | undefined {
    const due = [...this.#failures].filter(([tag]) => !this.isBackingOff(tag) && !this.isLoading(tag));
    due.sort(([, one], [, other]) => one.retryAtMs - other.retryAtMs);
    for (const [tag] of due) {
      const version = versionOf(tag);
      if (version) return version;
    }
    return undefined;
  }

  /** Resolves when the runner has loaded it or said why not; also when it says nothing for long, or `signal` aborts. Calls share one load. */
  async load(version: ModelVersion, signal: AbortSignal): Promise<void> {
    const { tag } = version;
    let load = this.#loads.get(tag);
    if (!load) {
      load = Promise.withResolvers<void>();
      this.#loads.set(tag, load);
      this.#asked.set(tag, this.#parts.clock.monotonicMs());
      this.#parts.load(version);
    }
    const silence = new AbortController();
    await Promise.race([load.promise, this.#parts.clock.sleep(silentLoadMs, AbortSignal.any([signal, silence.signal]))]);
    silence.abort();
    if (this.#loads.get(tag) === load) this.#settle(tag);
  }

  /** For the heartbeat: tags held, with how they are batched. */
  tellLoaded(): ChangingFacts["loaded"] {
    return Object.fromEntries(
      [...this.#loaded].map(([tag, { config, loadMs, maxItems, reason }]) => [
        tag,
        { maxItems, reason, loadMs: Math.round(loadMs), config },
      ]),
    );
  }

  /** For the heartbeat: what runs of held models took so far. */
  tellUsed(): Record<string, number> {
    return Object.fromEntries([...this.#usedMs].map(([tag, ms]) => [tag, Math.round(ms)]));
  }

  /** For the heartbeat: runs of held models so far, and their items. */
  tellBatches(): Record<string, [runs: number, items: number]> {
    return Object.fromEntries(this.#batches);
  }

  /** For the heartbeat: tags that this host will not try now, with the reason. */
  tellFailures(): Record<string, string> {
    const nowMs = this.#parts.clock.monotonicMs();
    const young = [...this.#failures].filter(([, { reason, retryAtMs }]) => {
      return nowMs < retryAtMs + (isNoRoom(reason) ? 0 : toldMarginMs);
    });
    return Object.fromEntries(young.map(([tag, { reason }]) => [tag, reason]));
  }
}
