/** A job that was claimed for this host while it lingered: when the runner begins it at once, and when its next look is to find it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeBlobReference, encodeFrame, tensor } from "@switchyard/protocol";
import type { Handed } from "../../worker/src/runner/claims.ts";
import { ids, outcomes, shape } from "../support/runner-batches.ts";
import { type Exchange, lingerMs, RunnerRig } from "../support/scripted-claims.ts";

/** So many jobs, one at a time, are enough to know that they come so. */
const enough = 9;

/** A runner that lingers after jobs of queue `a` that came alone, with what its last commit said for the time of its linger. */
async function lingering(how: { runMs?: number; jobs?: number } = {}): Promise<{ rig: RunnerRig; last: Exchange }> {
  const rig = new RunnerRig();
  rig.onRun = () => rig.pass(how.runMs ?? 1);
  rig.serve("a1");
  let last = await rig.exchange();
  for (let at = 0; at < (how.jobs ?? enough); at++) {
    last.answer({ claim: rig.batch() });
    last = await rig.exchange();
    last.answer({ committed: ["committed"], claim: { kind: "empty" } });
    await rig.idle();
    if (at === (how.jobs ?? enough) - 1) break;
    rig.runner.wake("a");
    last = await rig.exchange();
  }
  return { rig, last };
}

function handedTo(rig: RunnerRig, ticketId = "a1", ageMs = 0): Handed {
  const batch = rig.batch();
  batch.nowMs -= ageMs;
  batch.inputs = [Buffer.from(encodeFrame([tensor("x", new Float32Array([21]), [1, 1])]))];
  return { tag: ticketId.slice(0, 1), ticketId, batch };
}

test("it is run at once, and its commit travels with the next look", async () => {
  const { rig } = await lingering();
  rig.onInputs = () => assert.fail("they came with it");
  rig.runner.handed(handedTo(rig));
  const next = await rig.exchange();
  assert.deepEqual(shape(next), [[`job-${enough + 1}`], "a1"]);
  assert.deepEqual([outcomes(next.commit), next.wish?.lingerMs], [["succeeded"], lingerMs]);
  assert.deepEqual(rig.board.slice(-1), [`a=${enough + 1}`], "the main loop can tell the claim while it runs");
  next.answer({ committed: ["committed"], claim: { kind: "empty" } });
  assert.equal(await rig.idle(), lingerMs, "it lingers again");
  rig.runner.handed(handedTo(rig));
  assert.deepEqual(shape(await rig.exchange()), [[`job-${enough + 2}`], "a1"]);
});

test("it may come while the ticket lingers alone, of a model whose runs are short", async () => {
  const short = await lingering({ runMs: 10 });
  assert.ok((short.last.wish?.handedWithinMs ?? 0) >= 10);
  const long = await lingering({ runMs: 11 });
  assert.equal(long.last.wish?.handedWithinMs, undefined);
  const { rig: shared } = await lingering();
  shared.serve("b1");
  (await shared.exchange()).answer({ claim: { kind: "empty" } });
  shared.runner.wake("a");
  (await shared.exchange()).answer({ claim: shared.batch() });
  const asked = await shared.exchange();
  assert.deepEqual([shape(asked)[1], asked.wish?.handedWithinMs], ["a1", undefined], "another queue may want the device next");
  const few = await lingering({ jobs: enough - 1 });
  assert.equal(few.last.wish?.handedWithinMs, undefined, "jobs may come together");
});

test("once jobs have come together it does not come for a while", async () => {
  const { rig } = await lingering();
  for (const jobs of [2, 1]) {
    rig.runner.wake("a");
    (await rig.exchange()).answer({ claim: rig.batch(jobs) });
    const asked = await rig.exchange();
    assert.equal(asked.wish?.handedWithinMs === undefined, jobs === 1, "what was known when the commit went");
    asked.answer({ committed: Array.from({ length: jobs }, () => "committed"), claim: { kind: "empty" } });
    await rig.idle();
  }
});

test("nor while the look behind a commit finds more", async () => {
  const { rig } = await lingering();
  rig.runner.wake("a");
  (await rig.exchange()).answer({ claim: rig.batch() });
  (await rig.exchange()).answer({ committed: ["committed"], claim: rig.batch() });
  assert.equal((await rig.exchange()).wish?.handedWithinMs, undefined);
});

test("a queue whose jobs wait for company hands none over", async () => {
  const { last, rig } = await lingering();
  assert.notEqual(last.wish?.handedWithinMs, undefined);
  rig.config = { max_delay_ms: 5 };
  rig.pass(lingerMs);
  (await rig.exchange()).answer({ claim: { kind: "retired" } });
  rig.serve("a2");
  (await rig.exchange()).answer({ claim: rig.batch() });
  assert.equal((await rig.exchange()).wish?.handedWithinMs, undefined);
});

const asWakeUp: { where: string; given?: (rig: RunnerRig) => void; handed?: (rig: RunnerRig) => Handed }[] = [
  {
    where: "it is not what the next claim would answer",
    given: (rig) => {
      rig.onHanded = () => false;
    },
  },
  { where: "it is old: it may have gone back", handed: (rig) => handedTo(rig, "a1", 40) },
  {
    where: "it is of a size of which no run was seen: it may take too long",
    handed: (rig) => {
      const handed = handedTo(rig);
      handed.batch.jobs[0]!.size = 7;
      return handed;
    },
  },
  {
    where: "runs of so many items take long",
    handed: (rig) => {
      const handed = handedTo(rig);
      handed.batch.jobs[0]!.items = 64;
      return handed;
    },
  },
  {
    where: "its inputs are still to be fetched: that may take too long",
    handed: (rig) => {
      const handed = handedTo(rig);
      handed.batch.inputs = [Buffer.from(encodeBlobReference({ sha256: "a".repeat(64), sizeBytes: 9_000_000 }))];
      return handed;
    },
  },
  {
    where: "its inputs did not come with it",
    handed: (rig) => {
      const handed = handedTo(rig);
      delete handed.batch.inputs;
      return handed;
    },
  },
  { where: "its model was unloaded", given: (rig) => rig.loaded.delete("a") },
  { where: "it names a ticket that has ended", handed: (rig) => ({ ...handedTo(rig), ticketId: "a0" }) },
];
for (const { where, given, handed = handedTo } of asWakeUp) {
  test(`it is a wake-up where ${where}`, async () => {
    const { rig } = await lingering();
    given?.(rig);
    rig.runner.handed(handed(rig));
    assert.deepEqual(shape(await rig.exchange()), [[], "a1"], "the look finds it");
  });
}

test("it is a wake-up where the ticket does not linger any more, and where another one came", async () => {
  const { rig } = await lingering();
  rig.pass(lingerMs);
  const closing = await rig.exchange();
  rig.runner.handed(handedTo(rig));
  closing.answer({ claim: { kind: "empty" } });
  assert.deepEqual(shape(await rig.exchange()), [[], "a1"]);

  const { rig: busy } = await lingering();
  busy.serve("b1");
  busy.runner.handed(handedTo(busy));
  const first = await busy.exchange();
  assert.deepEqual([ids(first.commit), ["a1", "b1"].includes(first.wish?.ticketId ?? "")], [[], true]);
});

test("a host that is to end hands it back, and says so", async () => {
  const { rig } = await lingering();
  rig.runner.handed(handedTo(rig));
  rig.runner.drain();
  const back = await rig.exchange();
  assert.deepEqual([ids(back.commit), outcomes(back.commit), back.wish], [[`job-${enough + 1}`], ["back"], undefined]);
  back.answer({ committed: ["requeued"] });
  await rig.finish();
  assert.deepEqual(rig.ends(), [["a1", true]]);
});

test("one that reads its deadline too late is told so, and not run", async () => {
  const { rig } = await lingering();
  const handed = handedTo(rig, "a1", 20);
  handed.batch.jobs[0]!.deadlineMs = handed.batch.nowMs + 15;
  rig.onRun = () => assert.fail("it was over");
  rig.runner.handed(handed);
  assert.deepEqual(outcomes((await rig.exchange()).commit), ["late"]);
});

test("where its model goes in the last moment it is handed back, not told that there is none", async () => {
  const { rig } = await lingering();
  rig.runner.handed(handedTo(rig));
  rig.loaded.delete("a");
  rig.load = () => Promise.reject(new Error("it must not be loaded for this"));
  assert.deepEqual(outcomes((await rig.exchange()).commit), ["back"]);
});

test("one that comes when the host is to end already is left to the store", async () => {
  const { rig } = await lingering();
  rig.runner.drain();
  rig.runner.handed(handedTo(rig));
  await rig.finish();
  assert.equal(rig.told.filter(({ kind }) => kind === "ran").length, enough);
});

test("it is a wake-up where its runs take more than 10 ms", async () => {
  const { rig } = await lingering({ runMs: 11 });
  rig.runner.handed(handedTo(rig));
  assert.deepEqual(shape(await rig.exchange()), [[], "a1"]);
});

test("who hears too late offers nothing for a while", async () => {
  const { rig } = await lingering();
  rig.runner.handed(handedTo(rig, "a1", 40));
  (await rig.exchange()).answer({ claim: rig.batch() });
  assert.equal((await rig.exchange()).wish?.handedWithinMs, undefined);
});
