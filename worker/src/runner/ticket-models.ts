/** The models of a runner's tickets: loads that tickets wait for, and pins for as long as a batch is in hand. */

import { type ModelVersion, SwitchyardError } from "@switchyard/protocol";
import type { LoadedModel } from "../runtime/loaded-model.ts";

export interface ModelSource {
  /** The loaded model; throws SwitchyardError with the reason when it cannot be loaded. */
  ensure(version: ModelVersion): Promise<LoadedModel>;
  /** Whether `ensure` would answer at once. */
  isLoaded(version: ModelVersion): boolean;
  /** Whether it is loaded and its runs leave this thread free. */
  runsBeside(version: ModelVersion): boolean;
  /** Keeps a loaded model in memory until the answered function is called; throws when it has gone meanwhile. */
  pin(version: ModelVersion): () => void;
}

/** The model, and how it is let go; or why there is none. */
export interface PinnedModel {
  model: LoadedModel | SwitchyardError;
  unpin: () => void;
}

export class TicketModels {
  readonly #models: ModelSource;
  /** Loads that tickets wait for, by tag; `over` until the ticket has looked at what came of it. */
  readonly #loads = new Map<string, "running" | "over">();

  constructor(models: ModelSource) {
    this.#models = models;
  }

  /** Whether a ticket may look now: its model is here, or a load of it has just been over, be it in failure. The latter holds for one look; then it is loaded again. */
  mayLookOnce(version: ModelVersion): boolean {
    const load = this.#loads.get(version.tag);
    if (load !== "running") this.#loads.delete(version.tag);
    return load === "over" || this.#models.isLoaded(version);
  }

  /** Begins to load it unless that is under way. `isAwaited`: whether a ticket wants to look when it is over, of which `over` then tells. */
  load(version: ModelVersion, { isAwaited, over }: { isAwaited: () => boolean; over: () => void }): void {
    const { tag } = version;
    if (this.#loads.get(tag) === "running") return;
    this.#loads.set(tag, "running");
    const end = (): void => {
      if (isAwaited()) this.#loads.set(tag, "over");
      else this.#loads.delete(tag);
      over();
    };
    this.#models.ensure(version).then(end, end);
  }

  /** The model, pinned, or why there is none; then its jobs are claimed all the same and told so. */
  async pinned(version: ModelVersion): Promise<PinnedModel> {
    for (;;) {
      let model: LoadedModel;
      try {
        model = await this.#models.ensure(version);
      } catch (error) {
        const known = error instanceof SwitchyardError ? error : new SwitchyardError("model_not_ready", "the model could not be loaded");
        return { model: known, unpin: () => {} };
      }
      try {
        return { model, unpin: this.#models.pin(version) };
      } catch {
        // another load took its room between the two calls: load it again
      }
    }
  }
}
