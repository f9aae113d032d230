/** Valkey in the place of Redis, alone and as a cluster: a coordinator and a worker do on it what they do on Redis. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { readConfig } from "../../coordinator/src/config.ts";
import { storeFindings } from "../../coordinator/src/embedded/store-check.ts";
import { call, floats, jobView } from "../support/calls.ts";
import { startProcesses } from "../support/processes.ts";
import { RedisFarm, startRedisCluster } from "../support/redis-forms.ts";
import { findValkey } from "../support/valkey.ts";

const valkey = await findValkey();
const skip = typeof valkey === "string" && valkey;
if (skip) console.error(`Valkey is not tested: ${skip}`);
const inputs = [floats("image", [1, 64], new Float32Array(64))];

/** Inferences, a job, an idempotency key, a cancellation, a list, and what doctor says. */
async function smoke(t: TestContext, store: string): Promise<void> {
  await using cluster = await startProcesses({ env: { SWITCHYARD_REDIS_URL: store } });
  const { url } = cluster;
  const answers = await Promise.all(Array.from({ length: 50 }, () => call(`${url}/v2/models/digits/infer`, { body: { inputs } })));
  for (const answer of answers) assert.equal(answer.status, 200, `${answer.bytes}\n${cluster.log()}`);
  const submit = () => call(`${url}/v1/jobs`, { body: { model: "digits", inputs }, headers: { "idempotency-key": "once" } });
  const [first, second] = [await submit(), await submit()];
  const { id } = first.json();
  assert.equal(second.json().id, id);
  assert.equal((await jobView(url, id, 10)).state, "succeeded");
  assert.equal((await call(`${url}/v1/jobs/${id}/result`)).status, 200);
  cluster.workers[0]!.signal("SIGSTOP");
  const waiting = (await call(`${url}/v1/jobs`, { body: { model: "digits", inputs } })).json().id;
  assert.equal((await call(`${url}/v1/jobs/${waiting}`, { method: "DELETE" })).status, 200);
  cluster.workers[0]!.signal("SIGCONT");
  assert.equal((await jobView(url, waiting)).state, "cancelled");
  const listed = (await call(`${url}/v1/jobs`)).json().items.map((item: { id: string }) => item.id);
  assert.deepEqual(listed.slice(0, 2), [waiting, id]);
  const findings = await storeFindings(readConfig({ argv: [], env: { SWITCHYARD_REDIS_URL: store } }), undefined);
  assert.deepEqual(
    findings.filter(({ state, subject }) => state !== "ok" && subject !== "replicas"),
    [],
  );
  assert.match(findings.find(({ subject }) => subject === "version")!.found, /Valkey \d+\.\d+\.\d+/);
  t.diagnostic(findings.find(({ subject }) => subject === "version")!.found);
}

test("one valkey-server serves a coordinator and a worker", { skip }, async (t) => {
  await using farm = await RedisFarm.open(valkey as Exclude<typeof valkey, string>);
  const server = await farm.start("valkey", (port) => [`port ${port}`]);
  await smoke(t, `redis://127.0.0.1:${server.port}`);
});

test("a cluster of three valkey-servers serves a coordinator and a worker", { skip }, async (t) => {
  await using farm = await RedisFarm.open(valkey as Exclude<typeof valkey, string>);
  await smoke(t, (await startRedisCluster(farm)).url);
});
