/** What the runner counts of runs and jobs, and when. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { committing, shape } from "../support/runner-batches.ts";
import { RunnerRig } from "../support/scripted-claims.ts";

/** What was counted of queue a, without times. */
function countsOf(rig: RunnerRig) {
  const tally = new Map(rig.tallies.take()).get("a");
  return (
    tally && { runs: tally.runs, items: tally.items, success: tally.success.count, queue: tally.queue.count, infer: tally.infer.count }
  );
}

test("runs and jobs are counted when the store has taken their success, with the times of the whole batch", async () => {
  const rig = new RunnerRig();
  rig.onRun = () => rig.pass(7);
  rig.serve("a1");
  (await rig.exchange()).answer({ claim: rig.batch(3) });
  const commit = await rig.exchange();
  assert.equal(countsOf(rig), undefined, "nothing of it is sure yet");
  rig.pass(4);
  commit.answer({ committed: ["committed", "committed", "stale"], claim: { kind: "empty" } });
  await rig.idle();
  const tally = new Map(rig.tallies.take()).get("a")!;
  const { fail, infer, input, output, queue, success } = tally;
  assert.deepEqual([tally.runs, tally.items, [...tally.batches.keys()]], [1, 3, [3]]);
  assert.deepEqual(queue, { count: 2, ms: 2 * 5 }, "created 5 ms before the claim");
  assert.deepEqual(
    [input, infer, output],
    [
      { count: 2, ms: 0 },
      { count: 2, ms: 2 * 7 },
      { count: 2, ms: 0 },
    ],
  );
  assert.deepEqual(success, { count: 2, ms: 2 * (5 + 7 + 4) });
  assert.deepEqual([fail.count, tally.lastMs], [0, rig.storeMs()]);
  await rig.finish();
  assert.equal(countsOf(rig), undefined, "and nothing twice");
});

test("a success whose commit's reply got lost is counted once, when the store says that the job has ended", async () => {
  const { rig, asked } = await committing();
  asked.answer({});
  (await rig.exchange()).answer({ committed: ["ended"], claim: { kind: "empty" } });
  await rig.idle();
  assert.deepEqual(countsOf(rig), { runs: 1, items: 1, success: 1, queue: 1, infer: 1 });
});

test("a job that had ended otherwise meanwhile is no success", async () => {
  const { rig, asked } = await committing();
  asked.answer({ committed: ["ended"], claim: { kind: "empty" } });
  await rig.idle();
  assert.deepEqual(countsOf(rig), { runs: 1, items: 1, success: 0, queue: 0, infer: 0 });
});

test("the runs of a claim are counted once, also when the store had no room for some of its outputs at first", async () => {
  const { rig, asked } = await committing(3);
  asked.answer({ committed: ["committed", "no_output", "committed"], claim: { kind: "retired" } });
  rig.pass(await rig.idle());
  const again = await rig.exchange();
  assert.deepEqual(shape(again), [["job-2"], undefined]);
  again.answer({ committed: ["committed"] });
  await rig.finish();
  assert.deepEqual(countsOf(rig), { runs: 1, items: 3, success: 3, queue: 3, infer: 3 });
});
