/** The runner and time: waiting for a fuller batch, jobs that become late, and what is said of how long runs take. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { SwitchyardError } from "@switchyard/protocol";
import { outcomes, runsOf } from "../support/runner-batches.ts";
import { lingerMs, RunnerRig } from "../support/scripted-claims.ts";

const ranJobs = (rig: RunnerRig) => rig.told.filter((one) => one.kind === "ran").map(({ jobs }) => jobs);
const samples = (rig: RunnerRig) => rig.told.filter((one) => one.kind === "ran").map(({ sample }) => sample);

test("a host that is told to wait for a fuller batch looks again then, even if it never had a batch before", async () => {
  const rig = new RunnerRig();
  rig.serve("a1");
  (await rig.exchange()).answer({ claim: { kind: "defer", untilMs: rig.storeMs() + 50, nowMs: rig.storeMs() } });
  assert.equal(await rig.idle(), 50);
  rig.pass(50);
  const again = await rig.exchange();
  assert.deepEqual([again.wish?.ticketId, again.wish?.lingerMs], ["a1", lingerMs]);
  assert.deepEqual(rig.ends(), []);
});

test("a wake-up ends the wait for a fuller batch, also one that overtakes its answer", async () => {
  const rig = new RunnerRig();
  rig.serve("a1");
  const defer = () => ({ claim: { kind: "defer", untilMs: rig.storeMs() + 50, nowMs: rig.storeMs() } as const });
  (await rig.exchange()).answer(defer());
  await rig.idle();
  rig.runner.wake("a");
  const woken = await rig.exchange();
  rig.runner.wake("a");
  woken.answer(defer());
  assert.equal((await rig.exchange()).wish?.ticketId, "a1");
  assert.deepEqual(rig.slept, []);
});

test("other queues are served while one waits for a fuller batch", async () => {
  const rig = new RunnerRig();
  rig.serve("a1");
  (await rig.exchange()).answer({ claim: { kind: "defer", untilMs: rig.storeMs() + 50, nowMs: rig.storeMs() } });
  await rig.idle();
  rig.serve("b1");
  assert.equal((await rig.exchange()).wish?.ticketId, "b1");
});

test("a claim tells how long runs will take, what it costs beside them, and how long jobs may wait for company", async () => {
  const rig = new RunnerRig();
  rig.config = { max_delay_ms: 12 };
  rig.runner.loaded("a", { warmUp: [[1, 40]], maxItems: 1 });
  rig.onRun = () => rig.pass(100);
  rig.serve("a1");
  const first = await rig.exchange();
  assert.deepEqual([first.wish?.delayMs, first.wish?.ladders], [12, new Map()], "a warm-up alone binds no claim");
  assert.ok((first.wish?.overheadMs ?? 0) > 0, "a guess");
  let asked = first;
  for (let at = 0; at < 3; at++) {
    const batch = rig.batch();
    rig.pass(4); // on the way
    asked.answer({ committed: ["committed"], claim: batch });
    asked = await rig.exchange();
  }
  assert.deepEqual(asked.wish?.ladders, new Map([[0, [[1, 100]]]]));
  assert.equal(asked.wish?.overheadMs, 8, "the way of the claim and that of the commit");
  rig.pass(60_000);
  asked.answer({ committed: ["committed"], claim: { kind: "empty" } });
  rig.runner.wake("a");
  assert.deepEqual((await rig.exchange()).wish?.ladders, new Map(), "what nothing confirmed for so long binds no claim");
});

test("what became late while the inputs were read is not run, and is told", async () => {
  const rig = new RunnerRig();
  const asked = await runsOf(rig, 3, 100);
  const batch = rig.batch(3);
  for (const [at, leftMs] of [1_000, 349, 350].entries()) batch.jobs[at]!.deadlineMs = batch.nowMs + leftMs;
  const ran: number[] = [];
  rig.onRun = (items) => {
    ran.push(items);
    rig.pass(100);
  };
  rig.onInputs = () => rig.pass(50);
  rig.runner.loaded("a", { warmUp: [[1, 1]], maxItems: 4 });
  asked.answer({ committed: ["committed"], claim: batch });
  const { commit } = await rig.exchange();
  // three would take as long as four, 400 ms; two 200
  const byId = new Map(commit?.results.map(({ id, outcome }) => [id, outcome]));
  assert.deepEqual(
    batch.jobs.map(({ id }) => byId.get(id)),
    ["succeeded", "late", "succeeded"],
  );
  assert.deepEqual(ran, [2]);
  const told = rig.told.filter((one) => one.kind === "ran").at(-1);
  assert.deepEqual([told?.outcomes, told?.items, told?.jobs, told?.startedLate], [{ succeeded: 2, late: 1 }, 2, 2, 0]);
});

test("a batch that is late as a whole is not run at all, and says nothing of how long runs take", async () => {
  const rig = new RunnerRig();
  const asked = await runsOf(rig, 2, 100);
  rig.onRun = () => assert.fail("it was run");
  rig.onInputs = () => rig.pass(5_000);
  asked.answer({ committed: ["committed"], claim: rig.batch(2, 5_000) });
  assert.deepEqual(outcomes((await rig.exchange()).commit), ["late", "late"]);
  assert.equal(samples(rig).at(-1), undefined);
  assert.equal(ranJobs(rig).at(-1), 0);
});

test("a run says how long others will take, except the first after a load", async () => {
  const rig = new RunnerRig();
  const atMs = [0, 0];
  rig.onRun = () => rig.pass(30);
  rig.serve("a1");
  let asked = await rig.exchange();
  for (let at = 0; at < 2; at++) {
    atMs[at] = rig.storeMs();
    asked.answer({ committed: ["committed"], claim: rig.batch() });
    asked = await rig.exchange();
  }
  assert.deepEqual(samples(rig), [undefined, { size: 0, items: 1, runMs: 30, atMs: atMs[1] }]);
  rig.loaded.delete("a"); // it was pushed out meanwhile
  asked.answer({ committed: ["committed"], claim: rig.batch() });
  const commit = await rig.exchange();
  commit.answer({ committed: ["committed"] });
  (await rig.exchange()).answer({ claim: rig.batch() });
  await rig.exchange();
  assert.equal(samples(rig).length, 4);
  assert.equal(samples(rig).at(-1), undefined, "loaded anew, it runs for the first time again");
});

const times = (rig: RunnerRig) => rig.told.flatMap((one) => (one.kind === "ran" && one.time ? [[one.tag, one.time]] : []));
const others = (rig: RunnerRig) => rig.told.flatMap((one) => (one.kind === "ran" && one.time ? [[one.tag, one.time.othersMs]] : []));
/** A batch whose job has waited so long. */
function waited(rig: RunnerRig, ms: number) {
  const batch = rig.batch();
  batch.jobs[0]!.createdMs = batch.nowMs - ms;
  return batch;
}

test("a run tells how long others had the device while its jobs waited", async () => {
  const rig = new RunnerRig();
  rig.onRun = () => rig.pass(30);
  rig.onInputs = () => rig.pass(2);
  rig.serve("a1");
  rig.serve("b1");
  (await rig.exchange()).answer({ claim: waited(rig, 1_000) });
  const atMs = rig.storeMs();
  (await rig.exchange()).answer({ committed: ["committed"], claim: waited(rig, 1_000) });
  (await rig.exchange()).answer({ committed: ["committed"], claim: waited(rig, 10) });
  await rig.exchange();
  assert.deepEqual(others(rig), [
    ["a", 0],
    ["b", 30],
    ["a", 10],
  ]);
  assert.deepEqual(times(rig)[1], ["b", { atMs: atMs + 64, runs: 1, ownMs: 30, othersMs: 30, idleMs: 0, idleRuns: 0, sharers: 2 }]);
});

test("a run tells how long nobody had the device while its jobs waited on, and not where they came later", async () => {
  const rig = new RunnerRig();
  rig.onRun = () => rig.pass(30);
  rig.onInputs = () => rig.pass(2);
  rig.serve("a1");
  (await rig.exchange()).answer({ claim: waited(rig, 1_000) });
  const asked = await rig.exchange();
  rig.pass(3);
  asked.answer({ committed: ["committed"], claim: waited(rig, 1_000) });
  (await rig.exchange()).answer({ committed: ["committed"], claim: waited(rig, 0) });
  await rig.exchange();
  const idle = rig.told.flatMap((one) => (one.kind === "ran" && one.time ? [[one.time.idleMs, one.time.idleRuns]] : []));
  assert.deepEqual(idle, [
    [0, 0],
    [5, 1],
    [0, 0],
  ]);
});

test("what a job that was claimed before has waited since its creation tells nothing of the device", async () => {
  const rig = new RunnerRig();
  rig.onRun = () => rig.pass(30);
  rig.serve("a1");
  (await rig.exchange()).answer({ claim: waited(rig, 1_000) });
  const asked = await rig.exchange();
  rig.pass(3);
  const again = waited(rig, 1_000);
  again.jobs[0]!.fence = 2;
  asked.answer({ committed: ["committed"], claim: again });
  await rig.exchange();
  assert.deepEqual(
    rig.told.flatMap((one) => (one.kind === "ran" ? [one.time?.idleRuns] : [])),
    [0, 0],
  );
});

test("the oldest job of a batch counts, and the time until its inputs are there", async () => {
  const rig = new RunnerRig();
  rig.onRun = () => rig.pass(30);
  rig.serve("a1");
  rig.serve("b1");
  (await rig.exchange()).answer({ claim: rig.batch() });
  const batch = rig.batch(3);
  for (const [at, ms] of [3, 12, 7].entries()) batch.jobs[at]!.createdMs = batch.nowMs - ms;
  rig.onInputs = () => rig.pass(2);
  (await rig.exchange()).answer({ committed: ["committed"], claim: batch });
  await rig.exchange();
  assert.deepEqual(others(rig).at(-1), ["b", 12], "and of 14 ms before the run 2 were nobody's");
});

test("what jobs may wait for company is no wait for others", async () => {
  const rig = new RunnerRig();
  rig.config = { max_delay_ms: 12 };
  rig.onRun = () => rig.pass(30);
  rig.serve("a1");
  rig.serve("b1");
  (await rig.exchange()).answer({ claim: rig.batch() });
  (await rig.exchange()).answer({ committed: ["committed"], claim: waited(rig, 20) });
  await rig.exchange();
  assert.deepEqual(others(rig).at(-1), ["b", 8]);
});

test("jobs that are not run have had nothing of the device", async () => {
  const rig = new RunnerRig();
  rig.onRun = () => rig.pass(30);
  rig.serve("a1");
  rig.serve("b1");
  (await rig.exchange()).answer({ claim: rig.batch() });
  (await rig.exchange()).answer({ committed: ["committed"], claim: rig.batch(1, -1) });
  (await rig.exchange()).answer({ committed: ["late"], claim: waited(rig, 30) });
  await rig.exchange();
  assert.deepEqual(others(rig), [
    ["a", 0],
    ["b", 30],
  ]);
});

test("a run that failed for one of its jobs says nothing of how long others will take", async () => {
  const rig = new RunnerRig();
  let asked = await runsOf(rig, 2, 30);
  let runs = 0;
  rig.onRun = (items) => {
    runs += 1;
    rig.pass(30);
    if (items > 1) throw new SwitchyardError("run_failed", "too much at once");
  };
  asked.answer({ committed: ["committed"], claim: rig.batch(2) });
  asked = await rig.exchange();
  assert.deepEqual([outcomes(asked.commit), runs], [["succeeded", "succeeded"], 3], "it was halved");
  assert.equal(samples(rig).at(-1), undefined);
  rig.onRun = () => {
    throw new SwitchyardError("run_failed", "out of order");
  };
  asked.answer({ committed: ["committed", "committed"], claim: rig.batch() });
  assert.notDeepEqual(outcomes((await rig.exchange()).commit), ["succeeded"]);
  assert.equal(samples(rig).at(-1), undefined);
});
