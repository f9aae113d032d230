/** How many streams that go on without end are open at once: each has this coordinator look at something again and again, whatever its reader does. */

import { SwitchyardError } from "@switchyard/protocol";
import type { Caller } from "../application/caller.ts";

export interface StreamLimits {
  ofCaller: number;
  inAll: number;
}

/** A tab of a browser has one while somebody sees it. Without a key file all readers are one caller. */
const usualLimits: StreamLimits = { ofCaller: 64, inAll: 512 };

export class StreamBudget {
  readonly #limits: StreamLimits;
  readonly #open = new Map<string, number>();
  #all = 0;

  constructor(limits: StreamLimits = usualLimits) {
    this.#limits = limits;
  }

  /** Answers what closes it again, once. Throws `rate_limited` for the caller's own bound, `queue_full` for that of all together. */
  open({ keyId, tenant }: Caller): () => void {
    const name = keyId ?? tenant;
    const own = this.#open.get(name) ?? 0;
    const { inAll, ofCaller } = this.#limits;
    if (own >= ofCaller) {
      const whose = keyId === undefined ? "without a key" : `of the API key ${keyId}`;
      throw new SwitchyardError("rate_limited", `${own} such streams ${whose} are open, as many as may`, { retryAfterMs: 5_000 });
    }
    if (this.#all >= inAll) {
      throw new SwitchyardError("queue_full", `${this.#all} such streams are open on this coordinator, as many as may`, {
        retryAfterMs: 5_000,
      });
    }
    this.#open.set(name, own + 1);
    this.#all += 1;
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      this.#all -= 1;
      const left = (this.#open.get(name) ?? 1) - 1;
      if (left > 0) this.#open.set(name, left);
      else this.#open.delete(name);
    };
  }
}
