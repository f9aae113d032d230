/** The runner and commits that do not get through: outputs without room in the store, and a script that fails. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { committing, ids, outcomes, shape } from "../support/runner-batches.ts";
import { RunnerRig } from "../support/scripted-claims.ts";

test("outputs that found no room wait by themselves: their neighbours are done, and other queues are served", async () => {
  const rig = new RunnerRig();
  rig.serve("a1");
  rig.serve("b1");
  (await rig.exchange()).answer({ claim: rig.batch(3) });
  const full = await rig.exchange();
  assert.deepEqual(shape(full), [["job-1", "job-2", "job-3"], "b1"]);
  full.answer({ committed: ["committed", "no_output", "ended"], claim: rig.batch() });
  const other = await rig.exchange();
  assert.deepEqual(shape(other), [["job-4"], "b1"], "a batch claimed meanwhile is run, and a queue with an open claim is let alone");
  assert.equal(rig.board.at(-1), "b=2 a=1", "both claims are known to this host");
  other.answer({ committed: ["committed"], claim: { kind: "empty" } });
  await rig.idle();
  rig.pass(200);
  const again = await rig.exchange();
  assert.deepEqual(shape(again), [["job-2"], "b1"]);
  again.answer({ committed: ["committed"], claim: { kind: "retired" } });
  assert.deepEqual(shape(await rig.exchange()), [[], "a1"], "the queue is open again");
  assert.equal(rig.troubles().length, 1);
});

test("a full store is asked less and less often, and no longer than until the deadline", async () => {
  const { rig, asked } = await committing(1, 10_000);
  asked.answer({ committed: ["no_output"], claim: { kind: "uncommitted", sequence: 1 } });
  const waits: number[] = [];
  let sum = 0;
  while (sum < 10_000) {
    const waitMs = await rig.idle();
    waits.push(waitMs);
    sum += waitMs;
    rig.pass(waitMs);
    const again = await rig.exchange();
    assert.deepEqual(shape(again), [["job-1"], undefined]);
    again.answer({ committed: ["no_output"] });
  }
  assert.deepEqual(waits, [200, 400, 800, 1_600, 3_200, 5_000]);
  assert.deepEqual(shape(await rig.exchange()), [[], "a1"]);
  assert.match(rig.troubles().at(-1) as string, /given up: job-1/);
  assert.deepEqual(rig.ends(), [], "the ticket was kept meanwhile");
});

test("a commit that the store's script fails on is tried job by job", async () => {
  const { rig, asked } = await committing(3, 500);
  asked.answer({ commitRefused: new Error("ERR bad record"), claim: { kind: "uncommitted", sequence: 1 } });
  for (const id of ["job-1", "job-2", "job-3"]) {
    const one = await rig.exchange();
    assert.deepEqual(shape(one), [[id], undefined]);
    one.answer(id === "job-2" ? { commitRefused: new Error("ERR bad record") } : { committed: ["committed"] });
  }
  rig.serve("b1");
  const other = await rig.exchange();
  assert.deepEqual(shape(other), [[], "b1"], "other queues are served meanwhile");
  other.answer({ claim: { kind: "retired" } });
  for (const waitMs of [400, 800]) {
    assert.equal(await rig.idle(), waitMs);
    rig.pass(waitMs);
    const again = await rig.exchange();
    assert.deepEqual(shape(again), [["job-2"], undefined]);
    again.answer({ commitRefused: new Error("ERR bad record") });
  }
  assert.deepEqual(shape(await rig.exchange()), [[], "a1"]);
  assert.match(rig.troubles().at(-1) as string, /given up: job-2/);
});

test("with too much waiting for room nothing more is run", async () => {
  const rig = new RunnerRig();
  rig.itemFloats = 2 ** 22;
  rig.serve("a1");
  rig.serve("b1");
  (await rig.exchange()).answer({ claim: rig.batch(16) });
  const full = await rig.exchange();
  full.answer({ committed: full.commit?.results.map(() => "no_output") ?? [], claim: { kind: "empty" } });
  assert.equal(await rig.idle(), 200, "not the end of the linger");
  rig.runner.wake("b");
  assert.ok((await rig.idle()) <= 200);
  rig.pass(200);
  const again = await rig.exchange();
  again.answer({ committed: again.commit?.results.map(() => "committed") ?? [] });
  assert.deepEqual((await rig.exchange()).commit, undefined);
});

test("a drain gives jobs back whose outputs find no room, with their attempts", async () => {
  const { rig, asked } = await committing();
  asked.answer({ committed: ["no_output"], claim: { kind: "uncommitted", sequence: 1 } });
  await rig.idle();
  rig.runner.drain();
  const back = await rig.exchange();
  assert.deepEqual([ids(back.commit), outcomes(back.commit)], [["job-1"], ["back"]]);
  back.answer({ committed: ["requeued"] });
  await rig.ended;
});

test("a drain tries a commit that fails job by job once more, and then leaves it to the sweeper", async () => {
  const { rig, asked } = await committing(2);
  rig.runner.drain();
  asked.answer({ commitRefused: new Error("ERR bad record"), claim: { kind: "uncommitted", sequence: 1 } });
  (await rig.exchange()).answer({ committed: ["committed"] });
  (await rig.exchange()).answer({ commitRefused: new Error("ERR bad record") });
  await rig.ended;
  assert.match(rig.troubles().at(-1) as string, /given up: job-2/);
});
