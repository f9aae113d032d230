/** Models whose queues have ended and that are still in memory: they go as soon as nothing runs there and nobody wants them kept. */

import type { ModelVersion } from "@switchyard/protocol";
import type { HeldModels } from "./held-models.ts";
import type { KnownModels } from "./known-models.ts";

interface Parts {
  known: Pick<KnownModels, "byTag" | "published">;
  held: Pick<HeldModels, "holds">;
  /** Lets a model go that no run uses. */
  unload: (version: ModelVersion) => void;
}

export class LeavingModels {
  readonly #parts: Parts;
  readonly #leaving = new Map<string, ModelVersion>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** They are gone from the registry for good. */
  add(versions: readonly ModelVersion[]): void {
    for (const version of versions) this.#leaving.set(version.tag, version);
  }

  /** Its load may have begun before it left the registry: fetching its files alone may take minutes. One in a folder may only be out of sight. */
  loaded(version: ModelVersion): void {
    const { known } = this.#parts;
    if (version.files === undefined && version.require === undefined) return;
    if (known.published() && !known.byTag(version.tag)) this.add([version]);
  }

  /** With each beat. */
  letGo(): void {
    const { held, known, unload } = this.#parts;
    for (const [tag, version] of this.#leaving) {
      if (known.byTag(tag) || !held.holds(tag)) this.#leaving.delete(tag);
      else unload(version);
    }
  }
}
