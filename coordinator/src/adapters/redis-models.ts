/**
 * The model registry: what this coordinator's repository holds and what was uploaded, published for hosts, under the names and states that were asked
 * for. Whoever asks sees all of it as it was at one time.
 */

import {
  type AliasTarget,
  defaultAlias,
  isNoRoom,
  type ModelAlias,
  type ModelConfig,
  type ModelState,
  type ModelVersion,
  type Requirement,
  SwitchyardError,
  type UploadedVersion,
} from "@switchyard/protocol";
import { giveBackMemory } from "@switchyard/protocol/garbage";
import { keys, queueTag, tagOf } from "@switchyard/protocol/redis";
import type { AliasStore, AllAliases } from "../ports/alias-store.ts";
import type { HostDirectory } from "../ports/host-registry.ts";
import { knownForMs, type ModelRegistry, type ModelStatus } from "../ports/model-registry.ts";
import type { ModelStateStore } from "../ports/model-state-store.ts";
import type { UploadStore } from "../ports/upload-store.ts";
import { chooseVersion, mainVersion, sharesOf } from "../scheduler/traffic-split.ts";
import { aliasesInEffect } from "./aliases-in-effect.ts";
import { ChoosyQueues, choosyCandidate } from "./choosy-queues.ts";
import { chooseHosts } from "./host-choice.ts";
import { type Lifecycle, LifecycleReader, noLifecycle } from "./lifecycle-reader.ts";
import { PublishedVersions } from "./published-versions.ts";
import type { RedisConnection } from "./redis-connection.ts";

/** Models that came and went. */
export interface Changed {
  added: string[];
  removed: string[];
}

const unchanged: Changed = { added: [], removed: [] };
const noConfig: ModelConfig = {};
const manyVersions = 500;
/** More than a repository is meant to have, so that all of it may go at once. */
const mostDeparted = 10_000;

export class RedisModels implements ModelRegistry {
  readonly #redis: RedisConnection;
  readonly #hosts: HostDirectory;
  #byModel = new Map<string, ModelVersion[]>();
  /** By tag, as the repository has them, and with the queues of jobs that require more. */
  #own = new Map<string, ModelVersion>();
  #byTag = new Map<string, ModelVersion>();
  /** By tag, the models of queues that are gone while jobs of theirs may still end; the newest last. */
  readonly #departed = new Map<string, string>();
  readonly #choosy: ChoosyQueues;
  #choosyRevision: string | null = null;
  readonly #standing: PublishedVersions;
  #indexed = false;
  /** When what was last read of uploads was asked for, by the store's clock. */
  #lookedMs = Number.NEGATIVE_INFINITY;
  #scanned: readonly ModelVersion[] = [];
  readonly #lifecycle: LifecycleReader;
  /** What versions and states here were made of. */
  #taken = noLifecycle;
  /** Of what was taken, what this coordinator can keep. */
  #aliases: AllAliases | undefined;
  /** A number in [0, 1). */
  readonly #chance: () => number;
  /** The version that an upload became, and what a version became under what was asked of its model, while neither has changed. */
  readonly #made = new WeakMap<UploadedVersion, ModelVersion>();
  readonly #asked = new WeakMap<ModelVersion, { state: ModelState; version: ModelVersion }>();
  #publishing: Promise<unknown> = Promise.resolve();
  readonly #statuses = new Map<ModelVersion, ModelStatus>();
  #statusGeneration = -1;

  constructor(
    redis: RedisConnection,
    hosts: HostDirectory,
    parts: { uploads: UploadStore; aliases: AliasStore; states: ModelStateStore; chance: () => number },
  ) {
    this.#redis = redis;
    this.#lifecycle = new LifecycleReader(redis, parts);
    this.#standing = new PublishedVersions(redis, parts.uploads);
    this.#chance = parts.chance;
    this.#hosts = hosts;
    this.#choosy = new ChoosyQueues(redis);
  }

  /**
   * Takes over what a scan of the repository found. Answers models that came and went. Nothing is written while neither the scan nor the
   * registry's revision has changed; another revision than the one we know means that somebody else wrote, or that the store lost data.
   */
  publish(scanned: readonly ModelVersion[]): Promise<Changed> {
    return this.#oneAtATime(async () => {
      const askedMs = this.#redis.nowMs();
      const changed = await this.#publish(scanned, await this.#lifecycle.read());
      this.#lookedMs = askedMs;
      return changed;
    });
  }

  /** Takes over what was uploaded or asked for, here or by another coordinator, if anything was. */
  look(): Promise<Changed> {
    return this.#oneAtATime(async () => {
      // what lies in the folder is not known yet: without it everything would seem to be gone
      if (!this.#indexed) return unchanged;
      const askedMs = this.#redis.nowMs();
      const read = await this.#lifecycle.read();
      let changed = unchanged;
      if (this.#isOfVersions(read)) this.#takeOverAliases(read);
      else changed = await this.#publish(this.#scanned, read);
      this.#lookedMs = askedMs;
      return changed;
    });
  }

  #oneAtATime(act: () => Promise<Changed>): Promise<Changed> {
    const turn = this.#publishing.then(act);
    this.#publishing = turn.catch(() => undefined);
    return turn;
  }

  /** Whether versions are what this makes of them. */
  #isOfVersions({ configs, states, uploads }: Lifecycle): boolean {
    const taken = this.#taken;
    return uploads === taken.uploads && configs === taken.configs && states === taken.states;
  }

  /** What the folder has and what was uploaded; of a version that is both, the upload, which any host can fetch. */
  #merged(scanned: readonly ModelVersion[], lifecycle: Lifecycle): ModelVersion[] {
    return this.#withUploads(scanned, lifecycle).map((version) => {
      const state = lifecycle.states.get(version.model);
      if (state === undefined) return version;
      const before = this.#asked.get(version);
      if (before?.state === state) return before.version;
      const config = { ...version.config, ...state.config };
      const asked = { ...version, config, ...(state.state === "unloaded" && { unloaded: true as const }) };
      this.#asked.set(version, { state, version: asked });
      return asked;
    });
  }

  #withUploads(scanned: readonly ModelVersion[], { configs, uploads }: Lifecycle): readonly ModelVersion[] {
    if (uploads.size === 0) return scanned;
    const inFolder = new Map(scanned.map((version) => [version.model, version]));
    const uploaded = [...uploads.values()].map((upload) => {
      const { config, labels } = inFolder.get(upload.model) ?? { config: configs.get(upload.model) ?? noConfig, labels: undefined };
      const before = this.#made.get(upload);
      if (before && before.config === config && before.labels === labels) return before;
      // hosts do not hear that it is leaving: it may stay, and they run what was taken
      const { leavingMs: _leaving, uploadedMs: _at, uploadId: _id, ...facts } = upload;
      const version = { ...facts, tag: queueTag(upload.model, upload.digest), path: "", config, ...(labels && { labels }) };
      this.#made.set(upload, version);
      return version;
    });
    return [...scanned.filter(({ model, version }) => !uploads.has(`${model}@${version}`)), ...uploaded];
  }

  async #publish(scanned: readonly ModelVersion[], read: Lifecycle): Promise<Changed> {
    const revision = await this.#lookAtChoosy();
    const isPublished = this.#indexed && this.#isOfVersions(read) && isSameScan(scanned, this.#scanned);
    if (isPublished && this.#standing.isCurrent(revision)) {
      this.#takeOverAliases(read);
      return unchanged;
    }
    const found = this.#merged(scanned, read);
    const mayRemove = [...found, ...this.#own.values()].some(({ files }) => files === undefined);
    const versions = await this.#standing.publish(found, { revision, mayRemove });
    this.#scanned = scanned;
    if (!this.#indexed && versions.length >= manyVersions) giveBackMemory(); // nobody is served yet, and at rest nothing collects what the scan left
    return this.#takeOver(versions, read);
  }

  /** All in one step: whoever asks sees versions, aliases and states of one reading. */
  #takeOver(versions: readonly ModelVersion[], read: Lifecycle): Changed {
    const before = new Set(this.#byModel.keys());
    this.#byModel = Map.groupBy(versions, (version) => version.model);
    for (const group of this.#byModel.values()) group.sort((a, b) => b.version - a.version);
    // of two with one content the one that stays has the jobs
    const leavingFirst = [...versions].sort((one, other) => Number(isLeaving(other, read)) - Number(isLeaving(one, read)));
    this.#own = new Map(leavingFirst.map((version) => [version.tag, version]));
    this.#indexed = true;
    this.#list();
    this.#takeOverAliases(read, { always: true });
    return {
      added: [...this.#byModel.keys()].filter((model) => !before.has(model)),
      removed: [...before].filter((model) => !this.#byModel.has(model)),
    };
  }

  /** After versions, of which one may be what an alias waits for. */
  #takeOverAliases(read: Lifecycle, { always = false } = {}): void {
    if (!always && read.aliases === this.#taken.aliases) return;
    const isKnown = (model: string, number: number): boolean =>
      this.#byModel.get(model)?.some(({ version }) => version === number) ?? false;
    this.#aliases = aliasesInEffect(read.aliases, this.#aliases, isKnown);
    this.#taken = read;
    this.#statuses.clear(); // what a load promised goes by the default
  }

  #list(): void {
    const choosy = this.#choosy.versions(this.#byModel).map((version) => [version.tag, version] as const);
    const before = this.#byTag;
    this.#byTag = new Map([...choosy, ...this.#own]);
    for (const [tag, { model }] of before) if (!this.#byTag.has(tag)) this.#departed.set(tag, model);
    for (const tag of this.#departed.keys()) {
      if (this.#byTag.has(tag) || this.#departed.size > mostDeparted) this.#departed.delete(tag);
    }
    this.#statuses.clear();
  }

  /** Reads again what other coordinators opened and forgot, if anything changed. Answers the registry's revision. */
  async #lookAtChoosy(): Promise<string | null> {
    const [reply] = await this.#redis.sendAll([["get", keys.modelsRevision]]);
    const revision = reply as string | null;
    if (revision !== this.#choosyRevision) {
      await this.#choosy.refresh();
      this.#choosyRevision = revision;
      this.#list();
    }
    return revision;
  }

  requiring(version: ModelVersion, require: Requirement): ModelStatus {
    const candidate = choosyCandidate(version, require);
    const known = this.#byTag.get(candidate.tag);
    if (known) return this.#status(known);
    const ready = this.#hosts.snapshots().filter((host) => host.view.state === "ready");
    const { missing } = chooseHosts(candidate, ready);
    return { version: candidate, state: "available", warmOn: [], ...(missing.length > 0 && { missing }) };
  }

  async openChoosy(version: ModelVersion): Promise<void> {
    await this.#choosy.open(version);
    if (!this.#byTag.has(version.tag)) this.#list();
  }

  async forgetChoosy(tag: string): Promise<boolean> {
    const forgotten = await this.#choosy.forget(tag);
    if (forgotten) this.#list();
    return forgotten;
  }

  async queuesOf(of: { model?: string; version?: number }): Promise<string[]> {
    await this.#lookAtChoosy();
    const isMeant = (one: ModelVersion): boolean =>
      (of.model === undefined || one.model === of.model) && (of.version === undefined || one.version === of.version);
    return [...this.#byTag.values()].filter(isMeant).map(({ tag }) => tag);
  }

  versionOf(tag: string): ModelVersion | undefined {
    return this.#byTag.get(tag);
  }

  published(): Iterable<ModelVersion> {
    return this.#own.values();
  }

  /** Asked on every request, so it is derived once per look at the hosts. */
  #status(version: ModelVersion): ModelStatus {
    const generation = this.#hosts.generation();
    if (generation !== this.#statusGeneration) {
      this.#statuses.clear();
      this.#statusGeneration = generation;
    }
    let status = this.#statuses.get(version);
    if (!status) {
      status = this.#deriveStatus(version);
      this.#statuses.set(version, status);
    }
    return status;
  }

  #deriveStatus(version: ModelVersion): ModelStatus {
    const hosts = this.#hosts.snapshots().filter((host) => host.view.state !== "lost");
    const holding = hosts.filter((host) => host.loaded[version.tag] !== undefined);
    // a host forgets a failure when it may try again; one that drains tries nothing
    const able = this.#hosts.able(version.tag);
    const failing = able.filter((host) => host.failures[version.tag] !== undefined);
    const status: ModelStatus = { version, state: holding.length > 0 ? "ready" : "available", warmOn: holding.map((host) => host.view.id) };
    const batching = holding[0]?.loaded[version.tag];
    if (batching) status.batching = batching;
    const missing = this.#hosts.missing(version.tag);
    if (isLeaving(version, this.#taken)) {
      status.state = "leaving";
      status.reason = "it is being removed";
    } else if (version.unloaded) {
      status.state = "unloaded";
      status.reason = holding.length > 0 ? "it is being unloaded: what was admitted ends" : "it was unloaded by request";
    } else if (version.failure !== undefined) {
      status.state = "failed";
      status.reason = version.failure;
    } else if (missing.length > 0) {
      status.missing = missing;
      status.reason = `no registered host has what it requires: missing ${missing.join(", ")}`;
    } else if (failing[0]) {
      const why = failing[0].failures[version.tag] as string;
      // one that finds no room now is none the worse for it
      const isStuck = failing.length === able.length && !failing.some((host) => isNoRoom(host.failures[version.tag] as string));
      const isFailed = holding.length === 0 && isStuck;
      if (isFailed) status.state = "failed";
      // which host it was is for operators, who find it among its failures
      status.reason = isFailed ? why : `a host could not load it: ${why}`;
    }
    if (status.state === "available" && this.#taken.states.get(version.model)?.state === "loaded") {
      if (this.promised(version.model).some(({ tag }) => tag === version.tag)) status.loading = true;
    }
    return status;
  }

  promised(model?: string): ModelVersion[] {
    const names = model === undefined ? [...this.#taken.states.keys()] : [model];
    return names.flatMap((name) => {
      if (model === undefined && this.#taken.states.get(name)?.state !== "loaded") return [];
      const versions = this.#byModel.get(name) ?? [];
      const target = this.#targetOf(name, defaultAlias);
      const wanted = target
        ? [...sharesOf(target, () => true).keys()]
        : versions.filter(({ failure }) => failure === undefined).slice(0, 1);
      return versions.filter((version) => wanted.some((one) => one === version || one === version.version));
    });
  }

  list(): ModelStatus[] {
    // not by tag: two versions of one content share theirs
    return [...this.#byModel.values()]
      .flat()
      .sort((a, b) => (a.model === b.model ? a.version - b.version : a.model < b.model ? -1 : 1))
      .map((version) => this.#status(version));
  }

  versions(model: string): ModelStatus[] {
    return (this.#byModel.get(model) ?? []).map((version) => this.#status(version));
  }

  aliases(model: string): ReadonlyMap<string, ModelAlias> | undefined {
    return this.#aliases?.get(model);
  }

  shadowOf(model: string, alias: string): AliasTarget["shadow"] {
    return this.#targetOf(model, alias)?.shadow;
  }

  /** Of the default that is another alias, what that one stands for. */
  #targetOf(model: string, alias: string): AliasTarget | undefined {
    const aliases = this.#aliases?.get(model);
    const target = aliases?.get(alias)?.target;
    return target?.alias === undefined ? target : aliases?.get(target.alias)?.target;
  }

  resolve(model: string, named?: number | string): ModelStatus {
    return this.#named(model, named, (shares) => chooseVersion(shares, this.#chance()));
  }

  usual(model: string, named?: number | string): ModelStatus {
    return this.#named(model, named, mainVersion);
  }

  #named(
    model: string,
    named: number | string | undefined,
    choose: (shares: ReadonlyMap<number, number>) => number | undefined,
  ): ModelStatus {
    const alias = typeof named === "number" ? undefined : (named ?? defaultAlias);
    const target = alias === undefined ? undefined : this.#targetOf(model, alias);
    if (target) return this.#resolved(model, choose(this.#sharesOf(model, target)));
    if (typeof named !== "string") return this.#resolved(model, named);
    this.#resolved(model, undefined); // of a model that is not there its aliases say nothing
    throw new SwitchyardError("version_not_found", `Request for unknown model: '${model}' has no version or alias '${named.slice(0, 64)}'`);
  }

  #sharesOf(model: string, target: AliasTarget): Map<number, number> {
    return sharesOf(target, (number) => {
      const version = this.#byModel.get(model)?.find((one) => one.version === number);
      if (version === undefined) return false;
      const { state } = this.#status(version);
      return state === "ready" || state === "available";
    });
  }

  #resolved(model: string, version: number | undefined): ModelStatus {
    const versions = this.#byModel.get(model);
    if (!versions && !this.#indexed) {
      // a model that is there must not be denied for good by a coordinator that has just been started again
      throw new SwitchyardError("model_not_ready", "this coordinator has just started and does not know the models yet; try again", {
        retryAfterMs: 1_000,
      });
    }
    if (!versions) throw new SwitchyardError("model_not_found", `Request for unknown model: '${model}' is not found`);
    if (version !== undefined) {
      const asked = versions.find((one) => one.version === version);
      if (asked) return this.#status(asked);
      const known = versions.map((one) => one.version).join(", ");
      throw new SwitchyardError(
        "version_not_found",
        `Request for unknown model: '${model}' version ${version} is not found; known: ${known}`,
      );
    }
    for (const one of versions) {
      const status = this.#status(one);
      if (status.state !== "failed" && status.state !== "leaving") return status;
    }
    return this.#status(versions[0] as ModelVersion);
  }

  byTag(tag: string): ModelStatus | undefined {
    const version = this.#byTag.get(tag);
    return version && this.#status(version);
  }

  mayTake(tag: string): boolean {
    const version = this.#byTag.get(tag);
    if (version?.files === undefined) return true;
    return !isLeaving(version, this.#taken) && Math.abs(this.#redis.nowMs() - this.#lookedMs) <= knownForMs;
  }

  leaving(): UploadedVersion[] {
    return [...this.#taken.uploads.values()].filter(({ leavingMs }) => leavingMs !== undefined);
  }

  /** The model that a job belongs to, by its id; also where its version has been replaced or removed since. */
  modelOf(jobId: string): string | undefined {
    const tag = tagOf(jobId);
    return this.#byTag.get(tag)?.model ?? this.#departed.get(tag);
  }

  has(model: string): boolean {
    return this.#byModel.has(model);
  }

  tags(): string[] {
    return [...this.#byTag.keys()];
  }

  abandoned(): string[] {
    return this.#choosy.tags().filter((tag) => !this.#byTag.has(tag));
  }

  indexed(): boolean {
    return this.#indexed;
  }
}

function isLeaving({ model, version }: ModelVersion, { uploads }: Lifecycle): boolean {
  return uploads.size > 0 && uploads.get(`${model}@${version}`)?.leavingMs !== undefined;
}

/** A scan answers the same object for a version that did not change. */
function isSameScan(now: readonly ModelVersion[], before: readonly ModelVersion[]): boolean {
  return now.length === before.length && now.every((version, at) => version === before[at]);
}
