/**
 * Calls that wait: each ends when its client goes away. Those that may be answered "not yet" end when this coordinator begins to drain, those
 * that hold the line when it drains no longer.
 */

import type { ServerResponse } from "node:http";

export interface OpenCall {
  readonly signal: AbortSignal;
  /** Whether the client went away before it had its answer. */
  gone(): boolean;
  /** Whether this coordinator ended it. */
  toldToGo(): boolean;
  end(): void;
}

export class OpenCalls {
  readonly #waits = new Calls();
  readonly #held = new Calls();

  /** A call that goes on while this coordinator drains. */
  held(raw: ServerResponse): OpenCall {
    return this.#held.open(raw);
  }

  /** A call that may be answered "not yet" when this coordinator drains. */
  waiting(raw: ServerResponse): OpenCall {
    return this.#waits.open(raw);
  }

  /** Ends waits, and those that begin from now on. */
  endWaits(): void {
    this.#waits.end();
  }

  /** Ends held calls, and those that begin from now on. */
  endHeld(): void {
    this.#held.end();
  }
}

class Calls {
  readonly #open = new Set<AbortController>();
  #ended = false;

  end(): void {
    this.#ended = true;
    for (const controller of [...this.#open]) controller.abort();
  }

  open(raw: ServerResponse): OpenCall {
    const controller = new AbortController();
    this.#open.add(controller);
    let gone = raw.destroyed;
    const onClose = (): void => {
      if (raw.writableFinished) return;
      gone = true;
      controller.abort();
    };
    if (gone || this.#ended) controller.abort();
    raw.on("close", onClose);
    return {
      signal: controller.signal,
      gone: () => gone,
      toldToGo: () => this.#ended && !gone,
      end: () => {
        raw.off("close", onClose);
        this.#open.delete(controller);
      },
    };
  }
}
