/** Dead letters over HTTP, through the SDK and on the command line, with real processes: a model whose file is away uses its jobs' attempts up. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cp, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { DeadLetterView, JobView } from "@switchyard/protocol";
import { digestOfSecret } from "@switchyard/protocol/api-keys";
import { newJobId, tagOf } from "@switchyard/protocol/redis";
import { ClientError, Switchyard } from "switchyard";
import { type Answer, type Ask, call, floats } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, layersModel, type Repository, rowsOf } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const main = fileURLToPath(new URL("../../client-sdk/src/cli/main.ts", import.meta.url));
/** More than a worker loads before it registers: the others are loaded when the first job comes. */
const modelCount = 12;
const inputs = [floats("x", [1, 32], rowsOf(1)[0]!)];

let folder: string;
let models: Repository;
/** The host's own copy of the repository: what is taken away there the coordinator's scans do not miss. */
let hostModels: string;
let cluster: Processes;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "switchyard-dead-letters-"));
  const keyFile = path.join(folder, "keys.yaml");
  const entry = (id: string, tenant: string, scopes: string): string =>
    `- id: ${id}\n  sha256: ${digestOfSecret(id)}\n  tenant: ${tenant}\n  weight: 1\n  scopes: ${scopes}\n`;
  await writeFile(
    keyFile,
    entry("ours", "we", "[submit, read, operate]") +
      entry("plain", "we", "[submit, read]") +
      entry("theirs", "they", "[submit, read, operate]"),
  );
  models = await emptyRepository();
  for (let at = 0; at < modelCount; at++) await models.add(`cold-${at}`, layersModel(at + 1));
  hostModels = path.join(folder, "models");
  await cp(models.folder, hostModels, { recursive: true });
  cluster = await startProcesses({ models: models.folder, workers: 0, env: { SWITCHYARD_API_KEYS: keyFile }, apiKey: "ours" });
  await cluster.addWorker({ SWITCHYARD_MODELS: hostModels, SWITCHYARD_LABELS: "site=here" });
});

after(async () => {
  await cluster?.stop();
  await models?.remove();
  await rm(folder, { recursive: true, force: true });
});

function ask(at: string, how: Ask & { key?: string } = {}): Promise<Answer> {
  const { key = "ours", ...rest } = how;
  return call(cluster.url + at, { ...rest, headers: { authorization: `Bearer ${key}`, ...rest.headers } });
}

async function submit(model: string, more: object = {}): Promise<string> {
  const answer = await ask("/v1/jobs", { body: { model, inputs, ...more } });
  assert.equal(answer.status, 202, answer.bytes.toString());
  return answer.json().id;
}

async function ended(id: string): Promise<JobView> {
  return until(
    `job ${id} to end`,
    async () => {
      const view = (await ask(`/v1/jobs/${id}?wait=10`)).json() as JobView;
      return view.finished_at !== undefined && view;
    },
    { withinMs: 60_000, show: () => cluster.log() },
  );
}

/** What is submitted while the model's file is away fails, in one attempt; afterwards the model is loaded. */
async function failing(model: string, jobs: readonly object[]): Promise<string[]> {
  const there = path.join(hostModels, model, "1", "model.onnx");
  await rename(there, `${there}.away`);
  try {
    // in one request: the next beat tells that the model does not load, and then no more are taken
    const lines = jobs.map((more) => JSON.stringify({ model, inputs, max_attempts: 1, ...more }));
    const headers = { "content-type": "application/x-ndjson" };
    const { bytes } = await ask("/v1/jobs:batch", { body: Buffer.from(lines.join("\n")), headers });
    const answers = bytes.toString().trim().split("\n");
    assert.deepEqual(
      answers.map((line) => JSON.parse(line).status),
      jobs.map(() => 202),
      bytes.toString(),
    );
    const ids = answers.map((line) => JSON.parse(line).job.id as string);
    for (const id of ids) assert.equal((await ended(id)).state, "failed");
    return ids;
  } finally {
    await rename(`${there}.away`, there);
    // hosts tell with their beats that they could not load it, and that they could
    const isReady = async () => (await ask(`/v1/models/${model}`)).json().items[0].state === "ready";
    const loaded = async (): Promise<boolean> => {
      const tried = await ask("/v1/jobs", { body: { model, inputs, max_attempts: 10 } });
      return tried.status === 202 && (await ended(tried.json().id)).state === "succeeded" && (await isReady());
    };
    await until(`${model} to be loaded`, loaded, { withinMs: 60_000, everyMs: 200, show: () => cluster.log() });
  }
}

async function listed(query: string, key?: string): Promise<DeadLetterView[]> {
  const answer = await ask(`/v1/dead-letters${query}`, key ? { key } : {});
  assert.equal(answer.status, 200, answer.bytes.toString());
  return answer.json().items;
}

function command(args: readonly string[]): Promise<{ code: number | null; out: string; err: string }> {
  const env = { ...process.env, SWITCHYARD_URL: cluster.url, SWITCHYARD_API_KEY: "ours" };
  const child = spawn(process.execPath, [main, ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
  let [out, err] = ["", ""];
  child.stdout.on("data", (text: Buffer) => (out += text));
  child.stderr.on("data", (text: Buffer) => (err += text));
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, out, err })));
}

// each has a model of its own
describe("dead letters", { concurrency: 6 }, () => {
  test("a job whose attempts are used up is retried as a new job, once, and leaves the list", async () => {
    const require = { labels: { site: "here" } };
    const [id] = (await failing("cold-8", [{ tags: { team: "a" }, class: "batch", timeout_ms: 50_000, id: "mine", require }])) as [string];
    assert.notEqual(tagOf(id), tagOf(await submit("cold-8")), "jobs that require something have a queue of their own");
    const [letter] = await listed("?model=cold-8&code=model_not_ready");
    assert.deepEqual([letter?.id, letter?.hosts_died, letter?.inputs_kept, letter?.error?.code], [id, 0, true, "model_not_ready"]);
    const retried = await ask(`/v1/jobs/${id}/retry`, { method: "POST" });
    assert.equal(retried.status, 202, retried.bytes.toString());
    const view = retried.json() as JobView;
    assert.equal(retried.headers.location, `/v1/jobs/${view.id}`);
    assert.notEqual(view.id, id);
    assert.equal(tagOf(view.id), tagOf(id), "and so does the new one");
    assert.deepEqual([view.retry_of, view.tags, view.class, view.version], [id, { team: "a" }, "batch", 1]);
    const givenMs = Date.parse(view.deadline) - Date.parse(view.created_at);
    assert.ok(
      givenMs > 40_000 && givenMs <= 50_000,
      `${givenMs} ms: what passed before the first was taken counts, and its class would give it a day`,
    );
    const again = await ask(`/v1/jobs/${id}/retry`, { method: "POST", body: {} });
    assert.deepEqual([again.status, again.json().id, again.headers["idempotent-replayed"]], [202, view.id, "true"]);
    assert.deepEqual(await listed("?model=cold-8"), []);
    assert.equal((await ended(view.id)).state, "succeeded");
    assert.deepEqual((await ask(`/v1/jobs/${view.id}/result`)).json().id, "mine", "what its caller had said of it is said again");
    assert.equal(((await ask(`/v1/jobs/${id}`)).json() as JobView).state, "failed", "the first stays as it ended");
  });

  test("many retries at once of one dead letter are one new job", async () => {
    const [id] = (await failing("cold-9", [{}])) as [string];
    const answers = await Promise.all(Array.from({ length: 12 }, () => ask(`/v1/jobs/${id}/retry`, { method: "POST" })));
    assert.deepEqual(
      answers.map(({ status }) => status),
      answers.map(() => 202),
    );
    assert.equal(new Set(answers.map((answer) => answer.json().id)).size, 1);
  });

  test("what cannot be retried is refused with the reason", async () => {
    const succeeded = await submit("cold-0");
    await ended(succeeded);
    const cancelled = await submit("cold-0", { timeout_ms: 60_000, class: "batch" });
    await ask(`/v1/jobs/${cancelled}`, { method: "DELETE" });
    const state = (await ended(cancelled)).state;
    const waiting = await submit("cold-0", { require: { labels: { site: "nowhere" } }, wait_for_host: true, timeout_ms: 300_000 });
    const cases: [string, number, string, RegExp][] = [
      [succeeded, 409, "job_already_ended", /has succeeded/],
      [waiting, 409, "job_not_finished", /queued/],
      [newJobId(tagOf(succeeded)), 404, "job_not_found", /no job/],
      ["nonsense", 404, "job_not_found", /no job/],
    ];
    if (state === "cancelled") cases.push([cancelled, 410, "inputs_expired", /only dead letters keep theirs/]);
    for (const [id, status, code, detail] of cases) {
      const answer = await ask(`/v1/jobs/${id}/retry`, { method: "POST" });
      const problem = answer.json();
      assert.deepEqual([answer.status, problem.code], [status, code], id);
      assert.match(problem.detail, detail);
    }
    await ask(`/v1/jobs/${waiting}`, { method: "DELETE" });
    const get = await ask(`/v1/jobs/${succeeded}/retry`);
    assert.deepEqual([get.status, get.headers.allow], [405, "POST, OPTIONS"]);
  });

  test("other tenants neither see nor touch them, and bulk asks for the scope operate", async () => {
    const [id] = (await failing("cold-10", [{}])) as [string];
    assert.deepEqual(await listed("?model=cold-10", "theirs"), []);
    for (const [at, method] of [
      [`/v1/jobs/${id}/retry`, "POST"],
      [`/v1/dead-letters/${id}`, "DELETE"],
    ] as const) {
      assert.equal((await ask(at, { method, key: "theirs" })).status, 404);
    }
    const bulk = await ask("/v1/dead-letters:requeue?model=cold-10", { method: "POST", key: "theirs" });
    assert.deepEqual([bulk.status, bulk.json().requeued], [200, 0]);
    assert.equal((await ask("/v1/dead-letters:requeue", { method: "POST", key: "plain" })).status, 403);
    assert.deepEqual(
      (await listed("?model=cold-10", "plain")).map((letter) => letter.id),
      [id],
    );
    const discarded = await ask(`/v1/dead-letters/${id}`, { method: "DELETE", key: "plain" });
    assert.deepEqual([discarded.status, discarded.json().inputs_kept], [200, false]);
    assert.deepEqual([(await ask(`/v1/dead-letters/${id}`, { method: "DELETE" })).status, await listed("?model=cold-10")], [404, []]);
    assert.equal((await ask(`/v1/jobs/${id}/retry`, { method: "POST" })).json().code, "inputs_expired");
  });

  test("filters that cannot be understood are refused by name", async () => {
    for (const [query, pointer] of [
      ["?code=nonsense", "code"],
      ["?state=failed", "state"],
      ["?limit=0", "limit"],
      ["?limit=201", "limit"],
      ["?cursor=zz", "cursor"],
      ["?model=a/b", "model"],
      ["?code=poison&code=poison", "code"],
    ] as const) {
      for (const [at, method] of [
        ["/v1/dead-letters", "GET"],
        ["/v1/dead-letters:requeue", "POST"],
      ] as const) {
        const answer = await ask(at + query, { method });
        const problem = answer.json();
        assert.deepEqual([answer.status, problem.code, problem.errors[0].pointer], [400, "invalid_request", pointer], at + query);
      }
    }
    assert.equal((await ask("/v1/dead-letters?model=none-such")).json().code, "model_not_found");
  });

  test("they are submitted again page by page, by the SDK and by the command line", async () => {
    await failing("cold-11", [{}, {}, {}, {}, {}]);
    const ids = (await listed("?model=cold-11")).map(({ id }) => id).reverse();
    assert.equal(ids.length, 5);
    const client = new Switchyard({ url: cluster.url, apiKey: "ours" });
    const first = await client.deadLetters.requeue({ model: "cold-11", limit: 2 });
    assert.deepEqual(
      [first.requeued, first.refused, first.items.map(({ id }) => id)],
      [2, 0, ids.slice(3).reverse()],
      "the newest come first",
    );
    assert.equal((await client.job(first.items[0]!.retried_as!).status()).retry_of, ids[4]);
    const gone = await command(["discard", ids[0]!]);
    assert.deepEqual([gone.code, gone.out], [0, `discarded ${ids[0]}\n`], gone.err);
    assert.equal((await command(["discard", ids[0]!])).code, 4);
    await assert.rejects(client.deadLetters.discard(ids[0]!), (error) => error instanceof ClientError && error.code === "not_found");

    const table = await command(["jobs", "--dead", "--model", "cold-11"]);
    assert.deepEqual([table.code, table.err], [0, ""]);
    assert.match(table.out, /^ID +MODEL +ENDED +HOSTS DIED +ERROR +INPUTS\n/);
    assert.match(table.out, new RegExp(`${ids[1]} +cold-11@1 +\\S+ +0 +model_not_ready +kept`));
    const json = await command(["jobs", "--dead", "--model", "cold-11", "--json"]);
    assert.deepEqual(
      json.out
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line).id),
      [ids[2], ids[1]],
    );
    const dry = await command(["retry", "--dead", "--model", "cold-11", "--dry-run"]);
    assert.deepEqual([dry.code, dry.out, dry.err], [0, `${ids[2]}\n${ids[1]}\n`, "2 would be submitted again\n"]);
    const one = await command(["retry", ids[2]!]);
    assert.equal(one.code, 0, one.err);
    assert.equal((await client.job(one.out.trim()).status()).retry_of, ids[2]);
    const rest = await command(["retry", "--dead", "--model", "cold-11", "--code", "model_not_ready", "--json"]);
    assert.deepEqual([rest.code, JSON.parse(rest.out).id], [0, ids[1]]);
    assert.deepEqual(
      (await client.deadLetters.list({ model: "cold-11" })).items.filter(({ id }) => ids.includes(id)),
      [],
    );
    const usage = [["retry"], ["retry", ids[1]!, "--dead"], ["retry", ids[1]!, "--model", "a"], ["jobs", "--code", "poison"]];
    for (const args of usage) assert.equal((await command(args)).code, 2, args.join(" "));
    assert.deepEqual([(await command(["retry", newJobId("nothinghere")])).code, (await command(["retry", ids[0]!])).code], [4, 4]);
  });
});

test("what is refused stays a dead letter, and says why", async () => {
  const there = path.join(hostModels, "cold-9", "1", "model.onnx");
  await rename(there, `${there}.away`);
  const worker = cluster.workers[0]!;
  await worker.stop(); // it holds the model
  await worker.respawn();
  const id = await submit("cold-9", { max_attempts: 1 });
  assert.equal((await ended(id)).state, "failed");
  await until("the model to be told as failed", async () => (await ask("/v1/models/cold-9")).json().items[0].state === "failed");
  const answer = (await ask("/v1/dead-letters:requeue?model=cold-9", { method: "POST" })).json();
  assert.deepEqual([answer.requeued, answer.refused, answer.items[0].id, answer.items[0].error.code], [0, 1, id, "model_failed"]);
  const told = await command(["retry", "--dead", "--model", "cold-9"]);
  assert.deepEqual([told.code, told.out], [1, ""]);
  assert.match(told.err, new RegExp(`${id} was refused: .*\\[model_failed\\]\n0 submitted again, 1 refused\n$`));
  assert.deepEqual(
    (await listed("?model=cold-9")).map((letter) => [letter.id, letter.inputs_kept]),
    [[id, true]],
  );
});
