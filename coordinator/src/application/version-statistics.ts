/** Statistics as doors tell them: of each version of the models asked for, over all its queues, hosts and coordinators. */

import { addTally, emptyTally, type ModelVersion, type QueueTally, SwitchyardError } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { ModelRegistry, ModelStatus } from "../ports/model-registry.ts";
import type { ModelStatistics } from "../ports/model-statistics.ts";
import { type Caller, mayUse, requireModel } from "./caller.ts";

/** Hosts tell what they have counted within this time: who asks after an answer finds it counted. */
const settleMs = 250;

export interface VersionStatistics {
  model: string;
  version: number;
  tally: QueueTally;
}

export interface StatisticsService {
  /**
   * One entry for each version asked for that is not failed, by model, then version; without a model, for all that the caller may use.
   * Throws `model_not_found`, `version_not_found`, `model_failed`, `forbidden`, `store_unavailable`.
   */
  of(asked: { model?: string | undefined; version?: number | string | undefined }, caller: Caller): Promise<VersionStatistics[]>;
}

interface Parts {
  statistics: Pick<ModelStatistics, "read">;
  models: Pick<ModelRegistry, "list" | "usual" | "versions" | "queuesOf" | "versionOf">;
  clock: Pick<Clock, "sleep">;
}

export class StatisticsOfVersions implements StatisticsService {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async of(asked: { model?: string | undefined; version?: number | string | undefined }, caller: Caller): Promise<VersionStatistics[]> {
    const { clock, models, statistics } = this.#parts;
    const versions = this.#versions(asked, caller);
    await clock.sleep(settleMs);
    const { model } = asked;
    // one queue of its own, which versions of equal content share, and those of jobs that require more than the model does
    const queues = new Map(versions.map((version) => [nameOf(version), new Set([version.tag])]));
    for (const tag of await models.queuesOf(model === undefined ? {} : { model })) {
      const version = models.versionOf(tag);
      if (version) queues.get(nameOf(version))?.add(tag);
    }
    const tallies = await statistics.read([...new Set([...queues.values()].flatMap((tags) => [...tags]))]);
    return versions.map((version) => {
      const tally = emptyTally();
      for (const tag of queues.get(nameOf(version)) ?? []) addTally(tally, tallies.get(tag) ?? emptyTally());
      return { model: version.model, version: version.version, tally };
    });
  }

  #versions({ model, version }: { model?: string | undefined; version?: number | string | undefined }, caller: Caller): ModelVersion[] {
    const { models } = this.#parts;
    let found: ModelStatus[];
    if (model === undefined) found = models.list().filter((status) => mayUse(caller, status.version.model));
    else {
      requireModel(caller, model);
      const resolved = models.usual(model, version);
      if (resolved.state === "failed") {
        const why = `'${model}' version ${resolved.version.version} failed to load: ${resolved.reason ?? "no reason known"}`;
        throw new SwitchyardError("model_failed", why);
      }
      found = version === undefined ? models.versions(model).toReversed() : [resolved];
    }
    return found.filter(({ state }) => state !== "failed").map((status) => status.version);
  }
}

function nameOf({ model, version }: ModelVersion): string {
  return `${model}@${version}`;
}
