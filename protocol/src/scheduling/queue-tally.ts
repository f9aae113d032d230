/**
 * What has become of a queue's jobs, counted since the queue was made: fields of its hash `tally`, whole numbers that only grow. Hosts count
 * runs and what they commit, coordinators what they answer without a run, scripts what ends otherwise. Written through lua/report, read by
 * coordinators. Durations are whole microseconds there, milliseconds here.
 */

import { bucketOf } from "./run-estimates.ts";

export interface Counted {
  count: number;
  ms: number;
}

/** Successful runs of one size. */
export interface BatchTally {
  runs: number;
  inputMs: number;
  inferMs: number;
  outputMs: number;
}

const timed = ["success", "fail", "queue", "input", "infer", "output", "hit", "miss"] as const;

/**
 * `success`: jobs that succeeded, from admission to outcome. `fail`: jobs that ended otherwise. `queue`: of those that succeeded, from admission
 * to claim. `input`, `infer`, `output`: of those that were run, stacking, run and splitting of the batch that each was in. `hit`: answered
 * from the cache, or with an equal job; `miss`: looked up there in vain.
 */
export type QueueTally = Record<(typeof timed)[number], Counted> & {
  /** When the last one succeeded, by the store's clock; 0: none has. */
  lastMs: number;
  /** Of successful runs. */
  items: number;
  runs: number;
  /** By items in the run; sizes above `exactSizes` are rounded up to powers of two. */
  batches: Map<number, BatchTally>;
};

/** Clients choose how many items a job has: the sizes that are told apart are bounded. */
const exactSizes = 256;

export function emptyTally(): QueueTally {
  const none = (): Counted => ({ count: 0, ms: 0 });
  return {
    ...{ success: none(), fail: none(), queue: none(), input: none(), infer: none(), output: none(), hit: none(), miss: none() },
    ...{ lastMs: 0, items: 0, runs: 0, batches: new Map() },
  };
}

export function count(into: Counted, more: number, ms: number): void {
  into.count += more;
  into.ms += ms;
}

/** One successful run: its items, the jobs that were in it, and how long its parts took. */
export interface CountedRun extends Omit<BatchTally, "runs"> {
  items: number;
  jobs: number;
}

export function countRun(into: QueueTally, run: CountedRun): void {
  into.items += run.items;
  into.runs += 1;
  addBatch(into, run.items <= exactSizes ? run.items : bucketOf(run.items), { ...run, runs: 1 });
}

function addBatch(into: QueueTally, size: number, more: BatchTally): void {
  const batch = into.batches.get(size);
  if (batch) {
    batch.runs += more.runs;
    batch.inputMs += more.inputMs;
    batch.inferMs += more.inferMs;
    batch.outputMs += more.outputMs;
  } else {
    const { runs, inputMs, inferMs, outputMs } = more;
    into.batches.set(size, { runs, inputMs, inferMs, outputMs });
  }
}

export function addTally(into: QueueTally, more: QueueTally): void {
  for (const name of timed) count(into[name], more[name].count, more[name].ms);
  into.items += more.items;
  into.runs += more.runs;
  into.lastMs = Math.max(into.lastMs, more.lastMs);
  for (const [size, batch] of more.batches) addBatch(into, size, batch);
}

/** Facts for lua/report, for counters: they are added to what is there. `max`: the larger one stands. */
export type TallyReport = [field: string, how: "+" | "max", text: string];

const microseconds = (ms: number): string => (1_000 * Math.max(0, ms)).toFixed(0);

export function tallyReports(tally: QueueTally): TallyReport[] {
  const reports: TallyReport[] = [];
  for (const name of timed) {
    const { count: counted, ms } = tally[name];
    if (counted > 0) reports.push([name, "+", `${counted} ${microseconds(ms)}`]);
  }
  if (tally.runs > 0) reports.push(["runs", "+", `${tally.runs} ${tally.items}`]);
  for (const [size, { runs, inputMs, inferMs, outputMs }] of tally.batches) {
    reports.push([`batch ${size}`, "+", `${runs} ${microseconds(inputMs)} ${microseconds(inferMs)} ${microseconds(outputMs)}`]);
  }
  if (tally.lastMs > 0) reports.push(["last", "max", tally.lastMs.toFixed(0)]);
  return reports;
}

/** The hash's fields and texts by turns; what cannot be read counts as nothing. */
export function readTally(flat: readonly string[]): QueueTally {
  const tally = emptyTally();
  for (let at = 0; at + 1 < flat.length; at += 2) {
    const [field, numbers] = [flat[at] as string, (flat[at + 1] as string).split(" ").map(Number)];
    if (numbers.some((number) => !(number >= 0 && number < Infinity))) continue;
    const [first = 0, second = 0, third = 0, fourth = 0] = numbers;
    const size = /^batch (\d+)$/.exec(field)?.[1];
    const name = timed.find((one) => one === field);
    if (name !== undefined) count(tally[name], first, second / 1_000);
    else if (field === "runs") [tally.runs, tally.items] = [first, second];
    else if (field === "last") tally.lastMs = first;
    else if (size !== undefined) {
      addBatch(tally, Number(size), { runs: first, inputMs: second / 1_000, inferMs: third / 1_000, outputMs: fourth / 1_000 });
    }
  }
  return tally;
}

/** A tally with the number under which its process tells it: lua/report adds each number once. */
export interface NumberedTally {
  sequence: number;
  tally: QueueTally;
}

/**
 * What one process has counted and not told yet. Each tally is told exactly once: one that was sent and not answered is sent again as it was,
 * under its number, before anything newer.
 */
export class UntoldTallies {
  readonly #untold = new Map<string, QueueTally>();
  readonly #sent = new Map<string, NumberedTally>();
  #sequence = 0;

  /** To count in. */
  of(tag: string): QueueTally {
    let tally = this.#untold.get(tag);
    if (!tally) {
      tally = emptyTally();
      this.#untold.set(tag, tally);
    }
    return tally;
  }

  tags(): string[] {
    return [...new Set([...this.#sent.keys(), ...this.#untold.keys()])];
  }

  /** What to tell now of this queue; the same until `told`. */
  next(tag: string): NumberedTally | undefined {
    let sent = this.#sent.get(tag);
    const tally = this.#untold.get(tag);
    if (!sent && tally) {
      this.#untold.delete(tag);
      sent = { sequence: ++this.#sequence, tally };
      this.#sent.set(tag, sent);
    }
    return sent;
  }

  /** The store has answered. */
  told(tag: string): void {
    this.#sent.delete(tag);
  }
}
