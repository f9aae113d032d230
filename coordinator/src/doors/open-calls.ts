/** Calls that wait: each ends when its client goes away, and those that may end early also when this coordinator drains. */

import type { ServerResponse } from "node:http";

export interface OpenCall {
  readonly signal: AbortSignal;
  /** Whether the client went away before it had its answer. */
  gone(): boolean;
  end(): void;
}

export class OpenCalls {
  readonly #waits = new Set<AbortController>();

  /** A call that only its client ends. */
  held(raw: ServerResponse): OpenCall {
    return this.#open(raw, new AbortController());
  }

  /** A call that may be answered "not yet" when this coordinator drains. */
  waiting(raw: ServerResponse): OpenCall {
    const controller = new AbortController();
    this.#waits.add(controller);
    return this.#open(raw, controller);
  }

  endWaits(): void {
    for (const controller of this.#waits) controller.abort();
    this.#waits.clear();
  }

  #open(raw: ServerResponse, controller: AbortController): OpenCall {
    let gone = raw.destroyed;
    const onClose = (): void => {
      if (raw.writableFinished) return;
      gone = true;
      controller.abort();
    };
    if (gone) controller.abort();
    raw.on("close", onClose);
    return {
      signal: controller.signal,
      gone: () => gone,
      end: () => {
        raw.off("close", onClose);
        this.#waits.delete(controller);
      },
    };
  }
}
