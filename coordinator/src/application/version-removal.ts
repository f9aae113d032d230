/**
 * Removes an uploaded version, if nothing stands on it. It is marked as leaving first: from then on no coordinator takes jobs for it or lets an alias name
 * it. What was written meanwhile is looked for when the last one knows; only then the entry goes, or the mark. Its number is taken for good.
 */

import { type AliasTarget, SwitchyardError, type UploadedVersion } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { AliasStore } from "../ports/alias-store.ts";
import type { JobStore } from "../ports/job-store.ts";
import type { Log } from "../ports/log.ts";
import { knownForMs, type ModelRegistry } from "../ports/model-registry.ts";
import type { ModelStateStore } from "../ports/model-state-store.ts";
import type { ModelStatistics } from "../ports/model-statistics.ts";
import type { UploadStore, VersionName } from "../ports/upload-store.ts";
import { untilDone } from "./until-done.ts";

/** By then every coordinator has read the mark, or takes no jobs for uploaded versions; and what was on its way is written. */
const agreedMs = knownForMs + 500;
/** A version that answered a job within that is in use, though none waits at this moment. */
const idleMs = 60_000;
/** Whoever has marked a version is done with it by then, or dead. */
const abandonedMs = 15_000;

export interface VersionRemovalParts {
  uploads: UploadStore;
  aliases: AliasStore;
  states: ModelStateStore;
  models: Pick<ModelRegistry, "leaving" | "promised" | "queuesOf" | "resolve" | "versions">;
  jobs: Pick<JobStore, "openQueues">;
  statistics: Pick<ModelStatistics, "read">;
  /** Reads the store again and publishes what changed. */
  takeOver: () => Promise<void>;
  clock: Clock;
  log: Log;
}

export class VersionRemoval {
  readonly #parts: VersionRemovalParts;
  /** Versions that somebody removes, as they were seen, and since when; by this machine's clock. */
  #seen = new Map<string, number>();

  constructor(parts: VersionRemovalParts) {
    this.#parts = parts;
  }

  /**
   * Its files are let go of: they are deleted when nothing else keeps them, within eight days. Throws `version_in_use` while an alias names it, it is
   * loaded by request, has jobs without an outcome or had some within the last minute, `model_not_ready` while somebody else removes it,
   * `invalid_request` for one in the repository's folder, `version_not_found` when there is none.
   */
  async remove(of: VersionName): Promise<void> {
    const { clock, log, takeOver, uploads } = this.#parts;
    this.#mustBeThere(await uploads.find(of), of);
    await this.#mustBeUnused(of);
    const answeredMs = await this.#answeredMs(of);
    let marked: UploadedVersion | undefined;
    try {
      await uploads.change(of, (found, nowMs) => {
        this.#mustBeThere(found, of);
        if (nowMs - answeredMs < idleMs)
          throw inUse(of, `it answered a job within the last ${idleMs / 1000} s; send no more, and try again`);
        marked = { ...found, leavingMs: nowMs };
        return marked;
      });
      await takeOver();
      await clock.sleep(agreedMs);
      await this.#mustBeUnused(of);
      await uploads.change(of, (found) => {
        if (found?.leavingMs !== marked?.leavingMs) throw stayed(of);
        return undefined;
      });
    } catch (error) {
      if (marked) await this.#letStay(marked);
      throw error;
    }
    log.info("version_removed", { ...of, digest: marked!.digest });
    await takeOver().catch(() => {}); // it is gone; coordinators look again by themselves
  }

  /** Lets versions stay whose removal nobody goes on with. Every coordinator does that, again and again. */
  async endAbandoned(): Promise<void> {
    const { clock, log, models } = this.#parts;
    const before = this.#seen;
    this.#seen = new Map();
    const nowMs = clock.monotonicMs();
    for (const marked of models.leaving()) {
      const name = `${marked.model}@${marked.version} ${marked.leavingMs}`;
      const sinceMs = before.get(name) ?? nowMs;
      this.#seen.set(name, sinceMs);
      if (nowMs - sinceMs < abandonedMs) continue;
      log.warn("removal_abandoned", { model: marked.model, version: marked.version });
      await this.#letStay(marked);
    }
  }

  /** Takes this very mark away; nothing else. One that the store does not take is abandoned. */
  async #letStay(marked: UploadedVersion): Promise<void> {
    const { clock, takeOver, uploads } = this.#parts;
    await untilDone(clock, async () => {
      await uploads.change(marked, (found) => {
        if (found?.leavingMs !== marked.leavingMs) return found;
        const { leavingMs: _mark, ...stays } = found!;
        return stays;
      });
      await takeOver();
    });
  }

  #mustBeThere(found: UploadedVersion | undefined, of: VersionName): asserts found is UploadedVersion {
    if (!found) throw this.#notUploaded(of);
    if (found.leavingMs !== undefined) throw beingRemoved(of);
  }

  /** When it last answered a job, by the store's clock. */
  async #answeredMs(of: VersionName): Promise<number> {
    const tallies = await this.#parts.statistics.read(await this.#queuesOf(of));
    return Math.max(0, ...[...tallies.values()].map(({ lastMs }) => lastMs));
  }

  /** Of its jobs; none where another version has the same content, and goes on with them. */
  async #queuesOf({ model, version }: VersionName): Promise<string[]> {
    const all = this.#parts.models.versions(model);
    const digest = all.find((one) => one.version.version === version)?.version.digest;
    const goesOn = all.some((one) => one.version.version !== version && one.version.digest === digest && one.state !== "leaving");
    return goesOn ? [] : this.#parts.models.queuesOf({ model, version });
  }

  /** Whether it is what a load of its model asks for. */
  #isPromised({ model, version }: VersionName): boolean {
    const { models } = this.#parts;
    return models.versions(model).length > 0 && models.promised(model).some((one) => one.version === version);
  }

  async #mustBeUnused(of: VersionName): Promise<void> {
    const { aliases, jobs, states } = this.#parts;
    for (const [alias, { target }] of (await aliases.all()).get(of.model) ?? []) {
      const how = namedIn(target, of.version);
      if (how !== undefined) throw inUse(of, `the alias '${alias}' names it${how}; let that alias name another one first`);
    }
    if (this.#isPromised(of) && (await states.all()).get(of.model)?.state === "loaded") {
      throw inUse(of, `model ${of.model} is loaded by request, in this version; unload it first`);
    }
    const tags = await this.#queuesOf(of);
    if (tags.length > 0 && (await jobs.openQueues(tags)).length > 0) {
      throw inUse(of, "jobs for it wait or run; let them end or cancel them, and send no more");
    }
  }

  #notUploaded(of: VersionName): SwitchyardError {
    const { version } = this.#parts.models.resolve(of.model, of.version); // throws when there is none at all
    if (version.files) return new SwitchyardError("version_not_found", `Version ${of.version} of model ${of.model} was just removed`);
    const detail = `Version ${of.version} of model ${of.model} lies in the repository's folder: remove it there`;
    return new SwitchyardError("invalid_request", detail);
  }
}

/** What callers hear of a version while somebody removes it: it may stay yet. */
export function beingRemoved({ model, version }: VersionName): SwitchyardError {
  const detail = `Version ${version} of model ${model} is being removed, or this coordinator cannot tell: ask again, or for another version`;
  return new SwitchyardError("model_not_ready", detail, { retryAfterMs: agreedMs });
}

function stayed({ model, version }: VersionName): SwitchyardError {
  const detail = `Removing version ${version} of model ${model} took so long that another coordinator let it stay; try again`;
  return new SwitchyardError("changed_meanwhile", detail);
}

/** In words that end a sentence; undefined when it does not. */
function namedIn({ shadow, split, version }: AliasTarget, number: number): string | undefined {
  if (version === number) return "";
  if (split?.[String(number)] !== undefined) return " in its split";
  return shadow?.version === number ? " as its shadow" : undefined;
}

function inUse({ model, version }: VersionName, why: string): SwitchyardError {
  return new SwitchyardError("version_in_use", `Version ${version} of model ${model} is in use: ${why}`);
}
