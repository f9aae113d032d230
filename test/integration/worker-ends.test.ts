/** How processes end: asked once, asked twice, left alone by their supervisor, in the middle of a run, before they ever had a Redis. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { JobView } from "@switchyard/protocol";
import { Redis } from "ioredis";
import { freePort } from "../../coordinator/src/embedded/redis-server.ts";
import { call, floats, jobView } from "../support/calls.ts";
import { type Processes, startProcesses, type WorkerProcess } from "../support/processes.ts";
import { startTestRedis } from "../support/redis.ts";
import { emptyRepository, type Repository, slowModelOf } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const runMs = 1_500;
const inputs = [floats("x", [1], [1])];
const drainsSoon = { SWITCHYARD_LABELS: "drains=soon", SWITCHYARD_DRAIN_MS: "250" };

interface Child {
  process: ChildProcess;
  said: () => string;
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** What the supervisor's death does. */
  closePipe: () => void;
}

function start(program: "worker" | "coordinator", env: Record<string, string>): Child {
  const child = spawn(process.execPath, [`${program}/src/main.ts`], {
    cwd: root,
    env: { ...process.env, SWITCHYARD_METRICS: "127.0.0.1:0", SWITCHYARD_HTTP: "127.0.0.1:0", ...env, SWITCHYARD_PARENT_PIPE: "3" },
    stdio: ["ignore", "pipe", "pipe", "pipe"],
  });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => (text += chunk));
  child.stdio[3]?.on("error", () => {});
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) =>
    child.once("exit", (code, signal) => resolve({ code, signal })),
  );
  return { process: child, said: () => text, exited, closePipe: () => child.stdio[3]?.destroy() };
}

test("a worker that is asked to end before it has registered does so at once, with or without a Redis", async () => {
  const ends = async (losesRedis: boolean): Promise<void> => {
    const redis = await startTestRedis();
    const worker = start("worker", { SWITCHYARD_REDIS_URL: redis.url, SWITCHYARD_MODELS: "models" });
    // nobody publishes models, so it waits for them: its health server is up by then
    await until("the worker to connect", async () => {
      if (worker.process.exitCode !== null) throw new Error(worker.said());
      const look = new Redis(redis.url);
      const clients = await look.client("LIST");
      look.disconnect();
      return String(clients).includes("switchyard-runner-wake");
    });
    if (losesRedis) await redis.kill();
    const askedMs = performance.now();
    worker.process.kill("SIGTERM");
    assert.deepEqual(await worker.exited, { code: 0, signal: null }, worker.said());
    const tookMs = performance.now() - askedMs;
    assert.ok(tookMs < 8_000, `${tookMs.toFixed(0)} ms, Redis ${losesRedis ? "killed" : "there"}`);
    await redis.stop();
  };
  await Promise.all([false, true].map(ends));
});

// one of them waits, and one has a cluster of its own
describe("how processes end", { concurrency: 2 }, () => {
  let models: Repository;
  before(async () => {
    models = await emptyRepository();
    // jobs go to the host that has little time to drain for as long as it is there
    await models.add("slow", await slowModelOf(runMs), { settings: "prefer: [{ label: drains=soon, weight: 1 }]\n" });
  });
  after(() => models?.remove());

  test("a worker whose Redis does not answer says so, with address and setting but no password, and ends", async () => {
    const nobody = "127.0.0.77"; // where no other test listens, whichever ports they take
    const port = await freePort();
    const worker = start("worker", { SWITCHYARD_REDIS_URL: `redis://:hunter2@${nobody}:${port}` });
    const startMs = performance.now();
    assert.deepEqual(await worker.exited, { code: 1, signal: null });
    assert.ok(performance.now() - startMs < 25_000);
    assert.match(worker.said(), new RegExp(`Redis at redis://${nobody}:${port} \\(SWITCHYARD_REDIS_URL .*cannot be used: .*ECONNREFUSED`));
    assert.doesNotMatch(worker.said(), /hunter2/);
  });

  describe("with a long run in hand", { concurrency: 1 }, () => {
    let cluster: Processes;
    before(async () => {
      cluster = await startProcesses({ models: models.folder, workers: 3, envOf: (name) => (name === "worker-1" ? drainsSoon : {}) });
    });
    after(() => cluster?.stop());

    /** A job that allows a single attempt, running on one of the workers. */
    async function running(): Promise<{ id: string; busy: WorkerProcess }> {
      const body = { model: "slow", inputs, timeout_ms: 60_000, max_attempts: 1 };
      const { id } = (await call(`${cluster.url}/v1/jobs`, { body })).json() as JobView;
      const { host } = await until("the job to run", async () => {
        const view = await jobView(cluster.url, id);
        return view.state === "running" && view;
      });
      return { id, busy: cluster.workers.find(({ name }) => name === host)! };
    }

    /** It ends without a crash, and its job runs elsewhere as if it had not been begun. */
    async function checkGivenUp({ busy, id }: Awaited<ReturnType<typeof running>>, withinMs: number): Promise<void> {
      const askedMs = performance.now();
      assert.deepEqual(await busy.exited, { code: null, signal: "SIGKILL" }, busy.log());
      assert.ok(performance.now() - askedMs < withinMs);
      const goneMs = performance.now();
      await until(
        "the job to run elsewhere",
        async () => {
          const { host, state } = await jobView(cluster.url, id);
          return state === "running" && host !== busy.name;
        },
        { show: cluster.log },
      );
      assert.ok(performance.now() - goneMs < 2_000, "nobody waited for its presence to run out");
      const ended = await jobView(cluster.url, id, 30);
      assert.deepEqual([ended.state, ended.attempt], ["succeeded", 1]);
    }

    test("a worker whose time to drain is over gives its run back at no cost and ends without a crash", async () => {
      const job = await running();
      assert.equal(job.busy.name, "worker-1");
      job.busy.signal("SIGTERM");
      await checkGivenUp(job, 8_000);
    });

    test("a worker that is asked twice gives its run back at no cost and ends without a crash", async () => {
      const job = await running();
      job.busy.signal("SIGTERM");
      await until("the drain to begin", async () => job.busy.log().includes('"draining"'));
      job.busy.signal("SIGTERM");
      await checkGivenUp(job, 8_000);
    });

    test("a worker ends in order when it is asked once: the run is finished first", async () => {
      const { busy, id } = await running();
      assert.equal(await busy.stop(), 0);
      const ended = await jobView(cluster.url, id);
      assert.deepEqual([ended.state, ended.host], ["succeeded", busy.name]);
    });
  });

  test("the supervisor's death during a drain does not cut the drain short, neither of a worker nor of a coordinator", async () => {
    await using redis = Object.assign(await startTestRedis(), { [Symbol.asyncDispose]: () => redis.stop() });
    const env = { SWITCHYARD_REDIS_URL: redis.url, SWITCHYARD_MODELS: models.folder };
    const coordinator = start("coordinator", env);
    const worker = start("worker", { ...env, SWITCHYARD_THREADS: "1" });
    try {
      const url = await until("the coordinator", async () => /"listening".*?"url":"(http:[^"]+)"/.exec(coordinator.said())?.[1]);
      await until("the worker", async () => worker.said().includes('"registered"'));
      const held = call(`${url}/v2/models/slow/infer`, { body: { inputs } });
      const runs = async () => (await call(`${url}/v1/hosts`)).json().items.length === 1;
      await until("the host to be seen", runs);
      const jobs = async (): Promise<JobView[]> => (await call(`${url}/v1/jobs?model=slow`)).json().items;
      // a worker that is asked to end before it has taken the ticket takes none, and only what it has begun is finished for sure
      await until("the worker to run", async () => (await jobs()).some(({ state }) => state === "running"));
      const { id } = (await call(`${url}/v1/jobs`, { body: { model: "slow", inputs } })).json() as JobView;
      assert.ok(id);
      for (const child of [coordinator, worker]) {
        child.process.kill("SIGTERM");
        await until("the drain to begin", async () => child.said().includes('"draining"'));
        child.closePipe();
      }
      assert.equal((await held).status, 200);
      assert.deepEqual(await Promise.all([coordinator.exited, worker.exited]), [
        { code: 0, signal: null },
        { code: 0, signal: null },
      ]);
    } finally {
      for (const child of [coordinator, worker]) child.process.kill("SIGKILL");
    }
  });
});
