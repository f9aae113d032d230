/** Two tenants on one cluster of real processes: each sees its own jobs and nothing of the other's, while keys come, go and break. */

import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { JobView, TenantView } from "@switchyard/protocol";
import { digestOfSecret } from "@switchyard/protocol/api-keys";
import { GraphBuilder } from "@switchyard/protocol/onnx";
import { keys as redisKeys } from "@switchyard/protocol/redis";
import { Redis } from "ioredis";
import { ClientError, Switchyard } from "switchyard";
import { type Answer, type Ask, binaryInference, binaryOutputs, call, floats } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, type Repository } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

interface Entry {
  id: string;
  tenant: string;
  weight?: number;
  scopes: string;
  more?: string;
}

/** Secrets are ids here. */
const entries: Entry[] = [
  { id: "red", tenant: "red", weight: 2, scopes: "[submit, read]" },
  { id: "red-narrow", tenant: "red", weight: 2, scopes: "[submit, read]", more: "  models: [twice]\n" },
  { id: "red-expired", tenant: "red", weight: 2, scopes: "[submit, read]", more: "  expires: 2001-01-01\n" },
  { id: "blue", tenant: "blue", scopes: "[submit, read]" },
  { id: "ops", tenant: "ops", scopes: "[submit, read, operate, admin]" },
];

function yamlOf(list: readonly Entry[]): string {
  return list
    .map(
      ({ id, tenant, weight = 1, scopes, more = "" }) =>
        `- id: ${id}\n  sha256: ${digestOfSecret(id)}\n  tenant: ${tenant}\n  weight: ${weight}\n  scopes: ${scopes}\n${more}`,
    )
    .join("");
}

/** In one step: a coordinator must not meet half a file. */
async function replaceKeys(text: string): Promise<void> {
  await writeFile(`${keyFile}.part`, text);
  await rename(`${keyFile}.part`, keyFile);
}

const largeShape = [3072, 1024];
let folder: string;
let elsewhere: string;
let keyFile: string;
let models: Repository;
let cluster: Processes;
let redis: Redis;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "switchyard-tenants-"));
  elsewhere = await mkdtemp(path.join(tmpdir(), "switchyard-elsewhere-"));
  keyFile = path.join(folder, "keys.yaml");
  await writeFile(keyFile, yamlOf(entries));
  models = await emptyRepository();
  for (const [name, shape] of [
    ["twice", ["batch", 3]],
    ["large", largeShape],
  ] as const) {
    const graph = new GraphBuilder({ name });
    graph.input("x", "FP32", [...shape]);
    graph.output("y", "FP32", [...shape]);
    graph.node("Mul", ["x", graph.weight("two", [1], new Float32Array([2]))], {}, "y");
    await models.add(name, graph);
  }
  const env = { SWITCHYARD_DATA: folder, SWITCHYARD_API_KEYS: keyFile };
  cluster = await startProcesses({ models: models.folder, coordinators: 2, env, apiKey: "ops" });
  redis = new Redis(cluster.redis.url);
});
after(async () => {
  redis?.disconnect();
  await cluster?.stop();
  await models?.remove();
  for (const one of [folder, elsewhere]) if (one) await rm(one, { recursive: true, force: true });
});

function ask(key: string, what: string, more: Ask = {}, which = 0): Promise<Answer> {
  return call(`${cluster.urls[which]}${what}`, { ...more, headers: { authorization: `Bearer ${key}`, ...more.headers } });
}

const twice = (value: number) => ({ inputs: [floats("x", [1, 3], [value, value, value])] });

async function submit(key: string, headers: Record<string, string> = {}, body: object = { model: "twice", ...twice(1) }): Promise<JobView> {
  const answer = await ask(key, "/v1/jobs", { body, headers });
  assert.equal(answer.status, 202, answer.bytes.toString());
  return answer.json();
}

async function idsOf(key: string, query = ""): Promise<string[]> {
  const answer = await ask(key, `/v1/jobs${query}`);
  assert.equal(answer.status, 200, answer.bytes.toString());
  return (answer.json().items as JobView[]).map(({ id }) => id);
}

test("a tenant's job is there for its keys, at every coordinator, and for nobody else in any way", async () => {
  const { id } = await submit("red");
  assert.equal((await ask("red", `/v1/jobs/${id}?wait=20`)).json().state, "succeeded", cluster.log());
  assert.deepEqual((await ask("red", `/v1/jobs/${id}/result`, {}, 1)).json().outputs[0].data, [2, 2, 2]);
  assert.equal((await ask("red", `/v1/jobs/${id}/events`)).status, 200);
  for (const which of [0, 1]) {
    for (const path of ["", "?wait=1", "/result", "/result?wait=1", "/events"]) {
      for (const key of ["blue", "ops"]) {
        const answer = await ask(key, `/v1/jobs/${id}${path}`, {}, which);
        assert.deepEqual([answer.status, answer.json().code], [404, "job_not_found"], `${key} ${path}`);
        const unknown = await ask(key, `/v1/jobs/${id.slice(0, -5)}aaaaa${path}`, {}, which);
        assert.equal(answer.json().detail.replace(id, ""), unknown.json().detail.replace(`${id.slice(0, -5)}aaaaa`, ""));
      }
    }
  }
  assert.ok((await idsOf("red")).includes(id));
  for (const key of ["blue", "ops"])
    for (const query of ["", "?model=twice", "?state=succeeded"]) assert.ok(!(await idsOf(key, query)).includes(id));
});

test("operators list other tenants' jobs when they ask for them, and nobody else does", async () => {
  const { id } = await submit("red");
  assert.equal((await ask("red", `/v1/jobs/${id}?wait=20`)).json().state, "succeeded", cluster.log());
  for (const query of ["?tenant=red", "?tenant=*", "?tenant=red&model=twice"]) assert.ok((await idsOf("ops", query)).includes(id), query);
  assert.ok(!(await idsOf("ops", "?tenant=blue")).includes(id));
  assert.ok((await idsOf("red", "?tenant=red")).includes(id), "its own name is no other tenant");
  for (const query of ["?tenant=red", "?tenant=*", "?host=any"]) {
    const refused = await ask("blue", `/v1/jobs${query}`);
    assert.deepEqual([refused.status, refused.json().code, refused.json().missing], [403, "forbidden", ["operate"]], query);
  }
  assert.equal((await ask("ops", "/v1/jobs?tenant=a%20b")).status, 400);
  const { host } = (await ask("ops", "/v1/jobs?tenant=red")).json().items[0];
  assert.ok((await idsOf("ops", `?tenant=*&host=${host}`)).includes(id));
  assert.deepEqual(await idsOf("ops", "?tenant=*&host=nobody"), []);
  const cancelled = await ask("blue", "/v1/jobs:cancel?tenant=red", { method: "POST" });
  assert.deepEqual([cancelled.status, cancelled.json().code], [403, "forbidden"]);
});

test("another tenant cannot cancel a job, not even a waiting one, and its own key can", async () => {
  const worker = cluster.workers[0]!;
  worker.signal("SIGSTOP");
  try {
    const { id } = await submit("red");
    for (const key of ["blue", "ops"]) assert.equal((await ask(key, `/v1/jobs/${id}`, { method: "DELETE" })).status, 404);
    assert.equal((await ask("red", `/v1/jobs/${id}`)).json().state, "queued");
    const { items } = (await ask("ops", "/v1/tenants")).json() as { items: TenantView[] };
    const waiting = items.map((one) => [one.tenant, one.waiting.map(({ model, jobs }) => `${jobs} for ${model}`).join()]);
    assert.deepEqual(Object.fromEntries(waiting), { blue: "", ops: "", red: "1 for twice" });
    assert.equal((await ask("red", `/v1/jobs/${id}`, { method: "DELETE" })).json().state, "cancelled");
  } finally {
    worker.signal("SIGCONT");
  }
});

test("the same idempotency key of two tenants is two jobs", async () => {
  const headers = { "idempotency-key": "order-17" };
  const red = await submit("red", headers);
  const blue = await submit("blue", headers);
  assert.notEqual(red.id, blue.id);
  assert.equal((await submit("red", headers)).id, red.id);
  const held = (key: string, value: number) =>
    ask(key, "/v2/models/twice/infer", { body: twice(value), headers: { "idempotency-key": "held" } });
  assert.deepEqual((await held("red", 2)).json().outputs[0].data, [4, 4, 4]);
  assert.deepEqual((await held("blue", 3)).json().outputs[0].data, [6, 6, 6], "another body under the key is another tenant's business");
  assert.equal((await held("red", 3)).status, 422);
});

test("what is left of an ended job tells another tenant nothing", async () => {
  const { id } = await submit("red");
  await ask("red", `/v1/jobs/${id}?wait=20`);
  const [record] = await redis.keys(`*:job:${id}`);
  await redis.del(record!);
  const own = await ask("red", `/v1/jobs/${id}`);
  assert.deepEqual([own.status, own.json().state], [410, "succeeded"]);
  assert.equal((await ask("blue", `/v1/jobs/${id}`)).status, 404);
});

test("a key for some models submits no other, and sees no job of another", async () => {
  const { id } = await submit("red", {}, { model: "twice", ...twice(1) });
  const body = { model: "large", inputs: [floats("x", [1, 1], [1])] };
  const refused = await ask("red-narrow", "/v1/jobs", { body });
  assert.deepEqual([refused.status, refused.json().code], [403, "forbidden"], refused.bytes.toString());
  assert.equal((await ask("red-narrow", "/v1/jobs", { body: { model: "nothing", inputs: body.inputs } })).status, 403);
  assert.equal((await ask("red-narrow", `/v1/jobs/${id}`)).status, 200);
  const large = Buffer.alloc(4 * 3072 * 1024);
  const json = Buffer.from(
    JSON.stringify({
      model: "large",
      inputs: [{ name: "x", datatype: "FP32", shape: largeShape, parameters: { binary_data_size: large.length } }],
    }),
  );
  const headers = { "content-type": "application/octet-stream", "inference-header-content-length": String(json.length) };
  const other: JobView = (await ask("red", "/v1/jobs", { body: Buffer.concat([json, large]), headers })).json();
  assert.equal((await ask("red", `/v1/jobs/${other.id}`)).status, 200);
  assert.equal((await ask("red-narrow", `/v1/jobs/${other.id}`)).status, 404);
  const seen = await idsOf("red-narrow");
  assert.ok(seen.includes(id) && !seen.includes(other.id));
  assert.equal((await ask("red-narrow", "/v1/jobs?model=large")).status, 403);
});

test("wrong, expired and missing keys are refused on a real coordinator, and probes answer without one", async () => {
  for (const key of ["purple", "red-expired"]) assert.equal((await ask(key, "/v1/jobs")).status, 401, key);
  assert.equal((await call(`${cluster.url}/v2/models/twice`)).status, 401);
  for (const probe of ["/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/openapi.json"]) {
    assert.equal((await call(cluster.url + probe)).status, 200, probe);
  }
  assert.equal((await ask("red", "/v1/hosts")).status, 403);
  const { items } = (await ask("ops", "/v1/tenants")).json();
  assert.deepEqual(
    items.map(({ tenant, weight }: { tenant: string; weight: number }) => [tenant, weight]),
    [
      ["blue", 1],
      ["ops", 1],
      ["red", 2],
    ],
  );
});

test("a host without the coordinators' folder moves large values with what it reads in the store, and API keys do not open them", async () => {
  await cluster.workers[0]!.stop();
  await cluster.addWorker({ SWITCHYARD_DATA: elsewhere, SWITCHYARD_URL: cluster.url });
  const values = new Float32Array(3072 * 1024).map((_, at) => at % 4096);
  const { body, headers } = binaryInference("x", largeShape, values);
  const answer = await ask("red", "/v2/models/large/infer", { body, headers });
  assert.equal(answer.status, 200, `${answer.bytes.subarray(0, 300)}\n${cluster.log()}`);
  const got = new Float32Array(new Uint8Array(binaryOutputs(answer).get("y")!).buffer);
  assert.equal(
    got.findIndex((value, at) => value !== 2 * values[at]!),
    -1,
  );
  assert.deepEqual(await readdir(path.join(elsewhere, "blobs")).catch(() => []), []);

  const stored = (await readdir(path.join(folder, "blobs"), { recursive: true }))
    .map((name) => /[0-9a-f]{64}/.exec(name)?.[0])
    .filter((name) => name !== undefined);
  assert.ok(stored.length > 0);
  for (const key of ["red", "blue", "ops"]) assert.equal((await ask(key, `/v1/blobs/${stored[0]}`)).status, 403, key);
  assert.equal((await call(`${cluster.url}/v1/blobs/${stored[0]}`)).status, 401);
  const token = await redis.get(redisKeys.hostToken);
  assert.match(token ?? "", /^[\w-]{43}$/);
  assert.equal((await ask(token!, `/v1/blobs/${stored[0]}`)).status, 200);
  assert.equal((await ask(token!, "/v1/jobs")).status, 401, "a host's credential is no API key");

  await redis.del(redisKeys.hostToken); // the store lost it: coordinators make another, and the host's next try finds it
  assert.equal((await ask("red", "/v2/models/large/infer", { body, headers })).status, 200, cluster.log());
  assert.notEqual(await redis.get(redisKeys.hostToken), token);
});

test("keys come and go while requests run, and a broken file changes nothing but the log", async () => {
  const urls = cluster.urls;
  let [running, answered] = [true, 0];
  const refused: number[] = [];
  const caller = async (which: number): Promise<void> => {
    while (running) {
      const { status } = await ask("red", "/v2/models/twice/infer", { body: twice(1) }, which);
      answered++;
      if (status !== 200) refused.push(status);
      await sleep(20);
    }
  };
  const callers = [0, 1].map(caller);
  const statusOf = (key: string, which: number) => ask(key, "/v1/models", {}, which).then(({ status }) => status);
  const untilStatus = async (key: string, wanted: number): Promise<void> => {
    for (const which of urls.keys()) await until(`${key} to be answered ${wanted}`, async () => (await statusOf(key, which)) === wanted);
  };
  const kept = (): number => cluster.coordinators.reduce((sum, one) => sum + one.log().split('"api_keys_kept"').length - 1, 0);
  try {
    await replaceKeys(yamlOf([...entries.filter(({ id }) => id !== "blue"), { id: "green", tenant: "green", scopes: "[read]" }]));
    await untilStatus("green", 200);
    await untilStatus("blue", 401);
    await replaceKeys(yamlOf([{ ...entries[0]!, scopes: "[everything]" }]));
    await until("both coordinators to say so", async () => kept() === 2);
    assert.match(cluster.coordinators[0]!.log(), /"api_keys_kept".*keys\.yaml:5: entry 1 \(red\): scopes\[0\]: expected one of submit/);
    await rm(keyFile);
    await until("both coordinators to miss the file", async () => kept() === 4);
    await untilStatus("green", 200);
    await replaceKeys(yamlOf(entries));
    await untilStatus("blue", 200);
    await untilStatus("green", 401);
    assert.equal(kept(), 4, "each trouble is told once");
  } finally {
    running = false;
    await Promise.all(callers);
  }
  assert.ok(answered > 20, `${answered} requests`);
  assert.deepEqual(refused, []);
});

test("the SDK shows its key in all that it asks, streams included", async () => {
  const red = new Switchyard({ url: cluster.url, apiKey: "red" });
  const x = { data: new Float32Array([1, 2, 3]), shape: [1, 3] };
  assert.deepEqual([...((await red.infer("twice", { x })).outputs.y!.data as Float32Array)], [2, 4, 6]);
  const job = await red.submit("twice", { x });
  const seen: string[] = [];
  for await (const { type } of job.events()) seen.push(type);
  assert.equal(seen.at(-1), "succeeded");
  assert.deepEqual([...((await job.result()).outputs.y!.data as Float32Array)], [2, 4, 6]);
  assert.equal((await red.models()).length, 2);
  assert.ok((await red.jobs.list()).items.some(({ id }) => id === job.id));
  await assert.rejects(red.tenants(), (error: ClientError) => error.code === "forbidden" && error.status === 403);
  assert.equal((await new Switchyard({ url: cluster.url, apiKey: "ops" }).tenants()).length, 3);
  await assert.rejects(
    new Switchyard({ url: cluster.url, apiKey: "nobody" }).models(),
    (error: unknown) => error instanceof ClientError && error.code === "unauthenticated",
  );
});

test("a coordinator whose key file has mistakes tells them all and does not start", async () => {
  const broken = path.join(folder, "broken.yaml");
  await writeFile(
    broken,
    yamlOf([
      { ...entries[0]!, weight: -1 },
      { ...entries[1]!, scopes: "[all]" },
    ]),
  );
  await assert.rejects(
    startProcesses({
      models: models.folder,
      workers: 0,
      redis: cluster.redis,
      env: { SWITCHYARD_API_KEYS: broken, SWITCHYARD_DATA: folder },
    }),
    (error: Error) => {
      assert.match(error.message, /SWITCHYARD_API_KEYS: .*broken\.yaml:4: entry 1 \(red\): weight: expected a number from/);
      assert.match(error.message, /SWITCHYARD_API_KEYS: .*broken\.yaml:10: entry 2 \(red-narrow\): scopes\[0\]: expected one of/);
      return true;
    },
  );
  assert.doesNotMatch(await readFile(broken, "utf8"), /swy_/);
});
