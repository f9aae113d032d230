import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import { RefusalBursts } from "../../coordinator/src/doors/refusal-bursts.ts";

/** A turn that ends when told. */
function rig() {
  let ends: (() => void)[] = [];
  const broken: unknown[] = [];
  const bursts = new RefusalBursts(
    (error) => void broken.push(error),
    (run) => void ends.push(run),
  );
  const sent: number[] = [];
  return {
    broken,
    bursts,
    sent,
    add: (...numbers: number[]) => {
      for (const number of numbers) bursts.add(client(), () => sent.push(number));
    },
    endTurn: () => {
      const now = ends;
      ends = [];
      for (const run of now) run();
    },
  };
}

const client = () => ({
  destroyed: false,
  destroy() {
    this.destroyed = true;
    return this as unknown as ServerResponse;
  },
});

const upTo = (count: number): number[] => Array.from({ length: count }, (_, at) => at);

test("refusals leave in their order, at the end of the turn that made them", () => {
  const { add, endTurn, sent } = rig();
  add(1, 2, 3);
  assert.deepEqual(sent, []);
  endTurn();
  assert.deepEqual(sent, [1, 2, 3]);
  add(4);
  assert.deepEqual(sent, [1, 2, 3]);
  endTurn();
  assert.deepEqual(sent, [1, 2, 3, 4]);
});

test("sixteen of them leave at once, and those behind them at the end of the turn", () => {
  const { add, endTurn, sent } = rig();
  add(...upTo(15));
  assert.deepEqual(sent, []);
  add(15, 16);
  assert.deepEqual(sent, upTo(16));
  endTurn();
  assert.deepEqual(sent, upTo(17));
  endTurn();
  assert.deepEqual(sent, upTo(17), "each once");
});

test("one that comes of another's answer is not lost", () => {
  const { add, bursts, endTurn, sent } = rig();
  bursts.add(client(), () => add(2));
  add(1);
  endTurn();
  endTurn();
  assert.deepEqual(sent, [1, 2]);
});

test("a client that has gone, and one that cannot be answered, are in nobody's way", () => {
  const { add, broken, bursts, endTurn, sent } = rig();
  const [gone, odd] = [client(), client()];
  bursts.add(gone, () => sent.push(-1));
  bursts.add(odd, () => {
    throw new Error("odd");
  });
  add(1);
  gone.destroy();
  endTurn();
  assert.deepEqual([sent, odd.destroyed, broken.map(String)], [[1], true, ["Error: odd"]]);
});
