/**
 * The model registry: what this coordinator's repository holds and what was uploaded, published for hosts. A version's content never changes: the first digest
 * that was published under a number stays, and other content under the same number is listed as failed.
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
import { keys, queueTag, type RedisCommand, tagOf } from "@switchyard/protocol/redis";
import type { AliasStore, AllAliases } from "../ports/alias-store.ts";
import type { HostDirectory } from "../ports/host-registry.ts";
import type { ModelRegistry, ModelStatus } from "../ports/model-registry.ts";
import type { ModelStateStore } from "../ports/model-state-store.ts";
import type { UploadStore } from "../ports/upload-store.ts";
import { chooseVersion, sharesOf } from "../scheduler/traffic-split.ts";
import { ChoosyQueues, choosyCandidate } from "./choosy-queues.ts";
import { chooseHosts } from "./host-choice.ts";
import type { RedisConnection } from "./redis-connection.ts";

/** What was uploaded or configured is read this often though its counter did not rise: whoever writes may die before it raises that. */
const lookAnywayMs = 30_000;

/** Models that came and went. */
export interface Changed {
  added: string[];
  removed: string[];
}

export class RedisModels implements ModelRegistry {
  readonly #redis: RedisConnection;
  readonly #hosts: HostDirectory;
  #byModel = new Map<string, ModelVersion[]>();
  /** By tag, as the repository has them, and with the queues of jobs that require more. */
  #own = new Map<string, ModelVersion>();
  #byTag = new Map<string, ModelVersion>();
  readonly #choosy: ChoosyQueues;
  #choosyRevision: string | null = null;
  #revision: string | null = null;
  #indexed = false;
  #scanned: readonly ModelVersion[] = [];
  /** What came by the interface, and the counter of its changes as it stood before that was read. */
  #uploaded: readonly UploadedVersion[] = [];
  #configs: ReadonlyMap<string, ModelConfig> = new Map();
  #lifecycle: string | null = null;
  /** When that was read, by the store's clock. */
  #lookedMs = 0;
  /** What was read, to tell whether it changed. */
  #lookedText = "";
  readonly #uploads: UploadStore;
  readonly #aliasStore: AliasStore;
  readonly #stateStore: ModelStateStore;
  #states: ReadonlyMap<string, ModelState> = new Map();
  #aliases: AllAliases = new Map();
  /** A number in [0, 1). */
  readonly #chance: () => number;
  /** The version that an upload became, while neither has changed. */
  readonly #made = new WeakMap<UploadedVersion, ModelVersion>();
  #publishing: Promise<unknown> = Promise.resolve();
  readonly #statuses = new Map<ModelVersion, ModelStatus>();
  #statusGeneration = -1;

  constructor(
    redis: RedisConnection,
    hosts: HostDirectory,
    parts: { uploads: UploadStore; aliases: AliasStore; states: ModelStateStore; chance: () => number },
  ) {
    this.#stateStore = parts.states;
    this.#redis = redis;
    this.#uploads = parts.uploads;
    this.#aliasStore = parts.aliases;
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
      const isChanged = await this.#lookAtLifecycle();
      return this.#publish(scanned, isChanged);
    });
  }

  /** Takes over what was uploaded or configured, here or by another coordinator, if anything was. */
  look(): Promise<Changed> {
    return this.#oneAtATime(async () => {
      // what lies in the folder is not known yet: without it everything would seem to be gone
      if (!this.#indexed || !(await this.#lookAtLifecycle())) return { added: [], removed: [] };
      return this.#publish(this.#scanned, true);
    });
  }

  #oneAtATime(act: () => Promise<Changed>): Promise<Changed> {
    const turn = this.#publishing.then(act).catch((error: unknown) => {
      this.#lifecycle = null; // what was read was not published
      throw error;
    });
    this.#publishing = turn.catch(() => undefined);
    return turn;
  }

  async #lookAtLifecycle(): Promise<boolean> {
    const [reply] = await this.#redis.sendAll([["get", keys.lifecycleRevision]]);
    const revision = (reply as string | null) ?? "0";
    const nowMs = this.#redis.nowMs();
    const hasRisen = revision !== this.#lifecycle;
    if (!hasRisen && Math.abs(nowMs - this.#lookedMs) < lookAnywayMs) return false;
    const known = new Map(this.#uploaded.map((upload) => [`${upload.model}@${upload.version}`, upload]));
    const [uploads, configs, aliases, states] = await Promise.all([
      this.#uploads.uploads(),
      this.#uploads.configs(),
      this.#aliasStore.all(),
      this.#stateStore.all(),
    ]);
    this.#lookedMs = nowMs;
    const found = [uploads.map(({ uploadId }) => uploadId), [...configs], [...aliases].map(([model, of]) => [model, [...of]]), [...states]];
    const text = JSON.stringify(found);
    if (!hasRisen && text === this.#lookedText) return false;
    this.#lookedText = text;
    // an entry is written once: one that is known is the same object still
    this.#uploaded = uploads.map((upload) => known.get(`${upload.model}@${upload.version}`) ?? upload);
    this.#configs = configs;
    this.#aliases = aliases;
    this.#states = states;
    this.#lifecycle = revision;
    return true;
  }

  /** What the folder has and what was uploaded; of a version that is both, the upload, which any host can fetch. */
  #merged(scanned: readonly ModelVersion[]): ModelVersion[] {
    return this.#withUploads(scanned).map((version) => {
      const state = this.#states.get(version.model);
      if (state === undefined) return version;
      const config = { ...version.config, ...state.config };
      return { ...version, config, ...(state.state === "unloaded" && { unloaded: true as const }) };
    });
  }

  #withUploads(scanned: readonly ModelVersion[]): ModelVersion[] {
    if (this.#uploaded.length === 0) return [...scanned];
    const inFolder = new Map(scanned.map((version) => [version.model, version]));
    const uploaded = this.#uploaded.map((upload) => {
      const { config, labels } = inFolder.get(upload.model) ?? { config: this.#configs.get(upload.model) ?? {}, labels: undefined };
      const before = this.#made.get(upload);
      if (before && JSON.stringify([before.config, before.labels]) === JSON.stringify([config, labels])) return before;
      const { uploadedMs: _at, uploadId: _id, ...facts } = upload;
      const version = { ...facts, tag: queueTag(upload.model, upload.digest), path: "", config, ...(labels && { labels }) };
      this.#made.set(upload, version);
      return version;
    });
    const names = new Set(uploaded.map((version) => `${version.model}@${version.version}`));
    return [...scanned.filter((version) => !names.has(`${version.model}@${version.version}`)), ...uploaded];
  }

  async #publish(found: readonly ModelVersion[], isChanged: boolean): Promise<Changed> {
    const revision = await this.#lookAtChoosy();
    if (this.#indexed && !isChanged && revision !== null && revision === this.#revision && isSameScan(found, this.#scanned)) {
      return { added: [], removed: [] };
    }
    const scanned = this.#merged(found);
    const fields = scanned.map((version) => `${version.model}@${version.version}`);
    const digests = await this.#firstDigests(scanned, fields);
    const versions = scanned.map((version, at) => withFirstDigest(version, digests[at] ?? version.digest));
    this.#revision = await this.#write(versions, fields, revision);
    this.#scanned = found;
    return this.#takeOver(versions);
  }

  #takeOver(versions: readonly ModelVersion[]): Changed {
    const before = new Set(this.#byModel.keys());
    this.#byModel = Map.groupBy(versions, (version) => version.model);
    for (const group of this.#byModel.values()) group.sort((a, b) => b.version - a.version);
    this.#own = new Map(versions.map((version) => [version.tag, version]));
    this.#indexed = true;
    this.#list();
    return {
      added: [...this.#byModel.keys()].filter((model) => !before.has(model)),
      removed: [...before].filter((model) => !this.#byModel.has(model)),
    };
  }

  #list(): void {
    const choosy = this.#choosy.versions(this.#byModel).map((version) => [version.tag, version] as const);
    this.#byTag = new Map([...choosy, ...this.#own]);
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

  /** Pins the content of every version that can be served; what cannot be may be half a copy. Answers what stands, null where nothing does. */
  async #firstDigests(versions: readonly ModelVersion[], fields: readonly string[]): Promise<(string | null)[]> {
    if (fields.length === 0) return [];
    const [known] = await this.#redis.sendAll([["hmget", keys.digests, ...fields]]);
    const pins = versions.flatMap((version, at) =>
      (known as (string | null)[])[at] === null && version.failure === undefined
        ? [["hsetnx", keys.digests, fields[at] as string, version.digest] as const]
        : [],
    );
    if (pins.length === 0) return known as (string | null)[];
    const replies = await this.#redis.sendAll([...pins, ["hmget", keys.digests, ...fields]]);
    return replies.at(-1) as (string | null)[];
  }

  /**
   * Writes what differs from what stands in Redis, and raises the revision. A coordinator whose folder never had a model removes none:
   * it may not be mounted. What was uploaded and is no longer, any of them removes. Answers the revision.
   */
  async #write(versions: readonly ModelVersion[], fields: readonly string[], revision: string | null): Promise<string> {
    const [reply] = await this.#redis.sendAll([["hgetall", keys.models]]);
    const flat = reply as string[];
    const stored = new Map(flat.flatMap((field, at) => (at % 2 === 0 ? [[field, flat[at + 1] as string] as const] : [])));
    const wanted = new Map(fields.map((field, at) => [field, JSON.stringify(versions[at])]));
    const changed = [...wanted].filter(([field, text]) => stored.get(field) !== text);
    const mayRemove = [...versions, ...this.#own.values()].some(({ files }) => files === undefined);
    const isUpload = (text: string): boolean => (JSON.parse(text) as Partial<ModelVersion>).files !== undefined;
    const unknown = [...stored].flatMap(([field, text]) => (!wanted.has(field) && (mayRemove || isUpload(text)) ? [field] : []));
    // another coordinator may have taken an upload since this one looked: read after the list, so that what is listed and uploaded is found
    const uploads = new Set(unknown.length === 0 ? [] : (await this.#uploads.uploads()).map(({ model, version }) => `${model}@${version}`));
    const gone = unknown.filter((field) => !uploads.has(field));
    if (changed.length === 0 && gone.length === 0 && revision !== null) return revision;
    // raised in the same write, since nobody else would tell hosts of what stands already; and after it, since a cluster keeps no order
    const raise: RedisCommand = ["incr", keys.modelsRevision];
    const writes: RedisCommand[] = [];
    if (changed.length > 0) writes.push(["hset", keys.models, ...changed.flat()]);
    if (gone.length > 0) writes.push(["hdel", keys.models, ...gone]);
    if (writes.length > 0) await this.#redis.sendAll([...writes, raise]);
    const [raised] = await this.#redis.sendAll([raise]);
    return String(raised);
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
    if (version.unloaded) {
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
      status.reason = isFailed ? why : `host ${failing[0].view.id} could not load it: ${why}`;
    }
    if (status.state === "available" && this.#states.get(version.model)?.state === "loaded") {
      if (this.promised(version.model).some(({ tag }) => tag === version.tag)) status.loading = true;
    }
    return status;
  }

  promised(model?: string): ModelVersion[] {
    const names = model === undefined ? [...this.#states.keys()] : [model];
    return names.flatMap((name) => {
      if (model === undefined && this.#states.get(name)?.state !== "loaded") return [];
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
    return this.#aliases.get(model);
  }

  shadowOf(model: string, alias: string): AliasTarget["shadow"] {
    return this.#targetOf(model, alias)?.shadow;
  }

  /** Of the default that is another alias, what that one stands for. */
  #targetOf(model: string, alias: string): AliasTarget | undefined {
    const aliases = this.#aliases.get(model);
    const target = aliases?.get(alias)?.target;
    return target?.alias === undefined ? target : aliases?.get(target.alias)?.target;
  }

  resolve(model: string, named?: number | string): ModelStatus {
    const alias = typeof named === "number" ? undefined : (named ?? defaultAlias);
    const target = alias === undefined ? undefined : this.#targetOf(model, alias);
    if (target) return this.#resolved(model, chooseVersion(this.#sharesOf(model, target), this.#chance()));
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
      if (status.state !== "failed") return status;
    }
    return this.#status(versions[0] as ModelVersion);
  }

  byTag(tag: string): ModelStatus | undefined {
    const version = this.#byTag.get(tag);
    return version && this.#status(version);
  }

  /** The model that a job belongs to, by its id. */
  modelOf(jobId: string): string | undefined {
    return this.#byTag.get(tagOf(jobId))?.model;
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

/** A scan answers the same object for a version that did not change. */
function isSameScan(now: readonly ModelVersion[], before: readonly ModelVersion[]): boolean {
  return now.length === before.length && now.every((version, at) => version === before[at]);
}

function withFirstDigest(version: ModelVersion, first: string): ModelVersion {
  if (version.digest === first || version.digest === "") return version;
  const failure = `its content changed: version ${version.version} was published with digest ${first.slice(0, 12)}… and is now ${version.digest.slice(0, 12)}…; put new content under a new version number`;
  return { ...version, failure };
}
