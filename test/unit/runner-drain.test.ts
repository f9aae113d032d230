/** The runner that is to end: what it finishes, and what it gives back. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { committing, outcomes, shape } from "../support/runner-batches.ts";
import { RunnerRig } from "../support/scripted-claims.ts";

const ranJobs = (rig: RunnerRig) => rig.told.filter((one) => one.kind === "ran").map(({ jobs }) => jobs);

test("a drain in the midst of an exchange runs what it claimed, commits it and releases the ticket", async () => {
  const rig = new RunnerRig();
  rig.serve("a1");
  const look = await rig.exchange();
  rig.runner.drain();
  look.answer({ claim: rig.batch() });
  const last = await rig.exchange();
  assert.deepEqual([shape(last), outcomes(last.commit)], [[["job-1"], undefined], ["succeeded"]]);
  last.answer({ committed: ["committed"] });
  await rig.ended;
  assert.deepEqual(rig.ends(), [["a1", true]]);
  assert.equal(rig.told.at(-1)?.kind, "drained");
  rig.serve("a2");
  assert.deepEqual(rig.ends().at(-1), ["a2", true], "a ticket that comes too late goes back");
});

test("a drain without Redis ends when there is nothing to commit", async () => {
  const rig = new RunnerRig();
  let asked = 0;
  rig.onGiveBackUnheard = () => {
    asked += 1;
    return Promise.reject(new Error("Connection is closed."));
  };
  rig.serve("a1");
  const look = await rig.exchange();
  rig.runner.drain();
  look.fail();
  await rig.ended;
  assert.deepEqual(rig.ends(), [["a1", true]]);
  assert.equal(asked, 3, "it waits no longer for a store that is away");
});

test("what a claim without an answer may have taken goes back before the host ends, at no cost of an attempt", async () => {
  const rig = new RunnerRig();
  const given: string[] = [];
  rig.onGiveBackUnheard = async (tag) => given.push(tag);
  rig.serve("a1");
  const look = await rig.exchange();
  rig.runner.drain();
  look.fail();
  await rig.ended;
  assert.deepEqual([given, rig.ends()], [["a"], [["a1", true]]]);
  const heard = new RunnerRig();
  heard.onGiveBackUnheard = async (tag) => given.push(tag);
  heard.serve("a1");
  const answered = await heard.exchange();
  heard.runner.drain();
  answered.answer({ claim: { kind: "empty", nowMs: 1 } });
  await heard.ended;
  assert.equal(given.length, 1, "one that was answered is not given back");
});

test("jobs whose inputs cannot be read before the host ends go back with their attempts", async () => {
  const rig = new RunnerRig();
  let reads = 0;
  rig.onInputs = () => {
    reads += 1;
    if (reads === 2) rig.runner.drain();
    throw new Error("Connection is closed.");
  };
  rig.serve("a1");
  (await rig.exchange()).answer({ claim: rig.batch(2) });
  const { commit, answer } = await rig.exchange();
  assert.deepEqual(outcomes(commit), ["back", "back"]);
  assert.deepEqual(ranJobs(rig), [0], "nothing ran");
  assert.deepEqual(rig.slept, [200]);
  answer({ committed: ["requeued", "requeued"] });
  await rig.ended;
});

test("a host that the cluster barred says so when its commit is refused", async () => {
  const { rig, asked } = await committing();
  asked.answer({ committed: ["barred"], claim: { kind: "barred" } });
  await rig.finish();
  assert.ok(rig.told.some((one) => one.kind === "barred"));
  assert.deepEqual(rig.ends(), [["a1", false]]);
});
