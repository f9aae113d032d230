/** What a console asks with every beat, of a server that is slower than that. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { oneAtATime } from "../../console/src/one-at-a-time.ts";

/** Runs that end when they are told to. */
function runs() {
  const ends: (() => void)[] = [];
  const run = (): Promise<void> => new Promise((resolve) => void ends.push(resolve));
  const end = async (): Promise<void> => {
    ends.at(-1)?.();
    await turn();
  };
  return { begun: ends, run, end };
}

test("what is wanted during a run is one more run after it, however often it was wanted", async () => {
  const { begun, end, run } = runs();
  const again = oneAtATime(run, new AbortController().signal);
  again();
  for (let beat = 0; beat < 3; beat++) again();
  assert.equal(begun.length, 1);
  await end();
  assert.equal(begun.length, 2);
  await end();
  assert.equal(begun.length, 2, "nothing was wanted meanwhile");
  again();
  assert.equal(begun.length, 3);
});

test("nothing begins after the end", async () => {
  const { begun, end, run } = runs();
  const stop = new AbortController();
  const again = oneAtATime(run, stop.signal);
  again();
  again();
  stop.abort();
  await end();
  again();
  assert.equal(begun.length, 1);
});
