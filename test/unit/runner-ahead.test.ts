/** Models that run beside the runner's thread: the next batch is claimed and made ready before the end of the run at hand. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Commit } from "../../worker/src/runner/claims.ts";
import { RunFailure } from "../../worker/src/runtime/session.ts";
import { shape } from "../support/runner-batches.ts";
import { type Exchange, RunnerRig } from "../support/scripted-claims.ts";

const runMs = 100;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A runner of queue `a`, whose runs end when the test says so. */
class Device {
  readonly rig = new RunnerRig();
  /** Runs that have begun and not ended. */
  readonly runs: { items: number; end: () => void }[] = [];

  constructor() {
    this.rig.beside.set("a", (items) => new Promise((resolve) => this.runs.push({ items, end: resolve })));
    this.rig.serve("a1");
  }

  async ends(ms = runMs): Promise<void> {
    await turn();
    this.rig.pass(ms);
    this.runs.shift()?.end();
    await turn();
  }

  /** Two runs, after which it is known what a run takes; a third of so many jobs has the device, and it is claimed ahead soon. */
  async running(jobs = 1): Promise<void> {
    const { rig } = this;
    let asked = await rig.exchange();
    for (let run = 0; run < 2; run++) {
      asked.answer({ committed: ["committed"], claim: rig.batch() });
      await this.ends();
      asked = await rig.exchange();
    }
    assert.equal(asked.wish?.isAhead, false);
    asked.answer({ committed: ["committed"], claim: rig.batch(jobs) });
    await turn();
    assert.equal(this.runs.length, 1);
  }

  /** As `running`, and the claim ahead would be due, but for a ticket of a queue that needs the thread. */
  async runningBeside(ticketId: string): Promise<void> {
    await this.running();
    this.rig.serve(ticketId);
    await turn();
    this.rig.pass(runMs - 1);
  }

  /** Time passes until the claim ahead is due. */
  async due(): Promise<Exchange> {
    this.rig.pass(runMs - 1);
    const asked = await this.rig.exchange();
    assert.deepEqual(shape(asked), [[], "a1"]);
    assert.equal(asked.wish?.isAhead, true);
    return asked;
  }
}

test("a batch is claimed shortly before the run at hand should be over, is made ready, and begins before anything else is done", async () => {
  const device = new Device();
  const { rig, runs } = device;
  await device.running();
  const asked = await device.due();
  assert.equal(asked.wish!.overheadMs, 1, "what is left of the run counts");
  asked.answer({ claim: rig.batch() });
  await turn();
  assert.deepEqual([runs.length, rig.board.at(-1)], [1, "a=3 a=4"], "one run at a time; both are told as in hand");
  await device.ends(1);
  assert.deepEqual(
    runs.map(({ items }) => items),
    [1],
    "it runs before the commit has been answered",
  );
  const commit = await rig.exchange();
  assert.deepEqual(shape(commit), [["job-3"], undefined]);
  commit.answer({ committed: ["committed"] });
  await turn();
  assert.equal(rig.board.at(-1), "a=4");
  rig.pass(runMs - 1);
  const third = await rig.exchange();
  assert.deepEqual([shape(third), third.wish?.isAhead], [[[], "a1"], true], "and so on");
  third.answer({ claim: { kind: "empty" } });
  await device.ends(1);
  const last = await rig.exchange();
  assert.deepEqual([shape(last), last.wish?.isAhead], [[["job-4"], "a1"], false], "nothing was ahead: all is as without it");
  last.answer({ committed: ["committed"], claim: { kind: "empty" } });
  await rig.finish();
  assert.deepEqual([rig.pins, rig.troubles()], [0, []]);
});

test("the wait of a batch that was claimed ahead is no overhead of its claim", async () => {
  const device = new Device();
  const { rig } = device;
  await device.running();
  (await device.due()).answer({ claim: rig.batch() });
  await device.ends(50); // it takes 49 ms longer than was expected
  (await rig.exchange()).answer({ committed: ["committed"] });
  await turn();
  await device.ends();
  const asked = await rig.exchange();
  assert.equal(asked.wish!.overheadMs, 0);
});

test("runs beside the thread count as another's from when the oldest job came", async () => {
  const device = new Device();
  const { rig, runs } = device;
  rig.beside.set("b", (items) => new Promise((resolve) => runs.push({ items, end: resolve })));
  await device.running();
  rig.serve("b1");
  await device.ends();
  const asked = await rig.exchange();
  assert.equal(asked.wish?.ticketId, "b1");
  const batch = rig.batch();
  batch.jobs[0]!.createdMs = batch.nowMs - 60;
  asked.answer({ committed: ["committed"], claim: batch });
  await device.ends(30);
  const told = rig.told.filter((one) => one.kind === "ran").at(-1);
  assert.deepEqual([told?.tag, told?.time?.ownMs, told?.time?.othersMs], ["b", 30, 60]);
});

test("the time of a run that is told of late, because its outputs were put away, is nobody's idleness", async () => {
  const device = new Device();
  const { rig } = device;
  const waited = () => {
    const batch = rig.batch();
    batch.jobs[0]!.createdMs = batch.nowMs - 1_000;
    return batch;
  };
  const idleRuns = () => rig.told.flatMap((one) => (one.kind === "ran" ? [one.time?.idleRuns] : []));
  await device.running();
  (await device.due()).answer({ claim: waited() });
  let putAway = (): void => {};
  rig.onOutputs = () => new Promise((resolve) => (putAway = resolve));
  const before = idleRuns().length;
  await device.ends(1);
  rig.onOutputs = async () => {};
  await device.ends();
  assert.deepEqual(idleRuns().slice(before), [0], "the second is told of first");
  putAway();
  await turn();
  assert.equal(idleRuns().length, before + 2);
});

test("a run that nobody can foresee has nothing claimed ahead of its end", async () => {
  const device = new Device();
  const { rig } = device;
  (await rig.exchange()).answer({ claim: rig.batch() });
  await turn();
  rig.pass(10 * runMs);
  await device.ends(0);
  assert.deepEqual(shape(await rig.exchange()), [["job-1"], "a1"]);
});

test("a host that is to end ends the run at hand, and hands back what it has claimed ahead", async () => {
  const device = new Device();
  const { rig } = device;
  await device.running();
  (await device.due()).answer({ claim: rig.batch(2) });
  await turn();
  rig.runner.drain();
  const back = await rig.exchange();
  assert.deepEqual(
    back.commit?.results.map(({ id, outcome }) => `${id} ${outcome}`),
    ["job-4 back", "job-5 back"],
    "at once: others may run it",
  );
  back.answer({ committed: ["requeued", "requeued"] });
  await device.ends(1);
  const commit = await rig.exchange();
  assert.deepEqual(
    commit.commit?.results.map(({ id, outcome }) => `${id} ${outcome}`),
    ["job-3 succeeded"],
  );
  commit.answer({ committed: ["committed"] });
  await rig.ended;
  assert.deepEqual([rig.ends(), rig.pins, device.runs], [[["a1", true]], 0, []]);
});

test("a claim ahead whose reply is lost holds no result up, and is repeated by the next claim", async () => {
  const device = new Device();
  const { rig } = device;
  await device.running();
  const asked = await device.due();
  await device.ends(1);
  asked.fail();
  const commit = await rig.exchange();
  assert.deepEqual([shape(commit), commit.wish?.isAhead, rig.slept], [[["job-3"], "a1"], false, []]);
});

test("jobs whose deadlines pass while their batch waits for the device are not run", async () => {
  const device = new Device();
  const { rig, runs } = device;
  await device.running();
  (await device.due()).answer({ claim: rig.batch(2, runMs + 20) });
  await turn();
  await device.ends(30);
  assert.deepEqual(runs, []);
  const commits: Commit["results"] = [];
  while (commits.length < 3) {
    const { answer, commit } = await rig.exchange();
    commits.push(...commit!.results);
    answer({ committed: commit!.results.map(() => "committed") });
  }
  assert.deepEqual(commits.map(({ id, outcome }) => `${id} ${outcome}`).sort(), ["job-3 succeeded", "job-4 late", "job-5 late"]);
});

test("the turn of a model that needs this thread is waited for", async () => {
  const device = new Device();
  const { rig } = device;
  await device.runningBeside("b1");
  await device.ends(1);
  const commit = await rig.exchange();
  assert.deepEqual([shape(commit), commit.wish?.isAhead], [[["job-3"], "b1"], false], "b had the device less");
});

test("a claim in hand that the store has not settled is not given back", async () => {
  const device = new Device();
  const { rig } = device;
  rig.onGiveBack = () => assert.fail("it is in hand");
  await device.running();
  (await device.due()).answer({ claim: { kind: "uncommitted", sequence: 3 } });
  await device.ends(1);
  const commit = await rig.exchange();
  assert.deepEqual(shape(commit)[0], ["job-3"]);
});

test("the bytes of a batch that fails on such a device are laid out anew, and only the bad item fails", async () => {
  const device = new Device();
  const { rig } = device;
  await device.running();
  let runs = 0;
  rig.onRun = (items) => {
    runs += 1;
    if (items > 1) throw new RunFailure("one of them is bad", { isTransient: false });
  };
  (await device.due()).answer({ claim: rig.batch(2) });
  await device.ends(1);
  (await rig.exchange()).answer({ committed: ["committed"] });
  for (let run = 0; run < 2; run++) await device.ends(0);
  const commit = await rig.exchange();
  assert.deepEqual([commit.commit?.results.map(({ outcome }) => outcome), runs], [["succeeded", "succeeded"], 3], "each alone");
});

test("a batch that waits for a run which is not over long after it should be is handed back", async () => {
  const device = new Device();
  const { rig } = device;
  await device.running();
  (await device.due()).answer({ claim: rig.batch(2) });
  await turn();
  const patienceMs = Math.max(runMs, 250);
  rig.pass(patienceMs);
  await turn();
  assert.equal(device.runs.length, 1);
  rig.pass(1);
  const back = await rig.exchange();
  assert.deepEqual(
    back.commit?.results.map(({ id, outcome }) => `${id} ${outcome}`),
    ["job-4 back", "job-5 back"],
  );
  assert.equal(back.wish, undefined);
  back.answer({ committed: ["requeued", "requeued"] });
  await device.ends(1);
  const commit = await rig.exchange();
  assert.deepEqual([shape(commit), commit.wish?.overheadMs], [[["job-3"], "a1"], 0], "its wait is no overhead of claims");
});

test("nothing is claimed ahead of a job that a host may have died of", async () => {
  const device = new Device();
  const { rig } = device;
  await device.running();
  (await device.due()).answer({ claim: { kind: "empty" } });
  await device.ends(1);
  const claim = rig.batch();
  claim.jobs[0]!.attempt = 2;
  (await rig.exchange()).answer({ committed: ["committed"], claim });
  await turn();
  rig.pass(runMs - 1);
  await device.ends(1);
  assert.deepEqual(shape(await rig.exchange()), [["job-4"], "a1"]);
});

test("a ticket that is due to be given up is looked at when the run ends, however much work the other queue has", async () => {
  const device = new Device();
  const { rig } = device;
  await device.runningBeside("b1");
  await device.ends(1);
  const regular = await rig.exchange();
  assert.deepEqual([shape(regular), regular.wish?.isAhead], [[["job-3"], "b1"], false]);
  regular.answer({ committed: ["committed"], claim: { kind: "empty" } });
  (await rig.exchange()).answer({ claim: rig.batch() });
  await turn();
  rig.pass(runMs - 1); // b's linger is over since long
  await device.ends(1);
  const last = await rig.exchange();
  assert.deepEqual(
    [shape(last), last.wish?.lingerMs, last.wish?.isAhead],
    [[["job-4"], "b1"], 0, false],
    "nothing was claimed ahead of it",
  );
});

test("a batch of another queue that is handed back takes its ticket along: to the store it could act", async () => {
  const device = new Device();
  const { rig } = device;
  rig.beside.set("b", async () => {});
  await device.running();
  rig.serve("b1");
  await device.ends(1);
  (await rig.exchange()).answer({ committed: ["committed"], claim: rig.batch() });
  (await rig.exchange()).answer({ committed: ["committed"], claim: { kind: "empty" } });
  (await rig.exchange()).answer({ claim: rig.batch() });
  await turn();
  rig.runner.wake("b");
  rig.pass(runMs - 1);
  const asked = await rig.exchange();
  assert.deepEqual([shape(asked), asked.wish?.isAhead], [[[], "b1"], true], "it had the device less");
  asked.answer({ claim: rig.batch() });
  await turn();
  rig.pass(251);
  const back = await rig.exchange();
  assert.deepEqual(
    back.commit?.results.map(({ id, outcome }) => `${id} ${outcome}`),
    ["job-6 back"],
  );
  assert.deepEqual(rig.ends(), [["b1", true]]);
});
