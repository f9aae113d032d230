/** Tenants before one response cache: what one has asked, another learns only where the model says that they share. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { frameParts, joinParts, type ModelConfig, type Tensor } from "@switchyard/protocol";
import { type PrometheusMetrics, prometheusMetrics } from "../../coordinator/src/adapters/prometheus-metrics.ts";
import { RedisConnection } from "../../coordinator/src/adapters/redis-connection.ts";
import { RedisResponseCache } from "../../coordinator/src/adapters/redis-response-cache.ts";
import { type Caller, localCaller } from "../../coordinator/src/application/caller.ts";
import { Forecasts } from "../../coordinator/src/application/forecasts.ts";
import type { Settled } from "../../coordinator/src/application/job-service.ts";
import { Jobs } from "../../coordinator/src/application/jobs.ts";
import { cachedHow } from "../../coordinator/src/application/new-record.ts";
import { CachedResponses } from "../../coordinator/src/application/response-cache.ts";
import { Waiters } from "../../coordinator/src/application/waiters.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { fakeModels } from "../support/fake-job-service.ts";
import { TestHost } from "../support/job-rig.ts";
import { tinyScores } from "../support/open-door.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { RedisRigs } from "../support/redis-rig.ts";
import { until } from "../support/until.ts";

let server: TestRedis;
let rigs: RedisRigs;
let connection: RedisConnection;

before(async () => {
  server = await startTestRedis();
  rigs = await RedisRigs.open(server.url);
  connection = new RedisConnection(server.url, "cache", systemClock);
  await connection.open();
});

after(async () => {
  await connection?.close();
  await rigs?.close();
  await server?.stop();
});

const image: Tensor = { name: "image", datatype: "FP32", shape: [1, 4], bytes: new Uint8Array(16) };
const outputs = joinParts(frameParts(tinyScores()));
const callers = { a: { ...localCaller, tenant: "a" }, b: { ...localCaller, tenant: "b" } } satisfies Record<string, Caller>;

interface Served {
  tag: string;
  infer(tenant: keyof typeof callers): Promise<Settled & { outputs: Tensor[] }>;
  /** Runs the next batch. */
  run(): Promise<void>;
  metrics: PrometheusMetrics;
}

/** The job service on Redis, with one model, whose host is the test. */
async function serve(model: string, config: ModelConfig): Promise<Served> {
  const signature = {
    inputs: [{ name: "image", datatype: "FP32" as const, shape: [-1, 4] }],
    outputs: [{ name: "scores", datatype: "FP32" as const, shape: [-1, 3] }],
  };
  const models = fakeModels([{ model, version: 1, signature }]);
  Object.assign(models.list()[0]!.version, { config });
  const { tag } = models.list()[0]!.version;
  const store = await rigs.coordinator(model);
  const waiters = new Waiters(store, systemClock);
  const metrics = prometheusMetrics({ version: "1.2.3", processMetrics: false });
  const hosts = { list: () => [], matching: () => 1, devices: () => [], isWarm: () => true };
  const history = { read: async () => new Map() };
  const forecasts = new Forecasts({ history, hosts, models, store, clock: systemClock, mostQueueJobs: 1_000, mostQueueBytes: 1e9 });
  const cache = new RedisResponseCache({ redis: connection, tickets: rigs.offers, metrics, coordinator: model });
  const shared = { store, hosts, models, waiters, forecasts, metrics, onAdmitting() {}, onAdmitted() {} };
  const cached = new CachedResponses({
    ...shared,
    cache,
    tallies: { hit() {}, joined() {}, missed() {} },
    clock: systemClock,
    log: { info() {}, warn() {}, error() {} },
  });
  const jobs = new Jobs({ ...shared, cached, clock: systemClock, resultTtlMs: 60_000, expectedHosts: 0 });
  await store.onNotice((notice) => {
    waiters.onNotice(notice);
    cached.onNotice(notice);
  });
  const host = new TestHost(rigs.side, tag, "host-1");
  let taken = 0;
  return {
    tag,
    metrics,
    infer: (tenant) =>
      jobs.infer(
        { model, request: { parameters: {}, inputs: [image], binaryDefault: false }, hold: true },
        callers[tenant],
        AbortSignal.timeout(60_000),
      ),
    async run() {
      const ticket = await until("a ticket", async () => rigs.offers.of(tag)[taken]);
      taken++;
      await host.take(ticket);
      const batch = await host.batch(ticket);
      await host.commit(
        ticket,
        batch.map(({ id, fence }) => ({ id, fence, outcome: "succeeded", outputs })),
      );
      await host.claim(ticket, { lingerMs: 0 });
    },
  };
}

async function ran(served: Served, tenant: keyof typeof callers): Promise<void> {
  const answer = served.infer(tenant);
  await served.run();
  assert.equal(cachedHow((await answer).record), undefined);
}

test("a tenant's request is not answered by what another tenant asked", async () => {
  const served = await serve("private", { cache: { ttl_s: 60 } });
  await ran(served, "a");
  await ran(served, "b");
  for (const tenant of ["a", "b"] as const) {
    const { record, outputs: tensors } = await served.infer(tenant);
    assert.deepEqual([cachedHow(record), record.tenant, tensors[0]!.name], ["hit", tenant, "scores"]);
  }
  const text = await served.metrics.text();
  assert.match(text, /switchyard_cache_requests_total\{model="private",result="hit"\} 2/);
  assert.match(text, /switchyard_cache_requests_total\{model="private",result="miss"\} 2/);
  assert.match(text, /switchyard_cache_evicted_total\{model="private"\} 0/);
  assert.match(text, /switchyard_jobs_admitted_total\{model="private",class="standard"\} 4/);
  assert.match(text, /switchyard_jobs_finished_total\{model="private",class="standard",outcome="succeeded"\} 2/, "the door counts hits");
  served.metrics.modelKnown("private");
  served.metrics.modelGone("private");
  assert.doesNotMatch(await served.metrics.text(), /private/);
});

test("tenants share answers where the model says so, each with a job of its own", async () => {
  const served = await serve("public", { cache: { ttl_s: 60, shared: true } });
  await ran(served, "a");
  const { record } = await served.infer("b");
  assert.deepEqual([cachedHow(record), record.tenant], ["hit", "b"]);
});

test("a model without a cache asks nothing of it", async () => {
  const served = await serve("uncached", {});
  await ran(served, "a");
  await ran(served, "a");
  assert.doesNotMatch(await served.metrics.text(), /uncached",result/);
  for (const name of ["cache*", "flight*"]) assert.deepEqual(await rigs.redis.keys(`sy:{${served.tag}}:${name}`), []);
});
