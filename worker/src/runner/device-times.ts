/** Who has had the device, and how long each queue's jobs have waited for runs of others. Pure but for its own list; times are the local clock's. */

import type { DeviceTime } from "@switchyard/protocol";

/** Whose runs they are: models share a device evenly, and queues of one model its part. */
export interface Owner {
  tag: string;
  model: string;
}

/** Runs of one queue with no other's between them. */
interface Turn extends Owner {
  beganMs: number;
  endMs: number;
  /** Of that time, what its runs took. */
  ranMs: number;
}

/** So many turns are looked through at most: of runs of some milliseconds they are those of more than ten seconds. */
const keptTurns = 4_096;
/** A longer pause is a trouble, and no cost of each run: it does not count. */
const mostIdleMs = 100;

type DevicePart = Pick<DeviceTime, "othersMs" | "idleMs" | "idleRuns" | "sharers">;

export class DeviceTimes {
  /** In the order of time: a device has one run at a time. */
  readonly #turns: Turn[] = [];

  /**
   * A run is over, of jobs of which the oldest came `waitedMs` before it began. Answers how long others had the device while those jobs waited, since the
   * queue's last run, and among how many that time was divided: an even part of it is one of so many. And where the jobs were here when that last run ended,
   * how long nobody had it since: what claims and transfers cost beside each run while there is a backlog. `isInOrder`: all runs before it were told.
   */
  ran({ model, tag }: Owner, run: { beganMs: number; endMs: number; waitedMs: number; isInOrder: boolean }): DevicePart {
    const sinceMs = run.beganMs - run.waitedMs;
    const [models, queues] = [new Set([model]), new Set([tag])];
    let [othersMs, idleMs, idleRuns] = [0, 0, 0];
    for (let at = this.#turns.length - 1; at >= 0; at--) {
      const turn = this.#turns[at] as Turn;
      if (turn.endMs <= sinceMs) break;
      if (turn.tag === tag) {
        // jobs that were here before the queue's last run waited for that one, and for others no longer than since
        const pauseMs = Math.max(0, run.beganMs - turn.endMs - othersMs);
        if (run.isInOrder && pauseMs <= mostIdleMs) [idleMs, idleRuns] = [pauseMs, 1];
        break;
      }
      const sharedMs = Math.min(turn.endMs, run.beganMs) - Math.max(turn.beganMs, sinceMs);
      if (sharedMs <= 0) continue;
      models.add(turn.model);
      if (turn.model === model) queues.add(turn.tag);
      othersMs += (sharedMs / (turn.endMs - turn.beganMs)) * turn.ranMs;
    }
    this.#add({ model, tag, beganMs: run.beganMs, endMs: run.endMs, ranMs: run.endMs - run.beganMs });
    return { othersMs, idleMs, idleRuns, sharers: models.size * queues.size };
  }

  /** What is told late, because its outputs had to be put away first, stands where it ran. */
  #add(turn: Turn): void {
    let at = this.#turns.length;
    while (at > 0 && (this.#turns[at - 1] as Turn).beganMs > turn.beganMs) at--;
    const before = this.#turns[at - 1];
    if (before?.tag === turn.tag) {
      before.endMs = Math.max(before.endMs, turn.endMs);
      before.ranMs += turn.ranMs;
      return;
    }
    this.#turns.splice(at, 0, turn);
    if (this.#turns.length > keptTurns) this.#turns.shift();
  }
}
