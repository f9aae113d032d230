/** The models of a runner's tickets: whether they are here, loads that tickets wait for, and pins while a batch is in hand. */

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

  /** Whether a look would have to wait: the model is not here, and no load of it has just been over, be it in failure. */
  isMissing(version: ModelVersion): boolean {
    const load = this.#loads.get(version.tag);
    if (load !== "running") this.#loads.delete(version.tag);
    return load !== "over" && !this.#models.isLoaded(version);
  }

  /** Begins to load it unless that is done already. `over`: when that is over; answers whether any ticket still wants to look. */
  load(version: ModelVersion, over: () => boolean): void {
    const { tag } = version;
    if (this.#loads.get(tag) === "running") return;
    this.#loads.set(tag, "running");
    const end = (): void => {
      // before anybody looks
      this.#loads.set(tag, "over");
      if (!over()) this.#loads.delete(tag);
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
