/** What a runner tells of single jobs, to those who follow them, and that it tells nothing where nobody does. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { JobResult } from "../../worker/src/runner/claims.ts";
import { type AttemptEnd, followedBatch, settledJobs } from "../../worker/src/runner/followed-batch.ts";
import { RunnerRig } from "../support/scripted-claims.ts";

const trace = (isSampled: boolean): string => `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0${isSampled ? 1 : 0}`;
const followed = (told: RunnerRig["told"]) => told.filter((one) => one.kind === "claimed" || one.kind === "settled");

test("a runner that nobody asked tells nothing of single jobs", async () => {
  const rig = new RunnerRig();
  rig.serve("a1");
  const claim = rig.batch(2);
  claim.jobs[0]!.trace = trace(true);
  (await rig.exchange()).answer({ claim });
  const { answer, commit } = await rig.exchange();
  answer({ committed: commit!.results.map(() => "committed"), claim: { kind: "empty" } });
  await rig.finish();
  assert.deepEqual(followed(rig.told), []);
});

test("of traced jobs those are told whose trace is recorded, when the store has settled them, with the times of the batch", async () => {
  const rig = new RunnerRig({ following: "traced" });
  rig.onRun = () => rig.pass(40);
  rig.serve("a1");
  const claim = rig.batch(3);
  [claim.jobs[0]!.trace, claim.jobs[1]!.trace] = [trace(true), trace(false)];
  const claimedMs = claim.nowMs;
  (await rig.exchange()).answer({ claim });
  const { answer, commit } = await rig.exchange();
  rig.pass(7);
  answer({ committed: commit!.results.map(() => "committed"), claim: { kind: "empty" } });
  await rig.finish();
  const [told, ...more] = followed(rig.told);
  assert.deepEqual(more, []);
  const { jobs, ...times } = told as Extract<typeof told, { kind: "settled" }>;
  assert.deepEqual(jobs, [
    { id: "job-1", attempt: 1, items: 1, class: "standard", createdMs: claimedMs - 5, trace: trace(true), end: "succeeded" },
  ]);
  const ranMs = claimedMs + 40;
  assert.deepEqual(times, {
    ...{ kind: "settled", tag: "a", runMs: 40, items: 3, batchJobs: 3 },
    ...{ claimedMs, beganMs: claimedMs, ranMs, sentMs: ranMs, settledMs: ranMs + 7 },
  });
});

test("who follows all jobs hears of the claim before the run", async () => {
  const rig = new RunnerRig({ following: "all" });
  let toldAtRun = 0;
  rig.onRun = () => {
    toldAtRun = followed(rig.told).length;
  };
  rig.serve("a1");
  (await rig.exchange()).answer({ claim: rig.batch(2) });
  const { answer, commit } = await rig.exchange();
  answer({ committed: commit!.results.map(() => "committed"), claim: { kind: "empty" } });
  await rig.finish();
  assert.equal(toldAtRun, 1);
  assert.deepEqual(
    followed(rig.told).map(({ jobs, kind }) => [kind, jobs.map(({ id }) => id)]),
    [
      ["claimed", ["job-1", "job-2"]],
      ["settled", ["job-1", "job-2"]],
    ],
  );
});

test("a commit without a reply is told once, when its repeat is answered", async () => {
  const rig = new RunnerRig({ following: "all" });
  rig.serve("a1");
  (await rig.exchange()).answer({ claim: rig.batch(1) });
  (await rig.exchange()).answer({});
  const again = await rig.exchange();
  again.answer({ committed: ["ended"], claim: { kind: "empty" } });
  await rig.finish();
  const settled = rig.told.filter((one) => one.kind === "settled");
  assert.deepEqual(
    settled.map(({ jobs }) => jobs.map(({ end }) => end)),
    [["succeeded"]],
  );
});

const error = { code: "run_failed", detail: "no", retryable: true };
const ends: [outcome: JobResult["outcome"], answer: string, isRepeat: boolean, end: AttemptEnd | undefined][] = [
  ["succeeded", "committed", false, "succeeded"],
  ["succeeded", "expired", false, "expired"],
  ["succeeded", "stale", false, "stale"],
  ["succeeded", "ended", false, "stale"],
  ["succeeded", "ended", true, "succeeded"],
  ["succeeded", "no_output", false, undefined],
  ["succeeded", "barred", false, "stale"],
  ["failed", "committed", false, "failed"],
  ["retry", "requeued", false, "retried"],
  ["retry", "failed", false, "failed"],
  ["late", "committed", false, "expired"],
  ["back", "requeued", false, "handed_back"],
];
for (const [outcome, answer, isRepeat, end] of ends) {
  test(`an attempt that came to "${outcome}" and was answered "${answer}"${isRepeat ? " at its repeat" : ""} is ${end ?? "not settled"}`, () => {
    const job = {
      ...{ id: "j", fence: 1, items: 1, attempt: 1, class: "standard" as const, size: 0 },
      deadlineMs: 9,
      createdMs: 1,
      ttlMs: 1,
    };
    const batch = followedBatch("all", { jobs: [job], nowMs: 5 })!;
    const result: JobResult =
      outcome === "succeeded"
        ? { id: "j", fence: 1, outcome, outputs: new Uint8Array(), ttlMs: 1 }
        : { id: "j", fence: 1, outcome, ...(outcome === "retry" && { error }) };
    const settled = settledJobs(batch, { results: [result] }, { committed: [answer], isRepeat });
    assert.deepEqual(
      settled.map((one) => one.end),
      end === undefined ? [] : [end],
    );
    if (outcome === "retry") assert.deepEqual(settled[0]?.error, error);
  });
}
