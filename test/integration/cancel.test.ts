/** Cancelling: waiting jobs never run, running ones are answered at once and their results dropped, and a client that leaves takes its job along. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { JobView } from "@switchyard/protocol";
import { call, jobView } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, type HeldRuns, heldRuns, type Repository, slowModel } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const inputs = [{ name: "x", datatype: "FP32", shape: [1], data: [1] }];
/** Far less than the wait of a run that is held. */
const atOnceMs = 10_000;

let models: Repository;
let runs: HeldRuns;
let cluster: Processes;
before(async () => {
  models = await emptyRepository();
  await models.add("slow", slowModel(1));
  runs = heldRuns(models);
  cluster = await startProcesses({ models: models.folder, workerEnv: runs.env });
});
after(async () => {
  await cluster?.stop();
  await models?.remove();
});

async function submit(): Promise<JobView> {
  const answer = await call(`${cluster.url}/v1/jobs`, { body: { model: "slow", inputs } });
  assert.equal(answer.status, 202, answer.bytes.toString());
  return answer.json();
}

async function untilState(id: string, state: string): Promise<JobView> {
  return until(
    `job ${id} to be ${state}`,
    async () => {
      const view = await jobView(cluster.url, id);
      return view.state === state && view;
    },
    { show: () => cluster.log() },
  );
}

const cancel = (id: string) => call(`${cluster.url}/v1/jobs/${id}`, { method: "DELETE" });

async function listed(): Promise<JobView[]> {
  return ((await call(`${cluster.url}/v1/jobs?model=slow`)).json() as { items: JobView[] }).items;
}

test("a running job is cancelled at once, whoever waits is told, and its result is dropped", async () => {
  await runs.hold();
  const { id } = await submit();
  await untilState(id, "running");
  const waiting = call(`${cluster.url}/v1/jobs/${id}?wait=30`);
  const answer = await cancel(id);
  assert.equal(answer.status, 200, answer.bytes.toString());
  assert.ok(answer.tookMs < atOnceMs, `${answer.tookMs} ms`);
  assert.equal(answer.json().state, "cancelled");
  const told = await waiting;
  assert.equal(told.json().state, "cancelled");
  await runs.letGo();
  const next = await submit(); // when this one has run, the cancelled one's run is over too
  await untilState(next.id, "succeeded");
  const view = await jobView(cluster.url, id);
  assert.equal(view.state, "cancelled");
  assert.equal(view.error?.code, "cancelled");
  assert.equal((await call(`${cluster.url}/v1/jobs/${id}/result`)).status, 409);
  assert.equal((await cancel(id)).status, 200, "a repeated cancel finds what it wanted");
});

test("a waiting job that is cancelled never runs, and an ended one stays as it ended", async () => {
  await runs.hold();
  const running = await submit();
  await untilState(running.id, "running");
  const waiting = await submit();
  const answer = await cancel(waiting.id);
  assert.equal(answer.json().state, "cancelled");
  await runs.letGo();
  await untilState(running.id, "succeeded");
  const last = await submit();
  await untilState(last.id, "succeeded");
  const view = await jobView(cluster.url, waiting.id);
  assert.deepEqual([view.state, view.attempt, view.started_at], ["cancelled", 0, undefined]);
  const late = await cancel(running.id);
  assert.equal(late.status, 409);
  assert.equal(late.json().code, "job_already_ended");
  assert.equal((await jobView(cluster.url, running.id)).state, "succeeded");
});

test("a client that goes away takes its held job with it, unless it can ask again by a key", async () => {
  await runs.hold();
  const busy = await submit();
  await untilState(busy.id, "running");
  const known = new Set((await listed()).map(({ id }) => id));
  const leave = new AbortController();
  const held = call(`${cluster.url}/v2/models/slow/infer`, { body: { inputs }, signal: leave.signal });
  const key = { "idempotency-key": "comes-back" };
  const keyed = call(`${cluster.url}/v2/models/slow/infer`, { body: { inputs }, headers: key, signal: leave.signal });
  const preferring = call(`${cluster.url}/v1/jobs`, {
    body: { model: "slow", inputs },
    headers: { prefer: "wait=30" },
    signal: leave.signal,
  });
  const mine = async () => (await listed()).filter(({ id }) => !known.has(id));
  await until("the held jobs to be admitted", async () => (await mine()).length === 3);
  leave.abort();
  for (const left of [held, keyed, preferring]) await assert.rejects(left);
  await until("two of them to be cancelled", async () => (await mine()).filter(({ state }) => state === "cancelled").length === 2);
  await runs.letGo();
  const again = await call(`${cluster.url}/v2/models/slow/infer`, { body: { inputs }, headers: key });
  assert.equal(again.status, 200, again.bytes.toString());
  assert.equal(again.headers["idempotent-replayed"], "true");
  assert.deepEqual((await mine()).map(({ state }) => state).sort(), ["cancelled", "cancelled", "succeeded"]);
});
