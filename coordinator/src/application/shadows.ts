/**
 * Requests that are sent to another version as well: jobs of class batch whose results are dropped and counted. Nothing of them reaches whoever
 * sent the request, and there are never many at a time.
 */

import type { Metrics } from "../ports/metrics.ts";
import type { ModelRegistry } from "../ports/model-registry.ts";
import type { Submission } from "./job-service.ts";

const mostAtOnce = 32;
/** That all of them may keep in memory for their inputs. */
const mostBytes = 64 * 1024 * 1024;
const timeoutMs = 60_000;

export interface ShadowsParts {
  models: Pick<ModelRegistry, "shadowOf">;
  metrics: Pick<Metrics, "shadowed">;
  /** A number in [0, 1). */
  chance: () => number;
}

export class Shadows {
  readonly #parts: ShadowsParts;
  #running = 0;
  #heldBytes = 0;

  constructor(parts: ShadowsParts) {
    this.#parts = parts;
  }

  /** Never throws, and waits for nothing. `run` submits a job and resolves with its outcome, or throws. */
  follow({ alias, model, request, require }: Submission, run: (shadow: Submission) => Promise<unknown>): void {
    const { chance, metrics, models } = this.#parts;
    const shadow = alias === undefined ? undefined : models.shadowOf(model, alias);
    if (shadow === undefined || chance() >= shadow.share) return;
    const inputBytes = request.inputs.reduce((sum, { bytes }) => sum + bytes.length, 0);
    if (this.#running >= mostAtOnce || this.#heldBytes + inputBytes > mostBytes) {
      metrics.shadowed(model, "skipped");
      return;
    }
    this.#running++;
    this.#heldBytes += inputBytes;
    const tags = { shadow_of: alias! };
    // parameters are the door's, and may be large; the body, on which the tensors are views, goes with its own answer
    const inputs = request.inputs.map((tensor) => ({ ...tensor, bytes: new Uint8Array(tensor.bytes) }));
    const bare = { ...request, parameters: {}, inputs };
    const job: Submission = { model, version: shadow.version, request: bare, class: "batch", timeoutMs, maxAttempts: 1, tags, hold: true };
    run(require ? { ...job, require } : job)
      .then(
        () => metrics.shadowed(model, "succeeded"),
        () => metrics.shadowed(model, "failed"),
      )
      .finally(() => {
        this.#running--;
        this.#heldBytes -= inputBytes;
      });
  }
}
