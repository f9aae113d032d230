/**
 * Notes of progress to a caller that asked for them: rising with each, four a second at most, and one every few seconds also while nothing
 * happens, because callers take silence for death. A note that cannot be sent is lost.
 */

import type { ServerContext } from "@modelcontextprotocol/server";
import type { Clock } from "../../clock.ts";

const leastApartMs = 250;
/** Callers of the legacy era give up after 60 s without a note. */
const mostApartMs = 5_000;
const firstAfterMs = 1_000;
/** What a note adds that has nothing new to tell: far less than one step, and never reaching it. */
const smallStep = 1 / 4_096;

interface Told {
  progress: number;
  total?: number | undefined;
  message?: string | undefined;
}

export class Progress {
  readonly #clock: Pick<Clock, "after" | "monotonicMs">;
  readonly #send: ((told: Told) => void) | undefined;
  readonly #startMs: number;
  #latest: Omit<Told, "progress"> & { progress?: number } = {};
  #sentProgress = 0;
  #sentMs = Number.NEGATIVE_INFINITY;
  #cancel: () => void = () => {};
  #isOver = false;

  constructor(context: ServerContext, clock: Pick<Clock, "after" | "monotonicMs">) {
    this.#clock = clock;
    this.#startMs = clock.monotonicMs();
    const token = context.mcpReq._meta?.progressToken;
    if (token === undefined) return;
    this.#send = (told) => {
      void context.mcpReq.notify({ method: "notifications/progress", params: { progressToken: token, ...told } }).catch(() => {});
    };
  }

  /** What has been done. Without it the seconds that passed are told. Passed over once the work is over. */
  report(progress: number, told: Omit<Told, "progress"> = {}): void {
    if (this.#send === undefined || this.#isOver) return;
    this.#latest = { ...told, progress };
    const waitMs = this.#sentMs + leastApartMs - this.#clock.monotonicMs();
    this.#cancel();
    if (waitMs <= 0) this.#tell();
    else this.#cancel = this.#clock.after(waitMs, () => this.#tell());
  }

  /** Tells of it while `work` goes on. `isMeasured`: what has been done will be reported, and is nothing until then. */
  async during<Result>(message: string, work: Promise<Result>, { isMeasured = false } = {}): Promise<Result> {
    if (this.#send === undefined) return work;
    this.#latest.message ??= message;
    if (isMeasured) this.#latest.progress ??= 0;
    this.#cancel = this.#clock.after(firstAfterMs, () => this.#tell());
    try {
      return await work;
    } finally {
      this.#isOver = true;
      this.#cancel();
    }
  }

  #tell(): void {
    const nowMs = this.#clock.monotonicMs();
    const { progress = (nowMs - this.#startMs) / 1_000, ...told } = this.#latest;
    this.#sentProgress = progress > this.#sentProgress ? progress : this.#sentProgress + smallStep;
    this.#sentMs = nowMs;
    this.#send?.({ ...told, progress: this.#sentProgress });
    this.#cancel = this.#clock.after(mostApartMs, () => this.#tell());
  }
}
