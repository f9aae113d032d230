/** Forgetting in small steps: queues take turns, nothing is asked of the store where nothing is over, and what fails is noted again by others. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Forgetting } from "../../coordinator/src/application/forgetting.ts";

/** A store in which so many steps are left in each queue. */
function rig(left: Record<string, number>) {
  const asked: string[] = [];
  let fails = false;
  const forgetting = new Forgetting({
    forgetEnded: async (tag) => {
      asked.push(tag);
      if (fails) throw new Error("the store stands still");
      left[tag] = left[tag]! - 1;
      return left[tag]! > 0;
    },
  });
  const fail = (yes: boolean): void => {
    fails = yes;
  };
  return { asked, fail, forgetting };
}

const isWanted = async (forgetting: Forgetting): Promise<boolean> => {
  const stop = new AbortController();
  const wanted = forgetting.some(stop.signal).then(() => !stop.signal.aborted);
  await Promise.resolve();
  await Promise.resolve();
  stop.abort();
  return wanted;
};

test("queues take turns, a step each, until nothing is over in any", async () => {
  const { asked, forgetting } = rig({ one: 3, two: 1, three: 2 });
  for (const tag of ["one", "two", "three", "one"]) forgetting.note(tag);
  while (await isWanted(forgetting)) await forgetting.step();
  assert.deepEqual(asked, ["one", "two", "three", "one", "three", "one"]);
  await forgetting.step();
  assert.equal(asked.length, 6, "nothing is left to ask");
});

test("whoever waits for something to do hears of the first queue", async () => {
  const { forgetting } = rig({ one: 1 });
  const wanted = forgetting.some(new AbortController().signal);
  forgetting.note("one");
  await wanted;
});

test("a step that fails says so, leaves the others their turn, and is tried again when the queue is noted again", async () => {
  const { asked, fail, forgetting } = rig({ one: 1, two: 1 });
  forgetting.note("one");
  forgetting.note("two");
  fail(true);
  await assert.rejects(forgetting.step(), /stands still/);
  fail(false);
  await forgetting.step();
  assert.equal(await isWanted(forgetting), false);
  forgetting.note("one");
  await forgetting.step();
  assert.deepEqual(asked, ["one", "two", "one"]);
});
