/**
 * Removes an uploaded version, if nothing stands on it. What stands on it may be written by another coordinator at the same moment, so it is looked
 * for before, and again when every coordinator knows that the version is gone; then the entry is put back as it was. Its number is taken for good.
 */

import { type AliasTarget, SwitchyardError, type UploadedVersion } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { AliasStore } from "../ports/alias-store.ts";
import type { JobStore } from "../ports/job-store.ts";
import type { Log } from "../ports/log.ts";
import type { ModelRegistry } from "../ports/model-registry.ts";
import type { ModelStateStore } from "../ports/model-state-store.ts";
import type { UploadStore, VersionName } from "../ports/upload-store.ts";

/** Every coordinator has looked twice by then. */
const agreedMs = 1_200;

export interface VersionRemovalParts {
  uploads: UploadStore;
  aliases: AliasStore;
  states: ModelStateStore;
  models: Pick<ModelRegistry, "promised" | "queuesOf" | "resolve" | "versions">;
  jobs: Pick<JobStore, "openQueues">;
  /** Reads the store again and publishes what changed. */
  takeOver: () => Promise<void>;
  clock: Clock;
  log: Log;
}

export class VersionRemoval {
  readonly #parts: VersionRemovalParts;

  constructor(parts: VersionRemovalParts) {
    this.#parts = parts;
  }

  /**
   * Its files are let go of: they are deleted when nothing else keeps them, within eight days. Throws `version_in_use` while an alias names it, it is
   * loaded by request or has jobs without an outcome, `invalid_request` for one in the repository's folder, `version_not_found` when there is none.
   */
  async remove(of: VersionName): Promise<void> {
    const { clock, log, takeOver, uploads } = this.#parts;
    if (!(await uploads.find(of))) throw this.#notUploaded(of);
    const stands = { isPromised: this.#isPromised(of), tags: await this.#queuesOf(of) };
    await this.#mustBeUnused(of, stands);
    let removed: UploadedVersion | undefined;
    await uploads.change(of, (found) => {
      if (!found) throw this.#notUploaded(of);
      removed = found;
      return undefined;
    });
    try {
      await takeOver();
      await clock.sleep(agreedMs);
      await this.#mustBeUnused(of, stands);
    } catch (error) {
      await uploads.change(of, (found) => found ?? removed);
      await takeOver();
      throw error;
    }
    log.info("version_removed", { ...of, digest: removed!.digest });
  }

  /** Of its jobs; none where another version has the same content, and goes on with them. */
  async #queuesOf({ model, version }: VersionName): Promise<string[]> {
    const all = this.#parts.models.versions(model).map((status) => status.version);
    const digest = all.find((one) => one.version === version)?.digest;
    return all.some((one) => one.version !== version && one.digest === digest) ? [] : this.#parts.models.queuesOf({ model, version });
  }

  /** Whether it is what a load of its model asks for. */
  #isPromised({ model, version }: VersionName): boolean {
    const { models } = this.#parts;
    return models.versions(model).length > 0 && models.promised(model).some((one) => one.version === version);
  }

  async #mustBeUnused(of: VersionName, { isPromised, tags }: { isPromised: boolean; tags: readonly string[] }): Promise<void> {
    const { aliases, jobs, states } = this.#parts;
    for (const [alias, { target }] of (await aliases.all()).get(of.model) ?? []) {
      const how = namedIn(target, of.version);
      if (how !== undefined) throw inUse(of, `the alias '${alias}' names it${how}; let that alias name another one first`);
    }
    if (isPromised && (await states.all()).get(of.model)?.state === "loaded") {
      throw inUse(of, `model ${of.model} is loaded by request, in this version; unload it first`);
    }
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

/** In words that end a sentence; undefined when it does not. */
function namedIn({ shadow, split, version }: AliasTarget, number: number): string | undefined {
  if (version === number) return "";
  if (split?.[String(number)] !== undefined) return " in its split";
  return shadow?.version === number ? " as its shadow" : undefined;
}

function inUse({ model, version }: VersionName, why: string): SwitchyardError {
  return new SwitchyardError("version_in_use", `Version ${version} of model ${model} is in use: ${why}`);
}
