/** The runner and models that are loaded, load, or do not: who waits for them, and what becomes of jobs and tickets. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { shape } from "../support/runner-batches.ts";
import { lingerMs, notReady, RunnerRig } from "../support/scripted-claims.ts";

const ranJobs = (rig: RunnerRig) => rig.told.filter((one) => one.kind === "ran").map(({ jobs }) => jobs);

test("neither a finished result nor the next batch waits for another model's load", async () => {
  const rig = new RunnerRig();
  const load = Promise.withResolvers<void>();
  rig.loaded.delete("b");
  rig.load = () => load.promise;
  rig.serve("a1");
  rig.serve("b1");
  (await rig.exchange()).answer({ claim: rig.batch() });
  const alone = await rig.exchange();
  assert.deepEqual(shape(alone), [["job-1"], undefined]);
  alone.answer({ committed: ["committed"] });
  const next = await rig.exchange();
  assert.deepEqual(shape(next), [[], "a1"], "whose model is here goes on");
  next.answer({ claim: { kind: "empty" } });
  assert.equal(await rig.idle(), lingerMs, "and nothing is asked of the other meanwhile");
  load.resolve();
  assert.deepEqual(shape(await rig.exchange()), [[], "b1"]);
});

test("jobs of a model that does not load are told so and may run elsewhere", async () => {
  const rig = new RunnerRig();
  rig.loaded.delete("b");
  rig.load = () => Promise.reject(notReady());
  rig.serve("b1");
  (await rig.exchange()).answer({ claim: rig.batch() });
  const { commit } = await rig.exchange();
  const [result] = commit?.results ?? [];
  assert.ok(result?.outcome === "retry");
  assert.deepEqual(result.error, { code: "model_not_ready", detail: "the file is damaged", retryable: true });
  assert.deepEqual(ranJobs(rig), [0], "nothing ran");
});

test("a ticket whose model does not load is left, unclaimed, to a host that may load it", async () => {
  const rig = new RunnerRig();
  rig.loaded.delete("b");
  rig.load = () => Promise.reject(notReady());
  rig.serve("b1", "leave");
  rig.serve("a1");
  const look = await rig.exchange();
  assert.equal(look.wish?.ticketId, "a1");
  look.answer({ claim: { kind: "empty" } });
  assert.equal(await rig.idle(), lingerMs, "nothing is asked of the other");
  assert.deepEqual(rig.ends(), [["b1", true]]);
});

test("a drain while a model loads does not claim with it", async () => {
  const rig = new RunnerRig();
  const load = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  rig.loaded.delete("b");
  rig.load = () => {
    asked.resolve();
    return load.promise;
  };
  rig.serve("b1");
  await asked.promise;
  rig.runner.drain();
  load.resolve();
  await rig.ended;
  assert.deepEqual(rig.ends(), [["b1", true]]);
  assert.equal(rig.pins, 0);
});

test("a queue that was empty does not call for its model again: the ticket is given up instead", async () => {
  const rig = new RunnerRig();
  rig.serve("a1");
  (await rig.exchange()).answer({ claim: { kind: "empty" } });
  await rig.idle();
  rig.loaded.delete("a");
  rig.load = () => assert.fail("it was loaded for a last look");
  rig.pass(lingerMs);
  await rig.finish();
  assert.deepEqual(rig.ends(), [["a1", true]]);
});
