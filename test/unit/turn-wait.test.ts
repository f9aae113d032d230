import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep, setImmediate as turnRead } from "node:timers/promises";
import { systemClock } from "../../coordinator/src/clock.ts";
import { TurnWait } from "../../coordinator/src/doors/turn-wait.ts";
import { until } from "../support/until.ts";

/** An event loop by hand: work takes time, sleep is counted, a turn ends when told. */
class Rig {
  #nowMs = 1_000;
  #idleMs = 900;
  #turnRead = (): void => {};
  readonly turns = new TurnWait({
    monotonicMs: () => this.#nowMs,
    idleMs: () => this.#idleMs,
    everyTurn: (run) => {
      this.#turnRead = run;
      return () => {};
    },
  });

  work(ms: number): this {
    this.#nowMs += ms;
    return this;
  }

  sleep(ms: number): this {
    this.#nowMs += ms;
    this.#idleMs += ms;
    return this;
  }

  endTurn(): this {
    this.#turnRead();
    return this;
  }

  get waited(): [number, number] {
    const { inMs, outMs } = this.turns.waited();
    return [inMs, outMs];
  }
}

test("what wakes a sleeping loop has waited for what was done before it in the turn, whatever that was", () => {
  const rig = new Rig();
  assert.deepEqual(rig.waited, [0, 0], "the first of all");
  rig.work(30).endTurn().sleep(5);
  assert.deepEqual(rig.waited, [0, 0]);
  assert.deepEqual(rig.work(7).waited, [7, 0]);
  assert.deepEqual(rig.work(3).waited, [10, 0]);
});

test("what is read without sleep came on average in the middle of the turn before; after calm that is all", () => {
  const rig = new Rig();
  rig.endTurn().sleep(100).work(80).endTurn();
  assert.deepEqual(rig.waited, [40, 0]);
  assert.deepEqual(rig.work(5).waited, [45, 0]);
  rig.endTurn();
  assert.deepEqual(rig.waited, [2.5, 7.5], "the long turn is over");
  assert.deepEqual(rig.endTurn().sleep(1).waited, [0, 0]);
});

test("an answer is expected to wait as long as two turns in a row took", () => {
  const rig = new Rig();
  rig.endTurn().sleep(100).work(20).endTurn().work(30).endTurn();
  assert.deepEqual(rig.work(4).waited, [19, 30]);
});

test("on the real loop: nothing after sleep, and half of the turn before where it did not sleep", async () => {
  const turns = new TurnWait(systemClock);
  const work = (ms: number): void => {
    for (const untilMs = performance.now() + ms; performance.now() < untilMs; );
  };
  await turnRead();
  work(1_000);
  const workedMs = systemClock.monotonicMs();
  const workedIdleMs = systemClock.idleMs();
  await turnRead();
  const busy = turns.waited();
  assert.ok(busy.inMs >= 450, `${busy.inMs} ms`);
  // a process that was held up when it was about to sleep has not slept
  await until("the loop to sleep: the watch keeps none awake", async () => {
    const idleMs = systemClock.idleMs();
    await sleep(100);
    return systemClock.idleMs() - idleMs > 20;
  });
  const calm = turns.waited();
  const awakeMs = systemClock.monotonicMs() - workedMs - (systemClock.idleMs() - workedIdleMs);
  assert.ok(calm.inMs < awakeMs + 100 && calm.outMs === 0, `${calm.inMs} ms, of ${awakeMs} since the work`);
  turns.stop();
});
