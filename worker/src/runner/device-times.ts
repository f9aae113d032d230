/** Who has had the device, and how long each queue's jobs have waited for runs of others. Pure but for its own list; times are the local clock's. */

/** Turns of one queue with no other's between them. */
interface Turn {
  tag: string;
  beganMs: number;
  endMs: number;
  /** Of that time, what its runs took. */
  ranMs: number;
}

/** So many turns are looked through at most: who waits longer than that has waited long enough. */
const keptTurns = 64;

export class DeviceTimes {
  /** Oldest first. */
  readonly #turns: Turn[] = [];

  /**
   * A run is over, of jobs of which the oldest came `waitedMs` before it began. Answers how long others had the device while those jobs
   * waited, since the queue's last run, and among how many queues that time was divided, this one included.
   */
  ran(tag: string, run: { beganMs: number; endMs: number; waitedMs: number }): { othersMs: number; sharers: number } {
    // jobs that were here before the queue's last run waited for that one, and for others no longer than since
    const lastMs = this.#turns.findLast((turn) => turn.tag === tag)?.endMs ?? Number.NEGATIVE_INFINITY;
    const sinceMs = Math.max(lastMs, run.beganMs - run.waitedMs);
    const others = new Set<string>();
    let othersMs = 0;
    for (const turn of this.#turns) {
      const sharedMs = Math.min(turn.endMs, run.beganMs) - Math.max(turn.beganMs, sinceMs);
      if (sharedMs <= 0) continue;
      others.add(turn.tag);
      othersMs += (sharedMs / (turn.endMs - turn.beganMs)) * turn.ranMs;
    }
    this.#add(tag, run);
    return { othersMs, sharers: 1 + others.size };
  }

  #add(tag: string, { beganMs, endMs }: { beganMs: number; endMs: number }): void {
    const last = this.#turns.at(-1);
    if (last?.tag === tag) {
      last.endMs = endMs;
      last.ranMs += endMs - beganMs;
      return;
    }
    this.#turns.push({ tag, beganMs, endMs, ranMs: endMs - beganMs });
    if (this.#turns.length > keptTurns) this.#turns.shift();
  }
}
