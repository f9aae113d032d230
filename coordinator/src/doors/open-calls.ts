/**
 * Calls that wait: each ends when its client goes away. Those that may be answered "not yet" end when this coordinator begins to drain, those
 * that hold the line when it drains no longer.
 */

import type { ServerResponse } from "node:http";

/** The client's end of a call. */
export interface Line {
  isGone(): boolean;
  /** Calls `heard` when the client goes away before it has its answer, until the returned function is called. */
  onGone(heard: () => void): () => void;
}

export function httpLine(raw: ServerResponse): Line {
  return {
    isGone: () => raw.destroyed,
    onGone(heard) {
      const onClose = (): void => {
        if (!raw.writableFinished) heard();
      };
      raw.on("close", onClose);
      return () => raw.off("close", onClose);
    },
  };
}

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
  held(line: Line): OpenCall {
    return this.#held.open(line);
  }

  /** A call that may be answered "not yet" when this coordinator drains. */
  waiting(line: Line): OpenCall {
    return this.#waits.open(line);
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

  open(line: Line): OpenCall {
    const controller = new AbortController();
    this.#open.add(controller);
    let gone = line.isGone();
    if (gone || this.#ended) controller.abort();
    const stopListening = line.onGone(() => {
      gone = true;
      controller.abort();
    });
    return {
      signal: controller.signal,
      gone: () => gone,
      toldToGo: () => this.#ended && !gone,
      end: () => {
        stopListening();
        this.#open.delete(controller);
      },
    };
  }
}
