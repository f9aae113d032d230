/** Two coordinators on a real Redis, and clients of the Model Context Protocol at both: changes, jobs and cursors cross, and outlast the store. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Client } from "@modelcontextprotocol/client";
import { frameParts, joinParts, type Tensor } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import { Redis } from "ioredis";
import { prometheusMetrics } from "../../coordinator/src/adapters/prometheus-metrics.ts";
import { RedisConnection } from "../../coordinator/src/adapters/redis-connection.ts";
import { RedisSharedSecret } from "../../coordinator/src/adapters/redis-shared-secret.ts";
import { type Caller, localCaller } from "../../coordinator/src/application/caller.ts";
import { Forecasts } from "../../coordinator/src/application/forecasts.ts";
import { Jobs } from "../../coordinator/src/application/jobs.ts";
import { Loops } from "../../coordinator/src/application/loop.ts";
import { Waiters } from "../../coordinator/src/application/waiters.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { resourceUris } from "../../coordinator/src/doors/mcp/resource-uris.ts";
import type { ModelStatus } from "../../coordinator/src/ports/model-registry.ts";
import { fakeModels } from "../support/fake-job-service.ts";
import { TestHost } from "../support/job-rig.ts";
import { type McpFace, mcpFace } from "../support/mcp-resources.ts";
import { fakeDoorParts, tinyScores } from "../support/open-door.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { RedisRigs } from "../support/redis-rig.ts";
import { until } from "../support/until.ts";

const anna: Caller = { ...localCaller, tenant: "anna", keyId: "anna-1" };
const berta: Caller = { ...localCaller, tenant: "berta", keyId: "berta-1" };
const image: Tensor = { name: "image", datatype: "FP32", shape: [1, 4], bytes: new Uint8Array(16) };
const request = { parameters: {}, inputs: [image], binaryDefault: false };
const signature = {
  inputs: [{ name: "image", datatype: "FP32" as const, shape: [-1, 4] }],
  outputs: [{ name: "scores", datatype: "FP32" as const, shape: [-1, 3] }],
};
const names = ["tiny", ...Array.from({ length: 120 }, (_, at) => `model-${at}`)];
const models = fakeModels(names.map((model) => ({ model, version: 1, signature })));
const { tag } = models.resolve("tiny").version;
const log = { info() {}, warn() {}, error() {} };

let redis: TestRedis;
let rigs: RedisRigs;
let one: Coordinator;
let two: Coordinator;

before(async () => {
  redis = await startTestRedis();
  rigs = await RedisRigs.open(redis.url);
  one = await startCoordinator("one");
  two = await startCoordinator("two");
});

after(async () => {
  await one?.stop();
  await two?.stop();
  await rigs?.close();
  await redis?.stop();
});

interface Coordinator {
  face: McpFace;
  jobs: Jobs;
  stop(): Promise<void>;
}

/** What concerns jobs and changes of one, with the test as its hosts. */
async function startCoordinator(name: string): Promise<Coordinator> {
  const connection = new RedisConnection(redis.url, name, systemClock);
  await connection.open();
  const store = await rigs.coordinator(name);
  const waiters = new Waiters(store, systemClock);
  connection.onHealth((answering) => {
    if (!answering) waiters.storeAway();
  });
  const hosts = { list: () => [], matching: () => 1, devices: () => [], isWarm: () => true };
  const history = { read: async () => new Map() };
  const forecasts = new Forecasts({ history, hosts, models, store, clock: systemClock, mostQueueJobs: 1_000, mostQueueBytes: 1e9 });
  const metrics = prometheusMetrics({ version: "1.2.3", processMetrics: false });
  const shared = { store, hosts, models, waiters, forecasts, metrics, onAdmitting() {}, onAdmitted() {} };
  const jobs = new Jobs({ ...shared, clock: systemClock, resultTtlMs: 60_000, expectedHosts: 0 });
  await store.onNotice((notice) => waiters.onNotice(notice));
  const loops = new Loops(systemClock, log);
  loops.start({ name: "waiters", everyMs: 50, call: () => waiters.tick() });
  const { parts } = fakeDoorParts({}, { models, jobs, secret: new RedisSharedSecret(connection, systemClock) });
  const face = mcpFace(parts);
  return {
    face,
    jobs,
    async stop() {
      await face.close();
      await loops.stop();
      await connection.close();
    },
  };
}

/** What a client is told, as it comes. */
function notesOf(client: Client): string[] {
  const heard: string[] = [];
  client.setNotificationHandler("notifications/resources/updated", ({ params }) => void heard.push(params.uri));
  for (const list of ["tools", "prompts", "resources"] as const) {
    client.setNotificationHandler(`notifications/${list}/list_changed`, () => void heard.push(list));
  }
  return heard;
}

test("what has come is told by every coordinator, once, in both revisions", async () => {
  const modern = await two.face.modern(anna);
  const heard = notesOf(modern);
  await modern.listen({ toolsListChanged: true, promptsListChanged: true });
  const session = await two.face.legacy(berta);
  const heardInSession = notesOf(session);
  const here = await one.face.legacy(anna);
  const heardHere = notesOf(here);
  (models.list() as ModelStatus[]).push(...fakeModels([{ model: "newcomer", version: 1, signature }]).list());
  await until("all have heard", async () => heard.length > 0 && heardInSession.length > 1 && heardHere.length > 1);
  await systemClock.sleep(2_500); // in which it would be told again
  assert.deepEqual(heard, ["tools"]);
  assert.deepEqual(heardInSession.sort(), ["resources", "tools"]);
  assert.deepEqual(heardHere.sort(), ["resources", "tools"]);
  await Promise.all([modern, session, here].map((client) => client.close()));
});

test("a job that one coordinator took is followed at the other, by its owner alone", async () => {
  const { record } = await one.jobs.submit({ model: "tiny", request, hold: false, timeoutMs: 60_000 }, anna);
  const uris = [resourceUris.job(record.id), resourceUris.output(record.id)];
  const client = await two.face.modern(anna);
  const heard = notesOf(client);
  const stream = await client.listen({ resourceSubscriptions: uris });
  assert.deepEqual(stream.honoredFilter.resourceSubscriptions, uris);
  const other = await two.face.modern(berta);
  const heardByOther = notesOf(other);
  const nothing = await other.listen({ resourceSubscriptions: uris, promptsListChanged: true });
  assert.deepEqual(nothing.honoredFilter, { promptsListChanged: true });
  await assert.rejects(other.readResource({ uri: uris[0]! }), { code: -32602, data: { uri: uris[0] } });

  const host = new TestHost(rigs.side, tag, "host-1");
  const ticket = await until("a ticket", async () => rigs.offers.of(tag)[0]);
  await host.take(ticket);
  const batch = await host.batch(ticket);
  await until("the start is told", async () => heard.length > 0);
  assert.deepEqual(heard, [uris[0]]);
  const outputs = joinParts(frameParts(tinyScores()));
  await host.commit(
    ticket,
    batch.map(({ id, fence }) => ({ id, fence, outcome: "succeeded", outputs })),
  );
  await until("the end is told", async () => heard.length >= 3);
  assert.deepEqual(heard.slice(1).sort(), [...uris].sort());
  const { contents } = await client.readResource({ uri: uris[1]! });
  const answer = JSON.parse("text" in contents[0]! ? contents[0].text : "") as { outputs: { data: number[] }[] };
  assert.deepEqual(answer.outputs[0]?.data, [0.25, 0.5, 0.125]);
  assert.deepEqual(heardByOther, []);
  const listed = await other.listResources();
  assert.ok(listed.resources.every(({ uri }) => !uris.includes(uri)));
  await client.close();
  await other.close();
});

test("a cursor that one coordinator gave is good at the other, with a secret that is written once", async () => {
  const first = await one.face.ask(listRequest(), anna);
  const { result } = (await first.json()) as { result: { resources: unknown[]; nextCursor: string } };
  const client = new Redis(redis.url);
  const secret = await client.get(keys.sharedSecret);
  const second = await two.face.ask(listRequest(result.nextCursor), anna);
  const next = (await second.json()) as { result: { resources: { uri: string }[] } };
  assert.ok(next.result.resources.some(({ uri }) => uri === resourceUris.model("tiny")));
  const foreign = (await (await two.face.ask(listRequest(result.nextCursor), berta)).json()) as { error: { code: number } };
  assert.equal(foreign.error.code, -32602);
  assert.equal(await client.get(keys.sharedSecret), secret);
  assert.ok(secret && secret.length >= 32);
  client.disconnect();
});

function listRequest(cursor?: string) {
  const meta = { "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} };
  return { jsonrpc: "2.0", id: 1, method: "resources/list", params: { _meta: meta, ...(cursor !== undefined && { cursor }) } };
}

test("a Redis that dies is told within seconds, and once it is back jobs are followed on", async () => {
  const { record } = await one.jobs.submit({ model: "tiny", request, hold: false, timeoutMs: 60_000 }, anna);
  const uri = resourceUris.job(record.id);
  const client = await two.face.modern(anna);
  const heard = notesOf(client);
  await client.listen({ toolsListChanged: true, resourceSubscriptions: [uri] });
  await redis.kill();
  const startedMs = performance.now();
  await assert.rejects(client.readResource({ uri }), { code: -32603 });
  await assert.rejects(client.listen({ resourceSubscriptions: [uri] }), { code: -32603 });
  assert.ok(performance.now() - startedMs < 15_000);
  await redis.restart();
  await until("the store answers", async () =>
    client.readResource({ uri }).then(
      () => true,
      () => false,
    ),
  );
  heard.length = 0;
  // each coordinator has a connection of its own, which comes back in its own time
  await until("the other coordinator's store answers", async () =>
    one.jobs.cancel(record.id, anna).then(
      () => true,
      () => false,
    ),
  );
  await until("the job's end is told", async () => heard.includes(uri));
  await client.close();
});

test("a Redis that is frozen hangs nothing, and what follows is heard when it goes on", async () => {
  const { record } = await one.jobs.submit({ model: "tiny", request, hold: false, timeoutMs: 60_000 }, anna);
  const uri = resourceUris.job(record.id);
  const client = await two.face.modern(anna);
  const heard = notesOf(client);
  await client.listen({ toolsListChanged: true, resourceSubscriptions: [uri] });
  redis.pause();
  try {
    const startedMs = performance.now();
    await assert.rejects(client.readResource({ uri }), { code: -32603 });
    await assert.rejects(client.listResources(), { code: -32603 });
    assert.ok(performance.now() - startedMs < 20_000);
    assert.equal((await client.listPrompts()).prompts.length, 3);
  } finally {
    redis.resume();
  }
  await until("the store answers", async () =>
    client.readResource({ uri }).then(
      () => true,
      () => false,
    ),
  );
  // each coordinator has a connection of its own, which comes back in its own time
  await until("the other coordinator's store answers", async () =>
    one.jobs.cancel(record.id, anna).then(
      () => true,
      () => false,
    ),
  );
  await until("the job's end is told", async () => heard.includes(uri));
  await client.close();
});
