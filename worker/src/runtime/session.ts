/** What a loaded graph can do, in Switchyard's own words; the runtime's words stay in onnx-runtime.ts. */

import { SwitchyardError, type Tensor, type TensorSignature } from "@switchyard/protocol";

export interface Session {
  /** As the runtime reports them; -1 marks a dynamic axis. */
  readonly inputs: readonly TensorSignature[];
  readonly outputs: readonly TensorSignature[];
  /**
   * One run. `feeds` holds every input once, in any order; `wanted` names outputs. Answers them by name; their bytes belong to the
   * caller and are never written again. The feeds are read until the promise settles, never later. Blocks the calling thread while
   * the runtime computes. Throws RunFailure.
   */
  run(feeds: readonly Tensor[], wanted: readonly string[]): Promise<Map<string, Tensor>>;
  /** Frees the model's memory. Never call it during a run. */
  release(): Promise<void>;
}

/** A run that failed, `run_failed`. It is worth a retry only where the machine failed (memory, a server's network), not where the inputs did. */
export class RunFailure extends SwitchyardError {
  readonly #isTransient: boolean;
  /** No job is to blame, and smaller batches would fail alike: the server that runs them is away. */
  readonly concernsAll: boolean;

  constructor(detail: string, cause: { isTransient: boolean; concernsAll?: boolean }) {
    super("run_failed", detail, { extra: { retryable: cause.isTransient } });
    this.#isTransient = cause.isTransient;
    this.concernsAll = cause.concernsAll ?? false;
  }

  override get retryable(): boolean {
    return this.#isTransient;
  }
}
