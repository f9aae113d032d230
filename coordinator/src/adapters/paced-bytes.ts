/**
 * How fast bytes of a stranger are taken in: what comes faster waits in the pipe or socket that it came by, so that a server which floods is
 * slowed down itself, and nobody else. Pure, but for the time that it is given.
 */

/** What one server may send at once, and go on sending: reading JSON costs this process up to 20 ms per MiB. */
export interface PaceLimits {
  burstBytes: number;
  bytesPerSecond: number;
  burstMessages: number;
  messagesPerSecond: number;
}

export const usualPace: PaceLimits = { burstBytes: 8 << 20, bytesPerSecond: 4 << 20, burstMessages: 1_000, messagesPerSecond: 500 };

export class Pace {
  readonly #limits: PaceLimits;
  #bytes: number;
  #messages: number;
  #atMs: number;

  constructor(nowMs: number, limits: PaceLimits = usualPace) {
    this.#limits = limits;
    this.#bytes = limits.burstBytes;
    this.#messages = limits.burstMessages;
    this.#atMs = nowMs;
  }

  /** Counts what came; answers for how many milliseconds nothing more should be taken. */
  take(came: { bytes: number; messages: number }, nowMs: number): number {
    const { burstBytes, burstMessages, bytesPerSecond, messagesPerSecond } = this.#limits;
    const passedS = Math.max(0, nowMs - this.#atMs) / 1_000;
    this.#atMs = nowMs;
    this.#bytes = Math.min(burstBytes, this.#bytes + passedS * bytesPerSecond) - came.bytes;
    this.#messages = Math.min(burstMessages, this.#messages + passedS * messagesPerSecond) - came.messages;
    const owedS = Math.max(-this.#bytes / bytesPerSecond, -this.#messages / messagesPerSecond, 0);
    return Math.ceil(owedS * 1_000);
  }
}
