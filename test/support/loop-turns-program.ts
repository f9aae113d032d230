/** Tells of the turns of its own event loop, in which nothing else is to be done: while it waits, and while it works. */

import { setTimeout as sleep } from "node:timers/promises";
import { TurnTimes } from "@switchyard/protocol/event-loop";

export interface LoopTurns {
  /** Milliseconds of each turn, by a second of rest and by one with 150 ms of work. */
  resting: number[];
  working: number[];
}

const { systemClock } = await import(process.argv[2]!);
await sleep(50);
let took: number[] = [];
const turns = new TurnTimes(systemClock, ({ tookMs }) => took.push(tookMs));
await sleep(1_000);
const resting = took;
took = [];
for (const untilMs = performance.now() + 150; performance.now() < untilMs; );
await sleep(850);
turns.stop();
console.log(JSON.stringify({ resting, working: took } satisfies LoopTurns));
