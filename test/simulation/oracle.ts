/**
 * Which jobs could have been done in time by one who knows everything: a relaxation, so that it may promise more than anybody could keep.
 * The cluster is taken as one machine as fast as all hosts with full batches; it may interrupt a job at any moment, and loses nothing by it.
 */

import type { Arrival } from "./loads.ts";

/** `perMs`: items in a millisecond; `leastMs`: the shortest run on the fastest host, which no job can escape. */
export function attainable(arrivals: readonly Arrival[], { perMs, leastMs }: { perMs: number; leastMs: number }): Uint8Array {
  const met = new Uint8Array(arrivals.length);
  const waiting = new ByDeadline();
  let now = 0;
  const serveUntil = (untilMs: number): void => {
    for (let job = waiting.first(); job && now < untilMs; job = waiting.first()) {
      const endMs = now + job.left / perMs;
      if (endMs > job.deadlineMs) {
        waiting.removeFirst();
      } else if (endMs > untilMs) {
        job.left -= (untilMs - now) * perMs;
        now = untilMs;
      } else {
        met[job.at] = 1;
        now = endMs;
        waiting.removeFirst();
      }
    }
    now = Math.max(now, untilMs);
  };
  for (const [at, { atMs, timeoutMs, items }] of arrivals.entries()) {
    serveUntil(atMs);
    // its share of the machine comes at the end of a run of its own at the latest
    const deadlineMs = atMs + timeoutMs - Math.max(0, leastMs - items / perMs);
    if (deadlineMs > atMs) waiting.add({ at, deadlineMs, left: items });
  }
  serveUntil(Number.POSITIVE_INFINITY);
  return met;
}

interface Open {
  at: number;
  deadlineMs: number;
  left: number;
}

class ByDeadline {
  readonly #heap: Open[] = [];

  first(): Open | undefined {
    return this.#heap[0];
  }

  add(job: Open): void {
    const heap = this.#heap;
    let at = heap.push(job) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((heap[parent] as Open).deadlineMs <= job.deadlineMs) break;
      heap[at] = heap[parent] as Open;
      at = parent;
    }
    heap[at] = job;
  }

  removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop() as Open;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && (heap[child + 1] as Open).deadlineMs < (heap[child] as Open).deadlineMs) child++;
      if ((heap[child] as Open).deadlineMs >= last.deadlineMs) break;
      heap[at] = heap[child] as Open;
      at = child;
    }
    heap[at] = last;
  }
}
