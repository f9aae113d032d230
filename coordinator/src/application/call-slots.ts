/** How many calls go to one server at a time; the others wait in the order in which they came, and not too many of them. */

import { SwitchyardError } from "@switchyard/protocol";

export class CallSlots {
  #most: number;
  readonly #mostWaiting: number;
  #running = 0;
  readonly #waiting = new Set<() => void>();

  constructor(limits: { most: number; mostWaiting: number }) {
    this.#most = limits.most;
    this.#mostWaiting = limits.mostWaiting;
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Those that run go on. */
  allow(most: number): void {
    this.#most = most;
    this.#admit();
  }

  /** Resolves with what gives the slot back, again and again once; undefined when the signal aborts first. Throws `queue_full`. */
  async take(signal: AbortSignal, what: string): Promise<(() => void) | undefined> {
    if (signal.aborted) return undefined;
    if (this.#running >= this.#most) {
      if (this.#waiting.size >= this.#mostWaiting) {
        throw new SwitchyardError("queue_full", `Too many calls wait for ${what} already: ${this.#waiting.size}; try again`, {
          retryAfterMs: 1_000,
        });
      }
      const isAdmitted = await this.#wait(signal);
      if (!isAdmitted) return undefined;
    } else this.#running++;
    let isGiven = false;
    return () => {
      if (isGiven) return;
      isGiven = true;
      this.#running--;
      this.#admit();
    };
  }

  #wait(signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const admit = (): void => {
        signal.removeEventListener("abort", leave);
        resolve(true);
      };
      const leave = (): void => {
        this.#waiting.delete(admit);
        resolve(false);
      };
      this.#waiting.add(admit);
      signal.addEventListener("abort", leave, { once: true });
    });
  }

  #admit(): void {
    for (const admit of this.#waiting) {
      if (this.#running >= this.#most) return;
      this.#waiting.delete(admit);
      this.#running++;
      admit();
    }
  }
}
