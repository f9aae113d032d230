/** Forgets jobs of held calls that ended together and are over, a few hundred at a time, so that nothing waits long behind it. */

import type { JobStore } from "../ports/job-store.ts";
import { FirstComer } from "./first-comer.ts";

export class Forgetting {
  readonly #store: Pick<JobStore, "forgetEnded">;
  /** Queues in which something may be over, the next one first. */
  readonly #queues = new Set<string>();
  readonly #first = new FirstComer();

  constructor(store: Pick<JobStore, "forgetEnded">) {
    this.#store = store;
  }

  /** Something may be over in this queue. */
  note(tag: string): void {
    this.#queues.add(tag);
    this.#first.came();
  }

  /** Resolves when something may be over, or with the signal. */
  some(signal: AbortSignal): Promise<void> {
    return this.#first.until(this.#queues.size > 0, signal);
  }

  /** One step in one queue, which goes behind the others if more is over there. Where it fails the next sweep notes the queue again. */
  async step(): Promise<void> {
    const [tag] = this.#queues;
    if (tag === undefined) return;
    this.#queues.delete(tag);
    if (await this.#store.forgetEnded(tag)) this.#queues.add(tag);
  }
}
