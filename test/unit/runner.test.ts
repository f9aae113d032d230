import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeFrame, SwitchyardError, toTypedArray } from "@switchyard/protocol";
import type { ClaimAnswer, Commit } from "../../worker/src/runner/claims.ts";
import { type Exchange, lingerMs, notReady, RunnerRig } from "../support/scripted-claims.ts";

const ids = (commit: Commit | undefined): string[] => (commit?.results ?? []).map(({ id }) => id);
const outcomes = (commit: Commit | undefined): string[] => (commit?.results ?? []).map(({ outcome }) => outcome);
const shape = ({ commit, wish }: Exchange): [string[], string | undefined] => [ids(commit), wish?.ticketId];

/** A runner that has just been asked what a batch of queue `a` came to, together with its next look. */
async function committing(jobs = 1, slackMs?: number): Promise<{ rig: RunnerRig; asked: Exchange }> {
  const rig = new RunnerRig();
  rig.serve("a1");
  (await rig.exchange()).answer({ claim: rig.batch(jobs, slackMs) });
  return { rig, asked: await rig.exchange() };
}

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
  { claim: { kind: "uncommitted" }, release: true },
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
  asked.answer({ claim: { kind: "uncommitted" } });
  const again = await rig.exchange();
  assert.deepEqual(shape(again), [["job-1"], "a1"]);
  again.answer({ committed: ["committed"], claim: { kind: "empty" } });
  await rig.idle();
  assert.deepEqual(rig.ends(), []);
});

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
  asked.answer({ committed: ["no_output"], claim: { kind: "uncommitted" } });
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
  asked.answer({ commitRefused: new Error("ERR bad record"), claim: { kind: "uncommitted" } });
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

test("a drain without Redis ends when there is nothing to commit", async () => {
  const rig = new RunnerRig();
  rig.serve("a1");
  const look = await rig.exchange();
  rig.runner.drain();
  look.fail();
  await rig.ended;
  assert.deepEqual(rig.ends(), [["a1", true]]);
});

test("a drain gives jobs back whose outputs find no room, with their attempts", async () => {
  const { rig, asked } = await committing();
  asked.answer({ committed: ["no_output"], claim: { kind: "uncommitted" } });
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
  asked.answer({ commitRefused: new Error("ERR bad record"), claim: { kind: "uncommitted" } });
  (await rig.exchange()).answer({ committed: ["committed"] });
  (await rig.exchange()).answer({ commitRefused: new Error("ERR bad record") });
  await rig.ended;
  assert.match(rig.troubles().at(-1) as string, /given up: job-2/);
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

/** Runs so many batches of one job, each taking `ms`; answers the exchange that carries the last commit. */
async function runsOf(rig: RunnerRig, count: number, ms: number): Promise<Exchange> {
  rig.onRun = () => rig.pass(ms);
  rig.serve("a1");
  let asked = await rig.exchange();
  for (let at = 0; at < count; at++) {
    asked.answer({ committed: ["committed"], claim: rig.batch() });
    asked = await rig.exchange();
  }
  return asked;
}

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
