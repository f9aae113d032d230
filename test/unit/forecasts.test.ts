/** What a coordinator expects of its queues, over a history, hosts and a clock that the test holds. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { blobThresholdBytes, type DeviceRuns, SwitchyardError, staleAfterMs } from "@switchyard/protocol";
import { newJobId, queueTag } from "@switchyard/protocol/redis";
import { Forecasts } from "../../coordinator/src/application/forecasts.ts";
import type { Admitted, NewJob } from "../../coordinator/src/ports/job-store.ts";
import type { ModelRegistry } from "../../coordinator/src/ports/model-registry.ts";
import { newJob } from "../support/job-rig.ts";

const tag = queueTag("digits", "one");
const otherTag = queueTag("digits", "two");
const storeMs = 1_700_000_000_000;
/** Of each run of the model, one item at a time. */
const runTakesMs = 100;

function runsOf(more: Partial<DeviceRuns> = {}): DeviceRuns {
  const runs = Array.from({ length: 25 }, () => ({ items: 1, runMs: runTakesMs, atMs: storeMs }));
  const device = more.device ?? "cpu";
  return { device, windows: new Map([[0, [{ bucket: 1, runs }]]]), warmUp: [], loadMs: undefined, overheadMs: 2, times: [], ...more };
}

class Rig {
  readonly history = new Map<string, Map<string, DeviceRuns>>();
  /** Thrown by the next reads of the history. */
  trouble: Error | undefined;
  readonly reads: string[][] = [];
  nowMs = 5_000;
  storeNowMs = storeMs;
  hosts = 1;
  /** Beside those. */
  readonly devices: { device: string; count: number }[] = [];
  isWarm = true;
  readonly forecasts: Forecasts;

  constructor(limits: { jobs?: number; bytes?: number } = {}) {
    this.forecasts = new Forecasts({
      history: {
        read: async (tags) => {
          this.reads.push([...tags]);
          if (this.trouble) throw this.trouble;
          return new Map(this.history);
        },
      },
      hosts: {
        matching: () => this.hosts,
        devices: () => [{ device: "cpu", count: this.hosts }, ...this.devices],
        isWarm: () => this.isWarm,
      },
      models: { byTag: () => ({ batching: { maxItems: 1, reason: "" } }) } as unknown as ModelRegistry,
      store: { nowMs: () => this.storeNowMs },
      clock: { monotonicMs: () => this.nowMs },
      mostQueueJobs: limits.jobs ?? 1_000_000,
      mostQueueBytes: limits.bytes ?? 1024 ** 3,
    });
  }

  /** Knows the queue's run times. */
  static async known(more: Partial<DeviceRuns> = {}): Promise<Rig> {
    const rig = new Rig();
    rig.history.set(tag, new Map([["cpu", runsOf(more)]]));
    rig.forecasts.mostWaiting(tag);
    await rig.forecasts.refresh();
    return rig;
  }

  admit(job: NewJob = newJob(tag)): void {
    this.forecasts.answered(job, admitted(job));
  }

  end(of = tag, counts = true): void {
    this.forecasts.ended({ id: newJobId(of), counts });
  }

  /** Items that may be ahead of jobs of several deadlines, together: a figure that moves with all that is expected. */
  bound(): number {
    let sum = 0;
    for (let timeoutMs = 1_000; timeoutMs < 1_500; timeoutMs += 10) sum += mostAhead(this.forecasts, newJob(tag, { timeoutMs }));
    return sum;
  }
}

const admitted = ({ id, timeoutMs }: NewJob): Admitted => ({
  ...{ id, answer: "admitted", state: "queued", createdMs: storeMs, deadlineMs: storeMs + timeoutMs, waiting: 1 },
});
const refused = ({ id }: NewJob, ahead: number): Admitted => ({ id, answer: "refused", ahead, waiting: ahead });

const mostAhead = (forecasts: Forecasts, job: NewJob): number => forecasts.bound(job).mostAhead;

function errorOf(call: () => unknown): SwitchyardError {
  try {
    call();
  } catch (error) {
    assert.ok(error instanceof SwitchyardError, String(error));
    return error;
  }
  return assert.fail("nothing was thrown");
}

test("of a queue of which nothing is known, every job is admitted, whatever is ahead of it", async () => {
  const rig = new Rig();
  assert.equal(mostAhead(rig.forecasts, newJob(tag, { timeoutMs: 1 })), Number.POSITIVE_INFINITY, "its history was not read yet");
  await rig.forecasts.refresh();
  assert.equal(mostAhead(rig.forecasts, newJob(tag, { timeoutMs: 1 })), Number.POSITIVE_INFINITY, "its history is empty");
  assert.equal(rig.forecasts.costMs(tag, { size: 0, items: 1 }), 0);
});

test("a history that cannot be read refuses nobody, and what was known before still stands", async () => {
  const rig = new Rig();
  rig.trouble = new Error("the store does not answer");
  assert.equal(mostAhead(rig.forecasts, newJob(tag)), Number.POSITIVE_INFINITY);
  await assert.rejects(rig.forecasts.refresh(), /does not answer/);
  const known = await Rig.known();
  const before = known.bound();
  known.trouble = rig.trouble;
  known.nowMs += 1_000;
  await assert.rejects(known.forecasts.refresh(), /does not answer/);
  assert.equal(known.bound(), before);
});

test("a size class of which nothing is known is not judged by another", async () => {
  const rig = await Rig.known();
  assert.equal(mostAhead(rig.forecasts, newJob(tag, { timeoutMs: 1, size: 9 })), Number.POSITIVE_INFINITY);
});

test("what no run has confirmed lately refuses nobody", async () => {
  const rig = await Rig.known();
  rig.storeNowMs += staleAfterMs + 1;
  assert.equal(mostAhead(rig.forecasts, newJob(tag, { timeoutMs: 1 })), 1, "one batch of the only host");
});

test("once run times are known, a job may have as many ahead as its deadline allows", async () => {
  const rig = await Rig.known();
  const most = (timeoutMs: number): number => mostAhead(rig.forecasts, newJob(tag, { timeoutMs }));
  assert.ok(most(1_000) >= 6 && most(1_000) <= 8, `${most(1_000)}`);
  assert.ok(most(10_000) > 80, `${most(10_000)}`);
  rig.hosts = 2;
  rig.nowMs += 1_000;
  assert.ok(most(1_000) >= 12, `${most(1_000)}: with two hosts twice as many`);
  assert.equal(rig.forecasts.costMs(tag, { size: 0, items: 1 }), runTakesMs);
});

test("runs are light where a full batch takes 2 ms at most on every kind of host, and only once that is known", async () => {
  const taking = (runMs: number): Partial<DeviceRuns> => {
    const runs = Array.from({ length: 25 }, () => ({ items: 1, runMs, atMs: storeMs }));
    return { windows: new Map([[0, [{ bucket: 1, runs }]]]) };
  };
  assert.equal(new Rig().forecasts.isLight(tag, 0), false);
  assert.equal((await Rig.known(taking(2.1))).forecasts.isLight(tag, 0), false);
  const rig = await Rig.known(taking(1.9));
  assert.equal(rig.forecasts.isLight(tag, 0), true);
  assert.equal(rig.forecasts.isLight(tag, 9), false, "another size class");
  rig.devices.push({ device: "other", count: 1 });
  rig.nowMs += 1_000;
  assert.equal(rig.forecasts.isLight(tag, 0), false, "of the other kind nothing is known");
});

test("a job whose own run takes too long is told when it could be done, and when to try again", async () => {
  const rig = await Rig.known();
  const { code, facts, message } = errorOf(() => mostAhead(rig.forecasts, newJob(tag, { timeoutMs: 90 })));
  assert.equal(code, "deadline_unattainable");
  const { estimatedMs = 0, retryAfterMs = 0 } = facts;
  assert.ok(estimatedMs >= runTakesMs && estimatedMs < runTakesMs + 20, `${estimatedMs}`);
  assert.ok(retryAfterMs >= estimatedMs - 90 && retryAfterMs <= estimatedMs, `${retryAfterMs}`);
  assert.ok(message.includes(`${estimatedMs} ms`) && message.includes("90 ms, of which 9 are kept"), message);
});

test("a job that the store refuses is told by how much is ahead of it", async () => {
  const rig = await Rig.known();
  const told = (ahead: number) => errorOf(() => rig.forecasts.answered(newJob(tag, { timeoutMs: 500 }), refused(newJob(tag), ahead)));
  const [few, many] = [told(5), told(50)];
  assert.deepEqual([few.code, many.code], ["deadline_unattainable", "deadline_unattainable"]);
  assert.equal((many.facts.estimatedMs ?? 0) - (few.facts.estimatedMs ?? 0), 45 * runTakesMs);
  assert.ok((few.facts.estimatedMs ?? 0) >= 6 * runTakesMs);
  assert.equal((many.facts.retryAfterMs ?? 0) - (few.facts.retryAfterMs ?? 0), 45 * runTakesMs);
  assert.ok((told(0).facts.retryAfterMs ?? 0) >= 1, "never at once");
});

test("a refusal stands for a moment, for jobs of the same flow that have no more time", async () => {
  const rig = await Rig.known();
  const isRefused = (ahead: number, timeoutMs = 1_000): void => {
    const job = newJob(tag, { timeoutMs });
    assert.throws(() => rig.forecasts.answered({ ...job, ...rig.forecasts.bound(job) }, refused(job, ahead)));
  };
  const ask = (wishes: Partial<NewJob> = {}, of = tag): number => mostAhead(rig.forecasts, newJob(of, { timeoutMs: 1_000, ...wishes }));
  isRefused(20);
  const first = errorOf(() => ask());
  assert.equal(first.code, "deadline_unattainable");
  assert.ok((first.facts.estimatedMs ?? 0) > 20 * runTakesMs);
  assert.equal(errorOf(() => ask({ timeoutMs: 800 })).code, "deadline_unattainable");
  assert.ok(ask({ tenant: "other" }) > 0);
  assert.ok(ask({ class: "interactive" }) > 0);
  assert.ok(ask({ timeoutMs: 5_000 }) > 20, "it may have more ahead than there was");
  assert.equal(ask({}, otherTag), Number.POSITIVE_INFINITY);
  rig.nowMs += 9;
  assert.equal(errorOf(() => ask()).code, "deadline_unattainable");
  rig.nowMs += 2;
  assert.ok(ask() > 0);
  isRefused(1_000);
  assert.ok(ask({ timeoutMs: 5_000 }) > 0, "over so long a time others may be expected to send less");
  assert.ok(ask({ timeoutMs: 400 }) >= 0, "or over so short a one");
});

test("a full queue says so, and when to come back", async () => {
  const rig = await Rig.known();
  const job = newJob(tag);
  const { code, facts, message } = errorOf(() => rig.forecasts.answered(job, { id: job.id, answer: "full", waiting: 3 }));
  assert.deepEqual([code, facts.retryAfterMs], ["queue_full", 1_000]);
  assert.match(message, /^3 jobs wait for digits/);
});

test("a queue is bounded by jobs, and by the bytes of jobs as they usually are", () => {
  const rig = new Rig({ jobs: 500, bytes: 10 * 1024 ** 2 });
  assert.equal(rig.forecasts.mostWaiting(tag), 500, "nothing is known of its jobs");
  rig.admit(newJob(tag, { inputs: [new Uint8Array(1024), new Uint8Array(1024 ** 2 - 1024)] }));
  assert.equal(rig.forecasts.mostWaiting(tag), 10);
  assert.equal(rig.forecasts.mostWaiting(otherTag), 500);
  for (let at = 0; at < 200; at++) rig.admit(newJob(tag, { inputs: [new Uint8Array(1024)] }));
  assert.equal(rig.forecasts.mostWaiting(tag), 500, "the usual job has changed");
});

test("values that go to the blob store count for no more than what stays, and one job always may wait", () => {
  const rig = new Rig({ bytes: 2 * blobThresholdBytes });
  rig.admit(newJob(tag, { inputs: [new Uint8Array(4 * blobThresholdBytes)] }));
  assert.equal(rig.forecasts.mostWaiting(tag), 2);
  const tight = new Rig({ bytes: 1 });
  tight.admit(newJob(tag, { inputs: [new Uint8Array(100)] }));
  assert.equal(tight.forecasts.mostWaiting(tag), 1);
});

test("a queue that shares its hosts expects less of them, until nobody has confirmed that for a while", async () => {
  const alone = await Rig.known();
  const time = { atMs: storeMs, runs: 10, ownMs: 1_000, othersMs: 3_000, idleMs: 0, idleRuns: 0, sharers: 4, host: 1 };
  const shared = await Rig.known({ times: [time] });
  assert.deepEqual([alone.forecasts.waitMs(tag, 8), shared.forecasts.waitMs(tag, 8)], [800, 3_200]);
  assert.ok(shared.bound() < alone.bound() / 3, `${shared.bound()} and ${alone.bound()}`);
  const [estimate] = await shared.forecasts.estimates(tag);
  assert.equal(estimate?.sharing.share, 0.25);
  shared.storeNowMs += staleAfterMs + 1;
  assert.equal(shared.forecasts.waitMs(tag, 8), 800);
});

test("while a job of its queue is open, another expects the rest of its run first", async () => {
  const rig = await Rig.known();
  const free = rig.bound();
  rig.admit();
  const busy = rig.bound();
  assert.ok(busy < free, `${busy} < ${free}: at once, though a view stands for a moment`);
  rig.admit();
  rig.end();
  assert.equal(rig.bound(), busy, "one of two has ended");
  rig.end();
  assert.equal(rig.bound(), free);
});

test("jobs that were there before, refused or ended elsewhere open nothing", async () => {
  const rig = await Rig.known();
  const free = rig.bound();
  const job = newJob(tag);
  const existing: Admitted = { id: job.id, answer: "existing", state: "running", createdMs: 1, deadlineMs: 2, waiting: 1 };
  assert.deepEqual(rig.forecasts.answered(job, existing), existing);
  assert.throws(() => rig.forecasts.answered(job, refused(job, 9)));
  rig.nowMs += 100;
  assert.equal(rig.bound(), free);
  for (let at = 0; at < 3; at++) rig.end();
  rig.admit();
  assert.ok(rig.bound() < free, "ends of other jobs are not saved up");
  rig.end(tag, false);
  assert.ok(rig.bound() < free, "another coordinator counts that one");
});

test("a queue without open jobs is free again, though the notices of its jobs were lost", async () => {
  const rig = await Rig.known();
  const free = rig.bound();
  for (let at = 0; at < 3; at++) rig.admit();
  rig.forecasts.idle(tag);
  assert.equal(rig.bound(), free);
  rig.admit();
  rig.end();
  assert.equal(rig.bound(), free);
});

test("jobs that come together are judged by one view of the hosts, later ones by a new one", async () => {
  const rig = await Rig.known();
  const one = rig.bound();
  rig.hosts = 4;
  rig.nowMs += 19;
  assert.equal(rig.bound(), one);
  rig.nowMs += 2;
  assert.ok(rig.bound() > one);
});

test("what hosts tell counts from the next reading on", async () => {
  const rig = await Rig.known();
  const before = rig.bound();
  const slow = Array.from({ length: 25 }, () => ({ items: 1, runMs: 2 * runTakesMs, atMs: storeMs }));
  rig.history.set(tag, new Map([["cpu", runsOf({ windows: new Map([[0, [{ bucket: 1, runs: slow }]]]) })]]));
  assert.equal(rig.bound(), before);
  await rig.forecasts.refresh();
  assert.ok(rig.bound() < before);
});

test("a model that no host holds must be loaded first, and a job without that time is refused", async () => {
  const rig = await Rig.known({ loadMs: 2_000 });
  const ask = (timeoutMs: number): number => mostAhead(rig.forecasts, newJob(tag, { timeoutMs }));
  const warm = ask(4_000);
  assert.ok(ask(1_000) > 0, "a host holds it");
  rig.isWarm = false;
  rig.nowMs += 100;
  assert.ok(Math.abs(warm - ask(4_000) - 2_000 / runTakesMs) <= 1, "2 s less to work with");
  assert.equal(ask(1_000), Number.POSITIVE_INFINITY, "the first asks for the load, or nobody would ever have the model loaded");
  const { code, facts } = errorOf(() => ask(1_000));
  assert.equal(code, "deadline_unattainable");
  assert.ok((facts.estimatedMs ?? 0) >= 2_000 + runTakesMs, `${facts.estimatedMs}`);
  rig.nowMs += 1_900;
  assert.throws(() => ask(1_000), "the load may still go on");
  rig.nowMs += 200;
  assert.throws(() => ask(90), "with the model in memory it would be late as well");
  assert.equal(ask(1_000), Number.POSITIVE_INFINITY, "the load did not come about");
});

test("what lies between callers and the store is expected of every job", async () => {
  const rig = await Rig.known();
  const before = rig.bound();
  for (let at = 0; at < 20; at++) rig.forecasts.networkTook("", 250, 50);
  rig.nowMs += 100;
  assert.ok(rig.forecasts.networkMs() >= 200);
  assert.ok(rig.bound() < before);
  const clocks = await Rig.known();
  for (const [hereMs, inStoreMs] of [
    [10, 500],
    [5, 5],
  ] as const)
    clocks.forecasts.networkTook("", hereMs, inStoreMs);
  assert.equal(clocks.forecasts.networkMs(), 0, "clocks that disagree neither lend time nor cost any");
});

const withTime = (timeoutMs: number, more: Partial<NewJob> = {}): NewJob => newJob(tag, { timeoutMs, ...more });

/** Jobs have come a while ago that took so long beside their life in the store. */
async function afterLongWay(wayMs: number): Promise<Rig> {
  const rig = await Rig.known();
  for (let at = 0; at < 200; at++) rig.forecasts.networkTook("", 100 + wayMs, 100);
  return rig;
}

test("one job in a while is let through that only a long way makes late, and a few of them show that it has become shorter", async () => {
  const rig = await afterLongWay(500);
  const { forecasts } = rig;
  const peakMs = forecasts.networkMs();
  assert.throws(() => mostAhead(forecasts, withTime(1)), /would be done in/, "whose run takes longer shows nothing of the way");
  assert.ok(mostAhead(forecasts, withTime(400)) >= 0);
  rig.nowMs += 30;
  assert.throws(() => mostAhead(forecasts, withTime(400)), /would be done in/, "one at a time");
  rig.nowMs += 60_000;
  assert.equal(forecasts.networkMs(), peakMs, "neither silence nor an answer that does not come says anything");
  let probes = 0;
  for (; probes < 100 && forecasts.networkMs() > 40; probes++) {
    rig.nowMs += 10_000;
    const job = withTime(400);
    assert.ok(mostAhead(forecasts, job) >= 0);
    forecasts.networkTook(job.id, 102, 100);
  }
  assert.ok(probes > 1 && probes <= 10, `${probes} jobs`);
});

test("a way that is as long as before is promised as before, however many have been let through to see", async () => {
  const rig = await afterLongWay(500);
  for (let probes = 0; probes < 30; probes++) {
    rig.nowMs += 10_000;
    const job = withTime(400);
    assert.ok(mostAhead(rig.forecasts, job) >= 0);
    rig.forecasts.networkTook(job.id, 600, 100);
    assert.ok(Math.abs(rig.forecasts.networkMs() - 500) < 5, `${rig.forecasts.networkMs()}`);
  }
});

test("a job that was let through is heard although others were after it, and lost ones are forgotten", async () => {
  const rig = await afterLongWay(500);
  const probe = (): NewJob => {
    rig.nowMs += 10_000;
    const job = withTime(400);
    mostAhead(rig.forecasts, job);
    return job;
  };
  const lost = probe();
  for (let at = 0; at < 100; at++) probe();
  rig.forecasts.networkTook(lost.id, 102, 100);
  const beforeMs = rig.forecasts.networkMs();
  assert.ok(beforeMs > 450, `${beforeMs}`);
  const first = probe();
  probe();
  rig.forecasts.networkTook(first.id, 102, 100);
  assert.ok(rig.forecasts.networkMs() < 0.7 * beforeMs, `${rig.forecasts.networkMs()}`);
});

test("only the job that was let through halves what is promised, and one quick answer of many does not", async () => {
  const rig = await afterLongWay(500);
  assert.ok(mostAhead(rig.forecasts, withTime(400)) >= 0);
  rig.forecasts.networkTook(withTime(400).id, 102, 100);
  assert.ok(rig.forecasts.networkMs() > 450, `${rig.forecasts.networkMs()}`);
});

test("jobs that are let through take a twentieth of a host at most, and leave other queues theirs", async () => {
  const rig = await afterLongWay(60_000);
  let through = 0;
  for (const endMs = rig.nowMs + 60_000; rig.nowMs < endMs; rig.nowMs += 50) {
    try {
      mostAhead(rig.forecasts, withTime(1_000));
      through++;
    } catch {}
  }
  assert.ok(through > 1 && through * runTakesMs <= 0.06 * 60_000, `${through} of ${runTakesMs} ms`);
  rig.history.set(otherTag, new Map([["cpu", runsOf()]]));
  rig.forecasts.mostWaiting(otherTag);
  await rig.forecasts.refresh();
  rig.nowMs += 1_000_000;
  assert.ok(mostAhead(rig.forecasts, withTime(1_000)) >= 0);
  rig.nowMs += 101;
  assert.ok(mostAhead(rig.forecasts, newJob(otherTag, { timeoutMs: 1_000 })) >= 0);
});

test("the way is nothing to jobs whose callers do not wait, with much time as with little", async () => {
  const { forecasts } = await afterLongWay(500);
  const ahead = [400, 600, 700, 5_000].map((timeoutMs) => mostAhead(forecasts, withTime(timeoutMs, { callerWaits: false })));
  const without = (await Rig.known()).forecasts;
  without.networkTook("", 100, 100);
  assert.deepEqual(
    ahead,
    [400, 600, 700, 5_000].map((timeoutMs) => mostAhead(without, withTime(timeoutMs))),
  );
});

test("a first guess of the way keeps no job out for good", async () => {
  const { forecasts } = await Rig.known();
  const timeoutMs = 116; // 104 after the margin: enough for the run and the 2 beside it
  const first = withTime(timeoutMs);
  assert.ok(mostAhead(forecasts, first) >= 0);
  assert.throws(() => mostAhead(forecasts, withTime(timeoutMs)), /would be done in/);
  forecasts.networkTook(first.id, 100, 100);
  assert.equal(forecasts.networkMs(), 0);
});

test("a job whose time was spent before it came is refused, although nothing is known of its queue, and told why", async () => {
  const rig = new Rig();
  const spent = { ...newJob(tag, { timeoutMs: 1 }), spentMs: 49 };
  const { code, facts, message } = errorOf(() => mostAhead(rig.forecasts, spent));
  assert.deepEqual([code, facts.retryAfterMs], ["deadline_unattainable", 49]);
  assert.match(message, /has 1 ms of 50, because this coordinator is behind, of which 1 are kept/);
  assert.equal(
    mostAhead(rig.forecasts, newJob(tag, { timeoutMs: 1 })),
    Number.POSITIVE_INFINITY,
    "what the caller wished is another matter",
  );
});

/** Whether a caller who waits is refused before a job is made. */
function isRefusedFirst({ forecasts }: Pick<Rig, "forecasts">, timeoutMs: number, { size = 0, spentMs = 1 } = {}): boolean {
  try {
    forecasts.requireTime(tag, { items: 1, size, timeoutMs, spentMs });
    return false;
  } catch (error) {
    assert.ok(error instanceof SwitchyardError && error.code === "deadline_unattainable", String(error));
    return true;
  }
}

test("where the coordinator is behind, what could not be in time is refused before a job is made, in the same words", async () => {
  const runs = (runMs: number) =>
    runsOf()
      .windows.get(0)![0]!
      .runs.map((run) => ({ ...run, runMs }));
  const windows = new Map([100, 400].map((runMs, size) => [size, [{ bucket: 1, runs: runs(runMs) }]]));
  const rig = await Rig.known({ windows });
  for (const timeoutMs of [4, 110, 113]) {
    const bound = errorOf(() => mostAhead(rig.forecasts, { ...newJob(tag, { timeoutMs }), spentMs: 7 }));
    const first = errorOf(() => rig.forecasts.requireTime(tag, { items: 1, size: 0, timeoutMs, spentMs: 7 }));
    assert.deepEqual([first.code, first.message, first.facts], [bound.code, bound.message, bound.facts]);
  }
  assert.deepEqual([isRefusedFirst(rig, 114), isRefusedFirst(rig, 400)], [false, false]);
  assert.deepEqual([isRefusedFirst(rig, 400, { size: 1 }), isRefusedFirst(rig, 500, { size: 1 })], [true, false], "402 of 360 and of 450");
  assert.equal(isRefusedFirst(rig, 10, { size: 2 }), false, "nothing is known of its run");
  rig.storeNowMs += staleAfterMs + 1;
  rig.nowMs += 1_000;
  assert.deepEqual([isRefusedFirst(rig, 110), isRefusedFirst(rig, 5)], [false, true], "its run would tell how things are");
});

test("nor are those refused first that may find out: of a load that nobody asked for, or of the way to the store", async () => {
  const rig = await Rig.known({ loadMs: 5_000 });
  rig.isWarm = false;
  assert.equal(isRefusedFirst(rig, 1_000), false);
  assert.equal(isRefusedFirst(rig, 5), true);

  const { forecasts } = await afterLongWay(500);
  assert.equal(isRefusedFirst({ forecasts }, 400), false);
  assert.equal(isRefusedFirst({ forecasts }, 50), true, "whose run takes longer shows nothing of the way");
  assert.ok(mostAhead(forecasts, withTime(400)) >= 0);
  assert.equal(isRefusedFirst({ forecasts }, 400), true, "one has been let through");
});

test("a job now and then is enough to learn of a long way to the store", async () => {
  const rig = await Rig.known();
  for (let at = 0; at < 20; at++) {
    rig.nowMs += 1_500;
    rig.forecasts.networkTook("", 300, 100);
  }
  assert.ok(rig.forecasts.networkMs() >= 150, `${rig.forecasts.networkMs()}`);
});

test("queues that nobody asked for lately are read no more, unless their jobs are open", async () => {
  const rig = await Rig.known();
  const other = newJob(otherTag);
  rig.admit(other);
  rig.nowMs += 60_001;
  await rig.forecasts.refresh();
  assert.deepEqual(rig.reads.at(-1), [otherTag]);
  rig.end(otherTag);
  await rig.forecasts.refresh();
  assert.deepEqual(rig.reads.at(-1), []);
});

test("all that is known of a queue is shown, by device and size class", async () => {
  const rig = new Rig();
  const run = { items: 1, runMs: 7, atMs: storeMs };
  const windows = new Map([
    [9, [{ bucket: 1, runs: [run, run] }]],
    [0, [{ bucket: 1, runs: [run] }]],
  ]);
  rig.history.set(
    tag,
    new Map([
      ["cpu", runsOf({ windows, loadMs: 40 })],
      ["new", runsOf({ device: "new", windows: new Map(), warmUp: [[1, 3]], overheadMs: undefined })],
      ["silent", runsOf({ device: "silent", windows: new Map(), warmUp: [] })],
    ]),
  );
  const shown = await rig.forecasts.estimates(tag);
  assert.deepEqual(
    shown.map(({ device, size, samples, source, loadMs, overheadMs }) => [device, size, samples, source, loadMs, overheadMs]),
    [
      ["cpu", 0, 1, "fit", 40, 2],
      ["cpu", 9, 2, "fit", 40, 2],
      ["new", 0, 0, "warm_up", undefined, undefined],
    ],
  );
  assert.deepEqual(shown[0]?.ladder, [[1, 7]]);
  assert.deepEqual(await rig.forecasts.estimates(otherTag), []);
});

test("a queue is known by the jobs of its tag alone", () => {
  const rig = new Rig();
  rig.admit(newJob(tag, { id: newJobId(tag), inputs: [new Uint8Array(10)] }));
  rig.end(queueTag("digits", "unknown"));
  rig.forecasts.idle("unknown");
  assert.equal(rig.forecasts.mostWaiting(otherTag), 1_000_000);
});

test("when work would be done counts its own jobs, those before it and a load, and is unknown without a history", async () => {
  const rig = await Rig.known();
  const doneInMs = (jobs = 1): number | undefined => rig.forecasts.doneInMs(tag, { size: 0, items: 1, jobs });
  const besideMs = 2 + rig.forecasts.networkMs();
  assert.equal(doneInMs(), runTakesMs + besideMs);
  assert.equal(doneInMs(10), 10 * runTakesMs + besideMs);
  rig.admit();
  rig.admit();
  assert.equal(doneInMs(), 3 * runTakesMs + besideMs);
  assert.equal(rig.forecasts.doneInMs(otherTag, { size: 0, items: 1, jobs: 1 }), undefined);
  const cold = await Rig.known({ loadMs: 4_000 });
  cold.isWarm = false;
  assert.equal(cold.forecasts.doneInMs(tag, { size: 0, items: 1, jobs: 1 }), 4_000 + runTakesMs + besideMs);
});
