/** What callers see of admission and batching, with real processes: refusals with an estimate, bounded queues and store, batches that fill. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { EstimatesView, HostView, JobView } from "@switchyard/protocol";
import { Redis } from "ioredis";
import { type Answer, call, floats, jobView } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { startTestRedis } from "../support/redis.ts";
import { emptyRepository, layersModel, type Repository, rowsOf, slowModel, slowRuns } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const scalar = [floats("x", [1], [1])];
const row = [floats("x", [1, 32], rowsOf(1)[0]!)];

const submit = (url: string, model: string, body: object = {}, headers: Record<string, string> = {}): Promise<Answer> =>
  call(`${url}/v1/jobs`, { body: { model, inputs: scalar, ...body }, headers });
const infer = (url: string, model: string, body: object = {}): Promise<Answer> =>
  call(`${url}/v2/models/${model}/infer`, { body: { inputs: scalar, ...body } });

async function estimates(url: string, model: string): Promise<EstimatesView> {
  const answer = await call(`${url}/v1/models/${model}/estimates`);
  assert.equal(answer.status, 200, answer.bytes.toString());
  return answer.json();
}

/** A counter of the first worker, over all its labels. */
async function counted(cluster: Processes, name: string): Promise<number> {
  const { items } = (await call(`${cluster.url}/v1/hosts`)).json() as { items: HostView[] };
  const text = (await call(`http://${items.find(({ state }) => state === "ready")?.metrics}/metrics`)).bytes.toString();
  const lines = [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, "gm"))];
  assert.ok(lines.length > 0, `${name} is not among the metrics`);
  return lines.reduce((sum, [, value]) => sum + Number(value), 0);
}

function assertRefused(answer: Answer, code: string): void {
  assert.equal(answer.status, 503, answer.bytes.toString());
  assert.equal(answer.json().code, code, answer.bytes.toString());
  assert.ok(Number(answer.headers["retry-after"]) >= 1, "without Retry-After");
}

describe("a model of which run times are known", () => {
  let models: Repository;
  let cluster: Processes;
  before(async () => {
    models = await emptyRepository();
    await models.add("slow", slowModel(1));
    cluster = await startProcesses({ models: models.folder, workerEnv: slowRuns(250), redisPersists: false });
  });
  after(async () => {
    await cluster?.stop();
    await models?.remove();
  });

  /** Runs until coordinators have heard what runs take, a moment ago. */
  async function warmRunMs(): Promise<number> {
    const [device] = await until(
      "the estimate of runs of a moment ago",
      async () => {
        const sentMs = Date.now();
        assert.equal((await infer(cluster.url, "slow")).status, 200);
        const { devices } = await estimates(cluster.url, "slow");
        // that call's own run cannot be among them: one of the last second or two must be
        return devices[0] && devices[0].samples >= 5 && Date.parse(devices[0].newest_sample ?? "") > sentMs - 2_000 && devices;
      },
      { show: () => cluster.log() },
    );
    return device!.runs[0]!.ms;
  }

  test("twenty jobs with time for four: some are refused at once with an estimate, the others end in time or expire, none starts late", async (t) => {
    const { url } = cluster;
    const runMs = await warmRunMs();
    const timeoutMs = Math.ceil(4 * runMs + 50);
    const held = Array.from({ length: 8 }, () => infer(url, "slow", { parameters: { timeout: 1_000 * timeoutMs } }));
    const kept = Array.from({ length: 12 }, () => submit(url, "slow", { timeout_ms: timeoutMs }, { prefer: "wait=20" }));
    const [heldAnswers, keptAnswers] = await Promise.all([Promise.all(held), Promise.all(kept)]);

    const refused = [...heldAnswers, ...keptAnswers].filter(({ status }) => status === 503);
    t.diagnostic(`runs of ${runMs.toFixed(0)} ms, ${refused.length} of 20 refused`);
    assert.ok(refused.length >= 10, `${refused.length} of 20 were refused:\n${JSON.stringify(await estimates(url, "slow"))}`);
    for (const answer of keptAnswers.filter(({ status }) => status === 503)) {
      assertRefused(answer, "deadline_unattainable");
      const { estimated_ms: estimatedMs, retry_after_ms: retryAfterMs } = answer.json();
      // counted after the refusal: a run may have ended in between
      assert.ok(estimatedMs > 0.9 * timeoutMs - runMs, `${estimatedMs} of ${timeoutMs} ms`);
      assert.ok(retryAfterMs >= 1 && retryAfterMs <= estimatedMs, `${retryAfterMs}`);
    }
    for (const answer of heldAnswers.filter(({ status }) => status === 503)) {
      assert.ok(Number(answer.headers["retry-after"]) >= 1 && Number(answer.headers.estimated_ms) > 0, JSON.stringify(answer.headers));
    }
    const slowestMs = Math.max(...refused.map(({ tookMs }) => tookMs));
    assert.ok(slowestMs < timeoutMs, `a refusal took ${slowestMs.toFixed(0)} ms, longer than the job had time`);

    const views = keptAnswers.filter(({ status }) => status !== 503).map((answer) => answer.json() as JobView);
    const states = views.map(({ state }) => state);
    for (const { status } of heldAnswers.filter((one) => one.status !== 503)) states.push(status === 200 ? "succeeded" : "expired");
    assert.ok(
      states.every((state) => state === "succeeded" || state === "expired"),
      states.join(", "),
    );
    assert.ok(states.includes("succeeded"), states.join(", "));
    for (const { started_at: started, deadline } of views) {
      if (started !== undefined) assert.ok(Date.parse(started) < Date.parse(deadline), `started at ${started}, deadline ${deadline}`);
    }
    assert.equal(await counted(cluster, "switchyard_runs_late_total"), 0);
  });

  test("a refused job is nowhere to be found, and asking again after the time that was told is answered", async () => {
    const { url } = cluster;
    const runMs = await warmRunMs();
    const before = (await call(`${url}/v1/jobs?model=slow&limit=1`)).json().items[0]?.id;
    const answer = await submit(url, "slow", { timeout_ms: Math.max(1, Math.floor(runMs / 2)) });
    assertRefused(answer, "deadline_unattainable");
    assert.equal((await call(`${url}/v1/jobs?model=slow&limit=1`)).json().items[0]?.id, before);
    const again = await submit(url, "slow", { timeout_ms: answer.json().retry_after_ms + 20 * Math.ceil(runMs) }, { prefer: "wait=20" });
    assert.equal((again.json() as JobView).state, "succeeded", again.bytes.toString());
  });

  test("a class beside one that sends more than its share is told so, though none of the other's jobs waits just now", async () => {
    const { url } = cluster;
    const runMs = await warmRunMs();
    const send = (jobClass: string, runs: number): Promise<Answer> =>
      submit(url, "slow", { class: jobClass, timeout_ms: Math.ceil(runs * runMs) });
    const cancel = (answers: readonly Answer[]): Promise<unknown> =>
      Promise.all(answers.map((answer) => call(`${url}/v1/jobs/${answer.json().id}`, { method: "DELETE" })));
    const backlog: Answer[] = [];
    for (let at = 0; at < 20; at++) backlog.push(await send("batch", 35));
    try {
      const alone = await send("batch", 36);
      assert.equal(alone.status, 202, alone.bytes.toString());
      await cancel([alone]);
      const passing = await Promise.all(Array.from({ length: 40 }, () => send("interactive", 80)));
      assert.ok(
        [...backlog, ...passing].every(({ status }) => status === 202),
        passing.map(({ status }) => status).join(" "),
      );
      await cancel(passing);
      const refused = await send("batch", 36);
      assertRefused(refused, "deadline_unattainable");
      assert.ok(refused.json().estimated_ms > 32 * runMs, refused.bytes.toString());
    } finally {
      await cancel(backlog);
    }
  });

  test("what runs take is known again when coordinator and worker have been replaced", async () => {
    await warmRunMs();
    const [coordinator] = cluster.coordinators;
    const [worker] = cluster.workers;
    const known = async () => {
      const { devices } = await estimates(cluster.url, "slow");
      assert.equal(devices.length, 1);
      // how far the table goes, says a host that holds the model
      const { device, load_ms: loadMs, newest_sample: newest, overhead_ms: overheadMs, runs, samples } = devices[0]!;
      return { device, loadMs, newest, overheadMs, run: runs[0], samples };
    };
    await worker!.stop(); // tells no more, so that the figures stand still
    const before = await known();
    assert.ok(before.samples >= 5 && before.loadMs! > 0 && before.overheadMs! > 0, JSON.stringify(before));
    await coordinator!.kill();
    await coordinator!.respawn();
    assert.deepEqual(await known(), before);
    await worker!.respawn();
    assert.equal((await infer(cluster.url, "slow")).status, 200); // one that had to load the model is no sample
    const { device, run, samples } = await known();
    assert.deepEqual({ device, run, samples }, { device: before.device, run: before.run, samples: before.samples });
  });
});

describe("two models with work on one host", () => {
  let models: Repository;
  let cluster: Processes;
  before(async () => {
    models = await emptyRepository();
    for (const [at, name] of ["one", "two"].entries()) await models.add(name, slowModel(1 + at));
    cluster = await startProcesses({ models: models.folder, workerEnv: slowRuns(25), redisPersists: false });
  });
  after(async () => {
    await cluster?.stop();
    await models?.remove();
  });

  /** Keeps some inferences of each model under way until `isSeen` of their shares of the device. */
  async function sharesWhile(busy: readonly string[], isSeen: (shares: number[]) => boolean): Promise<void> {
    let isOver = false;
    const callers = busy.flatMap((model) =>
      Array.from({ length: 3 }, async () => {
        while (!isOver) assert.equal((await infer(cluster.url, model)).status, 200);
      }),
    );
    const seen = until(
      "the shares of the device",
      async () => isSeen(await Promise.all(busy.map(async (model) => (await estimates(cluster.url, model)).devices[0]?.host_share ?? 0))),
      { show: () => cluster.log() },
    ).finally(() => {
      isOver = true;
    });
    await Promise.all([seen, ...callers]).finally(() => {
      isOver = true;
    });
  }

  test("each is told to get half of it, and all of it again when the other has no more jobs", async () => {
    await sharesWhile(["one", "two"], (shares) => shares.every((share) => share > 0.3 && share < 0.7));
    await sharesWhile(["one"], ([share]) => share === 1);
  });
});

describe("bounds", { concurrency: 2 }, () => {
  test("a queue takes as many jobs as it may, and no more; others have their own bound", async () => {
    await using models = await emptyRepository();
    for (const name of ["one", "two"]) await models.add(name, slowModel(1));
    await using cluster = await startProcesses({ models: models.folder, workers: 0, env: { SWITCHYARD_MAX_QUEUE_JOBS: "3" } });
    const { url } = cluster;
    const answers = await Promise.all(Array.from({ length: 5 }, () => submit(url, "one")));
    const taken = answers.filter(({ status }) => status === 202);
    assert.equal(taken.length, 3);
    for (const answer of answers.filter(({ status }) => status !== 202)) assertRefused(answer, "queue_full");
    const held = await infer(url, "one", { parameters: { timeout: 200_000 } });
    assert.equal(held.status, 503, held.bytes.toString());
    assert.equal((await submit(url, "two")).status, 202);
    const { id } = taken[0]!.json() as JobView;
    assert.equal((await call(`${url}/v1/jobs/${id}`, { method: "DELETE" })).status, 200);
    const again = await submit(url, "one");
    assert.equal(again.status, 202, "there is room again");
    assertRefused(await submit(url, "one"), "queue_full");
    await cluster.addWorker();
    assert.equal((await jobView(url, (again.json() as JobView).id, 20)).state, "succeeded");
    assert.equal((await submit(url, "one")).status, 202);
  });

  test("a store that is nearly full takes no jobs, finishes those that it has, and takes jobs again when there is room", async (t) => {
    const maxMemoryBytes = 64 * 1024 ** 2;
    const redis = await startTestRedis({ maxMemoryBytes });
    await using models = await emptyRepository();
    await models.add("slow", slowModel(1));
    await using cluster = await startProcesses({ models: models.folder, workers: 0, redis });
    t.after(() => redis.stop());
    const { url } = cluster;
    const { id } = (await submit(url, "slow")).json() as JobView;
    const client = new Redis(redis.url);
    t.after(() => client.disconnect());
    const filled = async (): Promise<number> => Number(/^used_memory:(\d+)/m.exec(await client.info("memory"))![1]) / maxMemoryBytes;
    const fillers: string[] = [];
    while ((await filled()) < 0.87) await client.setrange(fillers[fillers.push(`filler-${fillers.length}`) - 1]!, 1_000_000, "x");
    const full = await until("jobs to be refused", async () => {
      const answer = await submit(url, "slow");
      return answer.status !== 202 && answer;
    });
    assertRefused(full, "store_full");
    assert.equal((await infer(url, "slow")).status, 503);
    assert.equal((await call(`${url}/readyz`)).status, 200, "it serves what it has");
    await cluster.addWorker();
    assert.equal((await jobView(url, id, 20)).state, "succeeded");
    assertRefused(await submit(url, "slow"), "store_full");
    await client.del(fillers);
    const taken = await until("jobs to be taken again", async () => {
      const answer = await submit(url, "slow");
      return answer.status === 202 && answer;
    });
    assert.equal((await jobView(url, (taken.json() as JobView).id, 20)).state, "succeeded");
  });
});

describe("models whose jobs wait for company", () => {
  const delayMs = 1_000;
  const items = 4;
  let models: Repository;
  let cluster: Processes;
  before(async () => {
    models = await emptyRepository();
    const wait = (ms: number) => ({ settings: `max_batch_items: ${items}\nmax_delay_ms: ${ms}\n` });
    await models.add("layers", layersModel(5), wait(delayMs));
    await models.add("patient", layersModel(5), wait(10_000));
    cluster = await startProcesses({ models: models.folder });
  });
  after(async () => {
    await cluster?.stop();
    await models?.remove();
  });

  test("a model with max_delay_ms fills its batches, waits no longer than that, and not at all once one is full", async (t) => {
    /** What a busy machine may add; without their bound jobs would wait for as long as they have. */
    const slackMs = 2_500;
    const { url } = cluster;
    const ended = async (submitted: Answer): Promise<JobView> => {
      assert.equal(submitted.status, 202, submitted.bytes.toString());
      const view = await jobView(url, (submitted.json() as JobView).id, 20);
      assert.equal(view.state, "succeeded");
      return view;
    };
    const ask = (): Promise<Answer> => submit(url, "layers", { inputs: row });
    const figures = ({ timings }: JobView): [number, number] => [timings!.batch_items, timings!.queue_ms];

    for (const which of ["first", "second"]) {
      const [alone, aloneMs] = figures(await ended(await ask()));
      t.diagnostic(`the ${which} lone job waited ${aloneMs} ms`);
      assert.equal(alone, 1);
      assert.ok(aloneMs >= delayMs - 5 && aloneMs <= delayMs + slackMs, `the ${which} lone job waited ${aloneMs} ms`);
    }

    // each is sent when the one before it was admitted; what comes too slowly finds the batch of the first gone
    const trickle = await until("jobs to come within half of the delay", async () => {
      const views: JobView[] = [];
      const sent: Answer[] = [];
      for (let at = 0; at < items - 1; at++) sent.push(await ask());
      for (const answer of sent) views.push(await ended(answer));
      const comings = views.map(({ created_at: created }) => Date.parse(created));
      return Math.max(...comings) - Math.min(...comings) <= delayMs / 2 && views;
    });
    const trickled = trickle.map(figures);
    for (const [batch, waitedMs] of trickled) {
      assert.ok(batch >= 2, `a batch of ${batch}`);
      assert.ok(waitedMs <= delayMs + slackMs, `waited ${waitedMs} ms`);
    }

    const burst = await Promise.all(Array.from({ length: items }, ask));
    const full = (await Promise.all(burst.map(ended))).map(figures);
    t.diagnostic(`trickled ${JSON.stringify(trickled)}, together ${JSON.stringify(full)}`);
    for (const [batch, waitedMs] of full) {
      assert.equal(batch, items);
      assert.ok(waitedMs < delayMs, `a full batch waited ${waitedMs} ms`);
    }
  });

  test("a job with little time does not wait for company as long as others, and takes along what waits", async (t) => {
    const { url } = cluster;
    const patient = (await submit(url, "patient", { inputs: row, timeout_ms: 3_600_000 })).json() as JobView;
    const hurried = await submit(url, "patient", { inputs: row, class: "interactive", timeout_ms: 8_000 }, { prefer: "wait=20" });
    const { state, timings } = hurried.json() as JobView;
    assert.equal(state, "succeeded", hurried.bytes.toString());
    t.diagnostic(`waited ${timings!.queue_ms} ms`);
    assert.ok(timings!.queue_ms <= 800 + 2_500, `waited ${timings!.queue_ms} ms, far more than a tenth of its 8 s`);
    const view = await jobView(url, patient.id, 20);
    assert.deepEqual([view.state, view.timings?.batch_items], ["succeeded", 2]);
  });
});
