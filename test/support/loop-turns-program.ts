/** Tells of the turns of its own event loop, in which nothing else is to be done: while it waits, and while it works. */

import { setTimeout as sleep } from "node:timers/promises";
import { TurnTimes } from "@switchyard/protocol/event-loop";

export interface LoopTurns {
  /** A second of rest, and one with 150 ms of work. */
  resting: Told;
  working: Told;
}

/** In milliseconds. */
export interface Told {
  /** Of each turn. */
  turns: number[];
  /** How long the process was awake, which is more than its work where the machine held it up. */
  awakeMs: number;
}

const { systemClock } = await import(process.argv[2]!);
await sleep(50);
let took: number[] = [];
const turns = new TurnTimes(systemClock, ({ tookMs }) => took.push(tookMs));

async function toldOf(spend: () => Promise<unknown>): Promise<Told> {
  took = [];
  const awakeMs = (): number => systemClock.monotonicMs() - systemClock.idleMs();
  const beganMs = awakeMs();
  await spend();
  return { turns: took, awakeMs: awakeMs() - beganMs };
}

const resting = await toldOf(() => sleep(1_000));
const working = await toldOf(() => {
  for (const untilMs = performance.now() + 150; performance.now() < untilMs; );
  return sleep(850);
});
turns.stop();
console.log(JSON.stringify({ resting, working } satisfies LoopTurns));
