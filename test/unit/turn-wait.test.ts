import assert from "node:assert/strict";
import { test } from "node:test";
import { timeLeft } from "../../coordinator/src/doors/request-options.ts";
import { TurnWait } from "../../coordinator/src/doors/turn-wait.ts";

/** An event loop by hand: work takes time, sleep is counted, a turn ends when told. */
class Rig {
  #nowMs = 1_000;
  #idleMs = 900;
  #turn = 0;
  readonly turns = new TurnWait({
    monotonicMs: () => this.#nowMs,
    idleMs: () => this.#idleMs,
    turn: () => this.#turn,
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
    this.#turn++;
    return this;
  }
}

test("what wakes a sleeping loop has waited for nothing but what was read before it in the turn", () => {
  const rig = new Rig();
  assert.equal(rig.turns.waitedMs(), 0, "the first of all");
  rig.work(30).endTurn().work(2).sleep(0.1);
  assert.equal(rig.turns.waitedMs(), 0);
  assert.equal(rig.work(7).turns.waitedMs(), 7);
  assert.equal(rig.work(3).turns.waitedMs(), 10);
});

test("what a loop reads that did not sleep may have come since the turn before began", () => {
  const rig = new Rig();
  rig.turns.waitedMs();
  rig.work(30).endTurn().work(5);
  assert.equal(rig.turns.waitedMs(), 35);
  assert.equal(rig.work(10).turns.waitedMs(), 45);
  rig.endTurn().work(1);
  assert.equal(rig.turns.waitedMs(), 11, "and the next turn counts from the begin of this one");
  rig.endTurn().sleep(1);
  assert.equal(rig.turns.waitedMs(), 0);
  rig.endTurn().work(20).endTurn().work(5);
  assert.equal(rig.turns.waitedMs(), 0, "nobody knows when a turn began that read no request");
});

test("what a request waited for is taken from its time, once for the way in and once for the way out", () => {
  const left = (timeoutMs: number, waitedMs: number, elapsedTime: number): number => timeLeft(timeoutMs, waitedMs, { elapsedTime });
  assert.equal(left(500, 24, 0.5), 500, "a little is covered by the margin");
  assert.equal(left(500, 30, 0.5), 439);
  assert.equal(left(500, 0, 100.5), 399);
  assert.equal(left(60_000, 20, 9), 60_000);
  assert.equal(left(60_000, 20, 10), 59_950);
  assert.equal(left(50, 30, 1), 1, "there is no time of nothing");
});
