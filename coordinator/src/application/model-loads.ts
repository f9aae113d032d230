/** Loads on request: says what is wanted, and waits until a host holds it or cannot. Whoever plans placement sees to it. */

import { type ModelVersion, SwitchyardError } from "@switchyard/protocol";
import { configMark } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";
import type { HostDirectory } from "../ports/host-registry.ts";
import type { ModelRegistry } from "../ports/model-registry.ts";
import type { PlacementBoard } from "../ports/placement-board.ts";
import { beingRemoved } from "./version-removal.ts";

/** Longer than a load usually takes, shorter than clients and proxies wait. */
const longestMs = 60_000;
const lookEveryMs = 100;
/** A host says why it could not load something for some seconds after it tried: what it says in the first moments may be about an earlier try. */
const staleMs = 1_500;

export interface ModelLoadsParts {
  models: ModelRegistry;
  hosts: Pick<HostDirectory, "snapshots">;
  board: Pick<PlacementBoard, "want">;
  clock: Clock;
}

export class ModelLoads {
  readonly #parts: ModelLoadsParts;

  constructor(parts: ModelLoadsParts) {
    this.#parts = parts;
  }

  /**
   * Resolves when a host holds the version as it is configured. Throws `model_failed` with the reason when it does not load anywhere, `no_capable_host`
   * when nobody may load it, `model_not_ready` when it takes too long or the signal aborts; a load that was begun goes on.
   */
  async ensure(version: ModelVersion, signal: AbortSignal): Promise<void> {
    const { board } = this.#parts;
    const wants = { asked: false };
    try {
      await this.#untilHeld(version, signal, wants);
    } finally {
      // what does not load here and now must not keep others from being loaded
      if (wants.asked) await board.want(version.tag, 0).catch(() => {});
    }
  }

  async #untilHeld(version: ModelVersion, signal: AbortSignal, wants: { asked: boolean }): Promise<void> {
    const { board, clock, models } = this.#parts;
    const startedMs = clock.monotonicMs();
    const name = `model ${version.model} version ${version.version}`;
    for (;;) {
      const status = models.byTag(version.tag);
      if (!status) throw new SwitchyardError("version_not_found", `${name} is no longer in the repository`);
      if (status.state === "ready" && this.#isHeldAsConfigured(status.version)) return;
      if (status.state === "leaving") throw beingRemoved(version);
      if (status.state === "unloaded") throw new SwitchyardError("model_unloaded", `${name} was unloaded meanwhile`);
      const tookMs = clock.monotonicMs() - startedMs;
      if (status.version.failure !== undefined) throw new SwitchyardError("model_failed", `failed to load ${name}: ${status.reason}`);
      if (status.missing) {
        const extra = { missing: status.missing };
        throw new SwitchyardError("no_capable_host", `failed to load ${name}: ${status.reason}`, { extra });
      }
      if (status.state === "failed" && tookMs > staleMs) {
        throw new SwitchyardError("model_failed", `failed to load ${name}: ${status.reason}`);
      }
      if (tookMs > longestMs || signal.aborted) {
        const why = status.reason ?? "it is still being loaded";
        throw new SwitchyardError("model_not_ready", `${name} is not loaded yet: ${why}`, { retryAfterMs: 1_000 });
      }
      if (!wants.asked) await board.want(version.tag, longestMs);
      wants.asked = true;
      await clock.sleep(lookEveryMs, signal);
    }
  }

  /** A host may hold it with settings of before; one that does not say with which ones has no others. */
  #isHeldAsConfigured({ config, tag }: ModelVersion): boolean {
    const mark = configMark(config);
    const holding = this.#parts.hosts.snapshots().filter(({ view }) => view.state === "ready");
    return holding.some(({ loaded }) => loaded[tag] !== undefined && (loaded[tag].config ?? mark) === mark);
  }
}
