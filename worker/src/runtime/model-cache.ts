/**
 * The models that this runner holds in memory: loads on demand, one at a time, and lets the least recently used go when bytes or
 * number run out. A model in use is pinned and never let go. A version that would not load is not tried again before its back-off.
 */

import { estimatedModelBytes, type ModelVersion, noRoomFor, requirementsOf, SwitchyardError } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import { loadedKey } from "../models/loaded-key.ts";
import type { FetchedModels } from "./fetched-models.ts";
import { type LoadedModel, loadModel, smallModelBytes } from "./loaded-model.ts";
import { DamagedFiles } from "./model-files.ts";
import { hasCoresToSpare, loadModelBeside } from "./threaded-model.ts";

export interface ModelCacheOptions {
  /** Folder of the model repository. */
  root: string;
  clock: Clock;
  /** Budget for the estimated memory of all models; one model alone may exceed it. */
  maxBytes: number;
  maxModels: number;
  threads: number;
  providers: readonly string[];
  bridges?: Readonly<Record<string, string>>;
  bridgeTimeoutMs?: number;
  /** Also when a held model is asked for as the version of another queue for the first time. */
  onLoaded?: (model: LoadedModel, version: ModelVersion) => void;
  /** Also when there is no room for it now, which is not held against it here. */
  onFailed?: (version: ModelVersion, reason: string) => void;
  /** Called, and awaited, for each of its queues before a model's memory is freed: the time to stop taking its jobs. */
  onEvicted?: (tag: string) => void | Promise<void>;
  /** Whether other models wait for their runs now, which a load on this thread would hold up. By default they do not. */
  isBusy?: () => boolean;
  /** Brings the files of uploaded versions here; absent: there are none. */
  fetched?: Pick<FetchedModels, "folderOf" | "discard" | "keep">;
  /** Told of each load before it begins, which may forbid it by throwing the reason, and when it is over. */
  marks?: { begin(version: ModelVersion): Promise<void>; end(version: ModelVersion, how: { isLoaded: boolean }): Promise<void> };
  /** How a version becomes a model; reads it from `root`, or from the folder to which it was fetched, by default. */
  load?: (version: ModelVersion, folder?: string) => Promise<LoadedModel>;
  /** Bytes of memory that this process occupies. */
  residentBytes?: () => number;
}

export interface FailedLoad {
  version: ModelVersion;
  reason: string;
  /** Failures in a row. */
  attempts: number;
  /** Monotonic milliseconds before which it is not tried again. */
  retryAtMs: number;
}

interface Entry {
  model: LoadedModel;
  /** Queues whose jobs it runs: the version's own, and those of jobs with requirements of their own. */
  tags: Set<string>;
  costBytes: number;
  pins: number;
}

const firstBackOffMs = 500;
const longestBackOffMs = 30_000;

/** Growth of the process during a load counts only beyond what garbage and chance make of it. */
const residentNoiseBytes = 32 * 1024 * 1024;

export class ModelCache {
  readonly #options: ModelCacheOptions;
  /** Least recently used first. */
  readonly #entries = new Map<string, Entry>();
  readonly #failures = new Map<string, FailedLoad>();
  /** Tags of models that are only let go when asked. */
  #kept: ReadonlySet<string> = new Set();
  readonly #loading = new Map<string, Promise<LoadedModel>>();
  /** Loads under way of versions whose files are fetched, by digest: from before the files are looked for until they were read. */
  readonly #readers = new Map<string, number>();
  /** Loads and evictions happen one after another, so that the budget is counted by one at a time. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: ModelCacheOptions) {
    this.#options = options;
    options.fetched?.keep(() => new Set([...this.warm().map(({ version }) => version.digest), ...this.#readers.keys()]));
  }

  /** Estimated bytes of all models held. */
  get usedBytes(): number {
    let sum = 0;
    for (const { costBytes } of this.#entries.values()) sum += costBytes;
    return sum;
  }

  /** Models held, least recently used first. */
  warm(): LoadedModel[] {
    return [...this.#entries.values()].map((entry) => entry.model);
  }

  /** Whether `ensure` would answer at once. */
  isLoaded(version: ModelVersion): boolean {
    return this.#entries.has(loadedKey(version));
  }

  /** Whether its runs leave this thread free; false for what is not loaded. */
  runsBeside(version: ModelVersion): boolean {
    return this.#entries.get(loadedKey(version))?.model.isBeside ?? false;
  }

  /** Versions that did not load when last tried. */
  failed(): FailedLoad[] {
    return [...this.#failures.values()];
  }

  /**
   * The loaded model; concurrent calls share one load. It stays held until another needs its room: pin it to use it across awaits.
   * Throws `model_not_ready` with the reason and `retryAfterMs` when it does not load, or while its back-off lasts.
   */
  ensure(version: ModelVersion): Promise<LoadedModel> {
    const held = this.#held(version);
    if (held) return Promise.resolve(this.#serveAlso(version, held));
    const key = loadedKey(version);
    const loading = this.#loading.get(key);
    if (loading) return loading.then(() => this.ensure(version));
    const { fetched } = this.#options;
    const load = (
      version.files === undefined || !fetched ? this.#inTurn(() => this.#load(version, undefined)) : this.#fetchAndLoad(version, fetched)
    ).finally(() => this.#loading.delete(key));
    this.#loading.set(key, load);
    return load;
  }

  /** Other loads do not wait for a download. Files that are found damaged are fetched anew, once. */
  async #fetchAndLoad(version: ModelVersion, fetched: NonNullable<ModelCacheOptions["fetched"]>): Promise<LoadedModel> {
    let isFetchedAnew = false;
    const fetchAnew = async (): Promise<boolean> => {
      if (isFetchedAnew) return false;
      isFetchedAnew = true;
      await fetched.discard(version);
      return true;
    };
    const { digest } = version;
    this.#readers.set(digest, (this.#readers.get(digest) ?? 0) + 1);
    try {
      for (;;) {
        const folder = await this.#fetch(version, fetched);
        const loaded = await this.#inTurn(() => this.#load(version, folder, fetchAnew));
        if (loaded) return loaded;
      }
    } finally {
      const others = this.#readers.get(digest)! - 1;
      if (others > 0) this.#readers.set(digest, others);
      else this.#readers.delete(digest);
    }
  }

  /** Where an uploaded version's files are, or why they are not. A load that would be refused fetches nothing. */
  async #fetch(version: ModelVersion, fetched: NonNullable<ModelCacheOptions["fetched"]>): Promise<string | Error | undefined> {
    const failure = this.#failures.get(loadedKey(version));
    if (failure && failure.retryAtMs > this.#options.clock.monotonicMs()) return undefined;
    return fetched.folderOf(version).catch((error: Error) => error);
  }

  /** Runs `act` with the model loaded and pinned. Throws like `ensure`, and what `act` throws. */
  async use<Result>(version: ModelVersion, act: (model: LoadedModel) => Promise<Result>): Promise<Result> {
    for (;;) {
      const model = await this.ensure(version);
      // Another load may have taken its room between the answer and this line.
      if (this.#entries.get(loadedKey(version))?.model !== model) continue;
      const unpin = this.pin(version);
      try {
        return await act(model);
      } finally {
        unpin();
      }
    }
  }

  /** Keeps a held model until the answered function is called. Throws `model_not_ready` when it is not held. */
  pin(version: ModelVersion): () => void {
    const entry = this.#held(version);
    if (!entry) throw new SwitchyardError("model_not_ready", `${version.model} version ${version.version} is not loaded`);
    let isPinned = true;
    entry.pins += 1;
    return () => {
      if (isPinned) entry.pins -= 1;
      isPinned = false;
    };
  }

  /** Marks a model as just used. */
  touch(version: ModelVersion): void {
    this.#held(version);
  }

  /** From now on these models, and no others, are not pushed out by a load. */
  keep(tags: readonly string[]): void {
    this.#kept = new Set(tags);
  }

  /**
   * Lets a model go now. Where other queues share it, only this one leaves and the model stays. False when it is not held, in use, or to
   * be kept.
   */
  evict(version: ModelVersion): Promise<boolean> {
    return this.#inTurn(() => this.#leave(loadedKey(version), version.tag));
  }

  async #leave(key: string, tag: string): Promise<boolean> {
    const entry = this.#entries.get(key);
    if (!entry?.tags.has(tag) || this.#kept.has(tag)) return false;
    if (entry.tags.size === 1) return this.#release(key);
    entry.tags.delete(tag);
    await this.#options.onEvicted?.(tag);
    return true;
  }

  /** Lets every model go that is not in use. */
  async clear(): Promise<void> {
    for (const key of [...this.#entries.keys()]) await this.#inTurn(() => this.#release(key));
  }

  #serveAlso(version: ModelVersion, entry: Entry): LoadedModel {
    if (!entry.tags.has(version.tag)) {
      entry.tags.add(version.tag);
      this.#options.onLoaded?.(entry.model, version);
    }
    return entry.model;
  }

  #held(version: ModelVersion): Entry | undefined {
    const key = loadedKey(version);
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry;
  }

  #inTurn<Result>(act: () => Promise<Result>): Promise<Result> {
    const result = this.#turn.then(act);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  #load(version: ModelVersion, folder: undefined): Promise<LoadedModel>;
  #load(version: ModelVersion, folder: string | Error | undefined, fetchAnew: () => Promise<boolean>): Promise<LoadedModel | undefined>;
  /** Undefined: its files are damaged, and `fetchAnew` says that it has let them go. */
  async #load(
    version: ModelVersion,
    folder: string | Error | undefined,
    fetchAnew?: () => Promise<boolean>,
  ): Promise<LoadedModel | undefined> {
    const { clock, onLoaded, onFailed } = this.#options;
    const key = loadedKey(version);
    const failure = this.#failures.get(key);
    const waitMs = failure ? failure.retryAtMs - clock.monotonicMs() : 0;
    if (failure && waitMs > 0) throw notReady(failure.reason, waitMs);
    const hasFailed = (error: unknown): SwitchyardError => {
      const reason = error instanceof Error ? error.message : String(error);
      const attempts = (failure?.attempts ?? 0) + 1;
      const backOffMs = Math.min(longestBackOffMs, firstBackOffMs * 2 ** (attempts - 1));
      this.#failures.set(key, { version, reason, attempts, retryAtMs: clock.monotonicMs() + backOffMs });
      onFailed?.(version, reason);
      return notReady(reason, backOffMs);
    };
    const costBytes = estimatedModelBytes(version.sizeBytes);
    const { marks } = this.#options;
    // what may not be loaded pushes nothing out
    if (marks)
      await marks.begin(version).catch((error: unknown) => {
        throw hasFailed(error);
      });
    const residentBytes = this.#options.residentBytes ?? process.memoryUsage.rss;
    let model: LoadedModel | undefined;
    let beforeBytes = 0;
    try {
      await this.#makeRoom(version, costBytes);
      beforeBytes = residentBytes();
      if (folder instanceof Error) throw hasFailed(folder);
      model = await (this.#options.load ?? this.#read)(version, folder).catch(async (error: unknown) => {
        if (error instanceof DamagedFiles && (await fetchAnew?.().catch(() => false))) return undefined;
        throw hasFailed(error);
      });
    } finally {
      void marks?.end(version, { isLoaded: model !== undefined });
    }
    if (!model) return undefined;
    this.#failures.delete(key);
    // A small file may unfold into large weights and activations: what the process has grown by is the better figure then.
    const grownBytes = residentBytes() - beforeBytes;
    const tookBytes = grownBytes > costBytes + residentNoiseBytes ? grownBytes : costBytes;
    this.#entries.set(key, { model, tags: new Set([version.tag]), costBytes: tookBytes, pins: 0 });
    onLoaded?.(model, version);
    return model;
  }

  readonly #read = (version: ModelVersion, folder?: string): Promise<LoadedModel> => {
    const { root, clock, threads, providers, bridges = {}, bridgeTimeoutMs = 30_000, isBusy } = this.#options;
    // a thread takes some 10 MB, and a run that crosses to it 0.1 ms: on the processor small ones stay on the runner's
    const isWorthIt = version.sizeBytes >= smallModelBytes && (hasCoresToSpare(threads) || (isBusy?.() ?? false));
    const load = !version.remote && (isWorthIt || runsElsewhere(version, providers)) ? loadModelBeside : loadModel;
    return load({ version, root, folder, clock, threads, providers, bridges, bridgeTimeoutMs });
  };

  /** Older content or configuration of the same version goes first, then the least recently used. */
  async #makeRoom(version: ModelVersion, costBytes: number): Promise<void> {
    for (const [key, { model }] of [...this.#entries]) if (isReplacedBy(model.version, version)) await this.#release(key);
    for (const [key, failure] of [...this.#failures]) if (isReplacedBy(failure.version, version)) this.#failures.delete(key);
    while (!this.#fits(costBytes)) {
      const oldest = [...this.#entries].find(([, entry]) => entry.pins === 0 && !this.#isKept(entry));
      if (!oldest) {
        const reason = noRoomFor(
          version,
          [...this.#entries.values()].some((entry) => !this.#isKept(entry)),
        );
        this.#options.onFailed?.(version, reason);
        throw notReady(reason, firstBackOffMs);
      }
      await this.#release(oldest[0]);
    }
  }

  #fits(costBytes: number): boolean {
    const { maxBytes, maxModels } = this.#options;
    return this.#entries.size === 0 || (this.usedBytes + costBytes <= maxBytes && this.#entries.size < maxModels);
  }

  #isKept({ tags }: Entry): boolean {
    return [...tags].some((tag) => this.#kept.has(tag));
  }

  /** Out of the map first, so that nobody can pin what is about to be freed. */
  async #release(key: string): Promise<boolean> {
    const entry = this.#entries.get(key);
    if (!entry || entry.pins > 0) return false;
    this.#entries.delete(key);
    for (const tag of entry.tags) await this.#options.onEvicted?.(tag);
    await entry.model.release();
    return true;
  }
}

/** On another provider than this machine's processor: its own requirement comes before what the host is set to. */
function runsElsewhere(version: ModelVersion, own: readonly string[]): boolean {
  const required = requirementsOf(version).flatMap(({ providers = [] }) => providers);
  return required.length > 0 ? required.some((provider) => provider !== "cpu") : own[0] !== "cpu";
}

function isReplacedBy(left: ModelVersion, right: ModelVersion): boolean {
  if (left.model !== right.model || left.version !== right.version) return false;
  return left.digest !== right.digest || JSON.stringify(left.config) !== JSON.stringify(right.config);
}

function notReady(reason: string, retryAfterMs: number): SwitchyardError {
  return new SwitchyardError("model_not_ready", reason, { retryAfterMs });
}
