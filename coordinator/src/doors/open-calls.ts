/**
 * Calls that wait: each ends when its client goes away. Those that may be answered "not yet" end when this coordinator begins to drain, those
 * that hold the line when it drains no longer.
 */

import type { ServerResponse } from "node:http";
import { PassingMap } from "@switchyard/protocol";
import type { Leaving } from "../application/waiters.ts";

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

export interface OpenCall extends Leaving {
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
    return this.#held.begin(line);
  }

  /** A call that may be answered "not yet" when this coordinator drains. */
  waiting(line: Line): OpenCall {
    return this.#waits.begin(line);
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
  readonly open = new PassingMap<Call, true>();
  ended = false;

  end(): void {
    this.ended = true;
    for (const call of this.open.keys()) call.abort();
  }

  begin(line: Line): OpenCall {
    return new Call(this, line);
  }
}

/** Tells its end as an AbortSignal does, and makes a real one only for those who ask for it: that costs more than all else of a call here. */
class Call implements OpenCall {
  readonly #calls: Calls;
  readonly #stopListening: () => void;
  #isGone: boolean;
  #aborted = false;
  #heard: (() => void)[] = [];
  #controller: AbortController | undefined;

  constructor(calls: Calls, line: Line) {
    this.#calls = calls;
    calls.open.set(this, true);
    this.#isGone = line.isGone();
    if (this.#isGone || calls.ended) this.abort();
    this.#stopListening = line.onGone(() => {
      this.#isGone = true;
      this.abort();
    });
  }

  get aborted(): boolean {
    return this.#aborted;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted) this.#controller.abort();
    }
    return this.#controller.signal;
  }

  addEventListener(_type: "abort", heard: () => void): void {
    this.#heard.push(heard);
  }

  removeEventListener(_type: "abort", heard: () => void): void {
    const at = this.#heard.indexOf(heard);
    if (at >= 0) this.#heard.splice(at, 1);
  }

  abort(): void {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#controller?.abort();
    for (const heard of this.#heard.splice(0)) heard();
  }

  gone(): boolean {
    return this.#isGone;
  }

  toldToGo(): boolean {
    return this.#calls.ended && !this.#isGone;
  }

  end(): void {
    this.#stopListening();
    this.#calls.open.delete(this);
  }
}
