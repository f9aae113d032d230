/** The turns of the runner: claims and commits in one write, lingers, wake-ups, repeats, and which queue is next. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeFrame, toTypedArray } from "@switchyard/protocol";
import type { ClaimAnswer } from "../../worker/src/runner/claims.ts";
import { committing, shape } from "../support/runner-batches.ts";
import { lingerMs, RunnerRig } from "../support/scripted-claims.ts";

test("a batch is run, and its commit travels with the next look", async () => {
  const { rig, asked } = await committing(2);
  assert.deepEqual(shape(asked), [["job-1", "job-2"], "a1"]);
  const [first] = asked.commit?.results ?? [];
  assert.ok(first?.outcome === "succeeded");
  assert.deepEqual([...(toTypedArray(decodeFrame(first.outputs)[0]!) as Float32Array)], [2]);
  assert.deepEqual(rig.board, ["a=1"], "the main loop can tell the claim while it runs");
  const ran = rig.told.find((one) => one.kind === "ran");
  assert.deepEqual([ran?.jobs, ran?.items, ran?.queueMs, ran?.outcomes], [2, 2, [5, 5], { succeeded: 2 }]);
  asked.answer({ committed: ["committed", "committed"], claim: { kind: "empty" } });
  await rig.finish();
  assert.equal(rig.pins, 0);
  assert.deepEqual(rig.board, ["a=1", ""], "a store that lost this commit is not told that the claim is in hand");
});

test("an empty queue is lingered at, then looked into once more, which retires the ticket", async () => {
  const rig = new RunnerRig();
  rig.serve("a1");
  const look = await rig.exchange();
  assert.equal(look.wish?.lingerMs, lingerMs);
  look.answer({ claim: { kind: "empty" } });
  assert.equal(await rig.idle(), lingerMs);
  rig.pass(lingerMs);
  const last = await rig.exchange();
  assert.equal(last.wish?.lingerMs, 0);
  last.answer({ claim: { kind: "retired" } });
  await rig.finish();
  assert.deepEqual(rig.ends(), [["a1", false]]);
});

const endings: { claim: ClaimAnswer; release: boolean; barred?: boolean }[] = [
  { claim: { kind: "retired" }, release: false },
  { claim: { kind: "not_yours" }, release: false },
  { claim: { kind: "stale_sequence" }, release: true },
  { claim: { kind: "barred" }, release: false, barred: true },
];
for (const { claim, release, barred = false } of endings) {
  test(`a claim that is answered "${claim.kind}" ends the ticket, ${release ? "to be released" : "with nothing left in the store"}`, async () => {
    const rig = new RunnerRig();
    rig.serve("a1");
    (await rig.exchange()).answer({ claim });
    rig.serve("b1");
    assert.equal((await rig.exchange()).wish?.ticketId, "b1");
    assert.deepEqual(rig.ends(), [["a1", release]]);
    assert.equal(
      rig.told.some((one) => one.kind === "barred"),
      barred,
    );
  });
}

test("two queues with work take turns", async () => {
  const rig = new RunnerRig();
  rig.serve("a1");
  rig.serve("b1");
  const turns: unknown[] = [];
  for (let at = 0; at < 4; at++) {
    const asked = await rig.exchange();
    turns.push(asked.wish?.ticketId);
    asked.answer({ committed: ["committed"], claim: rig.batch() });
  }
  assert.deepEqual(turns, ["a1", "b1", "a1", "b1"]);
  await rig.finish();
});

test("a wake-up ends a linger", async () => {
  const rig = new RunnerRig();
  rig.serve("a1");
  (await rig.exchange()).answer({ claim: { kind: "empty" } });
  await rig.idle();
  rig.runner.wake("a");
  assert.equal((await rig.exchange()).wish?.lingerMs, lingerMs);
});

test("a wake-up that overtakes the answer of an empty queue leads to another look at once", async () => {
  const rig = new RunnerRig();
  rig.serve("a1");
  const look = await rig.exchange();
  rig.runner.wake("a");
  look.answer({ claim: { kind: "empty" } });
  assert.equal((await rig.exchange()).wish?.ticketId, "a1");
});

test("a commit and a look whose replies got lost are both sent again", async () => {
  const { rig, asked } = await committing();
  asked.fail();
  const second = await rig.exchange();
  assert.deepEqual(shape(second), shape(asked));
  second.answer({});
  const third = await rig.exchange();
  assert.deepEqual(shape(third), shape(asked));
  third.answer({ committed: ["ended"], claim: rig.batch() });
  assert.deepEqual(shape(await rig.exchange()), [["job-2"], "a1"]);
});

test("a look whose reply got lost is sent again without the commit that was answered, and the other way round", async () => {
  const { rig, asked } = await committing();
  asked.answer({ committed: ["committed"] });
  const look = await rig.exchange();
  assert.deepEqual(shape(look), [[], "a1"]);
  look.answer({ claim: rig.batch() });
  const again = await rig.exchange();
  again.answer({ claim: { kind: "empty" } });
  const commit = await rig.exchange();
  assert.deepEqual(shape(commit), [["job-2"], undefined]);
});

test("a look that was refused because its commit got lost is repeated with the commit", async () => {
  const { rig, asked } = await committing();
  asked.answer({ claim: { kind: "uncommitted", sequence: 1 } });
  const again = await rig.exchange();
  assert.deepEqual(shape(again), [["job-1"], "a1"]);
  again.answer({ committed: ["committed"], claim: { kind: "empty" } });
  await rig.idle();
  assert.deepEqual(rig.ends(), []);
});

test("a claim that the store has and the host has not is given back, and the queue looked into again at once", async () => {
  const rig = new RunnerRig();
  const given: string[] = [];
  rig.onGiveBack = async (tag, sequence) => given.push(`${tag}=${sequence}`);
  rig.serve("a1");
  (await rig.exchange()).answer({ claim: { kind: "uncommitted", sequence: 7 } });
  assert.equal((await rig.exchange()).wish?.ticketId, "a1");
  assert.deepEqual([given, rig.ends(), rig.slept], [["a=7"], [], []]);
  assert.match(rig.troubles()[0] ?? "", /no longer in hand: 1 jobs/);
});

test("a claim whose jobs are all over is given back in silence, and the queue looked into again at once", async () => {
  const rig = new RunnerRig();
  rig.serve("a1");
  (await rig.exchange()).answer({ claim: { kind: "uncommitted", sequence: 7 } });
  const again = await rig.exchange();
  assert.deepEqual([again.wish?.lingerMs, rig.troubles(), rig.slept], [lingerMs, [], []]);
});

test("a claim that the store refuses to take back is told, and holds up no other queue", async () => {
  const rig = new RunnerRig();
  rig.onGiveBack = () => Promise.reject(Object.assign(new Error("WRONGTYPE of a record"), { name: "ReplyError" }));
  rig.serve("a1");
  (await rig.exchange()).answer({ claim: { kind: "uncommitted", sequence: 7 } });
  assert.equal(await rig.idle(), 1_000);
  assert.match(rig.troubles()[0] ?? "", /could not be given back: WRONGTYPE/);
  rig.serve("b1");
  assert.equal((await rig.exchange()).wish?.ticketId, "b1");
});

test("a claim that cannot be given back because the store is away again leaves the ticket for a moment", async () => {
  const rig = new RunnerRig();
  rig.onGiveBack = () => Promise.reject(new Error("the connection to Redis is not ready"));
  rig.serve("a1");
  (await rig.exchange()).answer({ claim: { kind: "uncommitted", sequence: 7 } });
  assert.equal(await rig.idle(), 200);
  rig.pass(200);
  assert.equal((await rig.exchange()).wish?.ticketId, "a1");
  assert.deepEqual([rig.ends(), rig.troubles()], [[], []]);
});

test("a claim whose commit waits for room in the store is not given back", async () => {
  const { rig, asked } = await committing();
  let given = 0;
  rig.onGiveBack = async () => ++given;
  asked.answer({ committed: ["no_output"], claim: { kind: "uncommitted", sequence: 1 } });
  await rig.idle();
  assert.equal(given, 0, "its jobs would run again");
  assert.deepEqual(rig.ends(), []);
});

test("a queue whose claims fail holds up no other", async () => {
  const rig = new RunnerRig();
  rig.serve("a1");
  (await rig.exchange()).answer({ claimRefused: new Error("ERR bad record") });
  assert.equal(await rig.idle(), 1_000);
  rig.serve("b1");
  const other = await rig.exchange();
  assert.equal(other.wish?.ticketId, "b1");
  other.answer({ claim: { kind: "retired" } });
  rig.pass(await rig.idle());
  assert.equal((await rig.exchange()).wish?.ticketId, "a1", "it is looked into again");
});

test("a claim holds no more items than fit into its share of memory", async () => {
  const rig = new RunnerRig();
  rig.itemFloats = 2 ** 18;
  rig.serve("a1");
  const first = await rig.exchange();
  assert.equal(first.wish?.maxItems, 8192, "nothing is known yet");
  first.answer({ claim: rig.batch(2) });
  const { wish } = await rig.exchange();
  assert.equal(wish?.maxItems, 127, "of 1 MiB in and 1 MiB out, and their headers");
});

test("two queues with work share the device's time", async () => {
  const rig = new RunnerRig();
  const had = { a: 0, b: 0 };
  let queue: "a" | "b" = "a";
  rig.onRun = () => {
    const ms = queue === "a" ? 100 : 10;
    had[queue] += ms;
    rig.pass(ms);
  };
  rig.serve("a1");
  rig.serve("b1");
  for (let at = 0; at < 110; at++) {
    const asked = await rig.exchange();
    queue = asked.wish?.tag as "a" | "b";
    asked.answer({ committed: ["committed"], claim: rig.batch() });
  }
  assert.ok(Math.abs(had.a - had.b) <= 110, JSON.stringify(had));
});

test("a ticket that came during a long run has its turn before the queue that ran looks again", async () => {
  const rig = new RunnerRig();
  rig.onRun = () => rig.pass(20);
  rig.serve("a1");
  const first = await rig.exchange();
  rig.onTurn = async () => {
    rig.serve("b1");
    rig.onTurn = async () => {};
  };
  first.answer({ claim: rig.batch() });
  assert.equal((await rig.exchange()).wish?.ticketId, "b1");
});
