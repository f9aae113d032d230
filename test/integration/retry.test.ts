/** Attempts: what may work next time is tried again after a pause, what cannot work is not, and each attempt counts once. */

import assert from "node:assert/strict";
import { cp, rename } from "node:fs/promises";
import path from "node:path";
import { after, before, test } from "node:test";
import type { JobLogView, JobView, TimelineView } from "@switchyard/protocol";
import { call, jobView } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, layersModel, type Repository, rowsOf } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const inputs = [{ name: "x", datatype: "FP32", shape: [1, 32], data: [...rowsOf(1)[0]!] }];
/** More than a worker loads before it registers: these are loaded when the first job comes. */
const coldModels = 9;

let models: Repository;
/** Where the worker looks: a file that is missing here is in the coordinator's folder all the time, whenever that is scanned. */
let own: Repository;
let cluster: Processes;
before(async () => {
  models = await emptyRepository();
  for (let at = 0; at < coldModels; at++) await models.add(`cold-${at}`, layersModel(at + 1));
  own = await emptyRepository();
  await cp(models.folder, own.folder, { recursive: true });
  cluster = await startProcesses({ models: models.folder, workerEnv: { SWITCHYARD_MODELS: own.folder } });
});
after(async () => {
  await cluster?.stop();
  await models?.remove();
  await own?.remove();
});

async function submit(body: object): Promise<JobView> {
  const answer = await call(`${cluster.url}/v1/jobs`, { body: { inputs, ...body } });
  assert.equal(answer.status, 202, answer.bytes.toString());
  return answer.json();
}

/** Where the worker finds the file, and where it does not. */
const hideable = (model: string) => {
  const there = path.join(own.folder, model, "1", "model.onnx");
  return { hide: () => rename(there, `${there}.away`), restore: () => rename(`${there}.away`, there) };
};

test("a model that cannot be loaded now is tried again, and succeeds when the cause is gone", async () => {
  const file = hideable("cold-1");
  await file.hide();
  const { id } = await submit({ model: "cold-1", max_attempts: 10, timeout_ms: 60_000 });
  await until("two attempts", async () => (await jobView(cluster.url, id)).attempt >= 2, { show: () => cluster.log() });
  await file.restore();
  const view = await until(
    "the job to succeed",
    async () => {
      const now = await jobView(cluster.url, id, 5);
      return now.state === "succeeded" && now;
    },
    { withinMs: 40_000, show: () => cluster.log() },
  );
  assert.ok(view.attempt >= 3 && view.attempt <= 10, `attempt ${view.attempt}`);
  assert.equal(view.error, undefined);
});

test("when the attempts are used up the job fails with the last reason, after pauses that grow", async () => {
  const file = hideable("cold-2");
  await file.hide();
  const { id, created_at } = await submit({ model: "cold-2", timeout_ms: 60_000 });
  const view = await until(
    "the job to fail",
    async () => {
      const now = await jobView(cluster.url, id, 5);
      return now.state === "failed" && now;
    },
    { withinMs: 30_000, show: () => cluster.log() },
  );
  assert.equal(view.attempt, 3);
  assert.equal(view.error?.code, "model_not_ready");
  assert.equal(view.error?.retryable, true);
  const tookMs = Date.parse(view.finished_at!) - Date.parse(created_at);
  assert.ok(tookMs >= 0.75 * 50 + 0.75 * 100, `two pauses took ${tookMs} ms`); // 50 and 100 ms, less a quarter
  await file.restore();

  const { events } = (await call(`${cluster.url}/v1/jobs/${id}/timeline`)).json() as TimelineView;
  const told = events.map(({ attempt, error, event, host }) => [event, attempt, host, error?.code].filter((word) => word !== undefined));
  assert.deepEqual(told, [
    ["admitted"],
    ["started", 1, "worker-1"],
    ["attempt_failed", 1, "worker-1", "model_not_ready"],
    ["started", 2, "worker-1"],
    ["attempt_failed", 2, "worker-1", "model_not_ready"],
    ["started", 3, "worker-1"],
    ["failed", "model_not_ready"],
  ]);
  const { lines } = (await call(`${cluster.url}/v1/jobs/${id}/log`)).json() as JobLogView;
  const details = lines.filter(({ fields }) => fields.detail === view.error?.detail);
  assert.deepEqual(
    details.map(({ event }) => event),
    ["attempt_ended", "attempt_ended", "job_failed"],
  );
});

test("one attempt is one attempt when the caller asks for that", async () => {
  const file = hideable("cold-3");
  await file.hide();
  const { id } = await submit({ model: "cold-3", max_attempts: 1, timeout_ms: 60_000 });
  const view = await jobView(cluster.url, id, 20);
  assert.deepEqual([view.state, view.attempt, view.error?.code], ["failed", 1, "model_not_ready"]);
  await file.restore();
});
