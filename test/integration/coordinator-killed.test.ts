/** One of two coordinators dies while a hundred clients wait at it: they ask the other and each gets its own result, once. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { JobView } from "@switchyard/protocol";
import { call, jobView } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { directRun, distance, emptyRepository, layersModel, type Repository, rowsOf } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const clients = 100;
const timeoutMs = 300_000;
const graph = layersModel(100);
const rows = rowsOf(clients);

let models: Repository;
let cluster: Processes;
let expected: Float32Array[];
before(async () => {
  models = await emptyRepository();
  await models.add("layers", graph, { settings: "max_batch_items: 4\n" });
  expected = await directRun(graph, rows);
  cluster = await startProcesses({ coordinators: 2, workers: 0, models: models.folder });
});
after(async () => {
  await cluster?.stop();
  await models.remove();
});

const bodyOf = (client: number) => ({ inputs: [{ name: "x", datatype: "FP32", shape: [1, 32], data: [...rows[client]!] }] });

function assertOwnResult(answer: { outputs: { data: number[] }[] }, client: number): void {
  const off = distance(answer.outputs[0]!.data, expected[client]!);
  assert.ok(off < 1e-4, `client ${client} got a result that is off by ${off}`);
}

async function keptJobs(url: string): Promise<JobView[]> {
  const page = (await call(`${url}/v1/jobs?model=layers&limit=200`)).json() as { items: JobView[] };
  return page.items;
}

/** The call at the first coordinator, and when that is gone, at the second. */
async function orElse(first: () => ReturnType<typeof call>, second: () => ReturnType<typeof call>) {
  const answer = await first().catch(() => undefined);
  return answer === undefined ? { answer: await second(), repeated: true } : { answer, repeated: false };
}

test("clients that wait at a coordinator which is killed get their results from another, each once", async () => {
  const [one, two] = cluster.urls as [string, string];
  // without a worker: the jobs wait until after the kill
  const submitted = await Promise.all(
    Array.from({ length: clients / 2 }, async (_, client) => {
      const answer = await call(`${one}/v1/jobs`, { body: { model: "layers", timeout_ms: timeoutMs, ...bodyOf(client) } });
      assert.equal(answer.status, 202, answer.bytes.toString());
      return answer.json().id as string;
    }),
  );
  const waiting = submitted.map((id) =>
    orElse(
      () => call(`${one}/v1/jobs/${id}?wait=60`),
      () => call(`${two}/v1/jobs/${id}?wait=60`),
    ),
  );
  const holding = Array.from({ length: clients / 2 }, (_, at) => {
    const client = clients / 2 + at;
    const ask = {
      headers: { "idempotency-key": `client-${client}` },
      body: { ...bodyOf(client), parameters: { timeout: timeoutMs * 1_000 } },
    };
    return orElse(
      () => call(`${one}/v2/models/layers/infer`, ask),
      () => call(`${two}/v2/models/layers/infer`, ask),
    );
  });
  await until("all jobs to be admitted", async () => (await keptJobs(two)).length === clients);
  await cluster.coordinators[0]!.kill();
  await cluster.addWorker();

  const views = await Promise.all(waiting);
  for (const [client, { answer, repeated }] of views.entries()) {
    assert.ok(repeated, "the killed coordinator answered");
    assert.equal(answer.json().state, "succeeded", answer.bytes.toString());
    assertOwnResult((await call(`${two}/v1/jobs/${submitted[client]}/result`)).json(), client);
  }
  for (const [at, { answer, repeated }] of (await Promise.all(holding)).entries()) {
    assert.ok(repeated, "the killed coordinator answered");
    assert.equal(answer.status, 200, answer.bytes.toString());
    assert.equal(answer.headers["idempotent-replayed"], "true");
    assertOwnResult(answer.json(), clients / 2 + at);
  }
  const jobs = await keptJobs(two);
  assert.equal(jobs.length, clients, "a repeated call made a second job");
  for (const { state, attempt, id } of jobs) assert.deepEqual({ id, state, attempt }, { id, state: "succeeded", attempt: 1 });
});

test("a coordinator that comes back answers for the jobs of its former life", async () => {
  await cluster.coordinators[0]!.respawn();
  const [job] = await keptJobs(cluster.urls[1]!);
  assert.equal((await jobView(cluster.urls[0]!, job!.id)).state, "succeeded");
});
