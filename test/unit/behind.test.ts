/** What a coordinator that is behind refuses before it makes a job of it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type ModelConfig, SwitchyardError, type Tensor, type TraceContext } from "@switchyard/protocol";
import { prometheusMetrics } from "../../coordinator/src/adapters/prometheus-metrics.ts";
import { localCaller } from "../../coordinator/src/application/caller.ts";
import { Forecasts } from "../../coordinator/src/application/forecasts.ts";
import { JobJournal } from "../../coordinator/src/application/job-journal.ts";
import type { Submission } from "../../coordinator/src/application/job-service.ts";
import { Jobs } from "../../coordinator/src/application/jobs.ts";
import { Waiters } from "../../coordinator/src/application/waiters.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import type { Tracing } from "../../coordinator/src/ports/tracing.ts";
import { fakeModels } from "../support/fake-job-service.ts";
import { memoryRig } from "../support/memory-rig.ts";

const signature = {
  inputs: [{ name: "image", datatype: "FP32" as const, shape: [-1, 4] }],
  outputs: [{ name: "scores", datatype: "FP32" as const, shape: [-1, 3] }],
};
const image: Tensor = { name: "image", datatype: "FP32", shape: [1, 4], bytes: new Uint8Array(16) };
const waits = { aborted: false, addEventListener() {}, removeEventListener() {} };
/** Most of its time is gone. */
const late: Submission = {
  ...{ model: "tiny", version: 1, hold: true, timeoutMs: 100, spentMs: 95 },
  request: { parameters: {}, inputs: [image], binaryDefault: true },
};

interface More {
  config?: ModelConfig;
  journal?: JobJournal;
  tracing?: Tracing;
}

/** A coordinator over a memory store. `begun`: whether it has begun to admit a job, since that was last asked. */
async function behind({ config = {}, ...more }: More = {}) {
  const { store } = memoryRig();
  const models = fakeModels([{ model: "tiny", version: 1, signature }]);
  Object.assign(models.list()[0]!.version, { config });
  const metrics = prometheusMetrics({ version: "1.2.3", processMetrics: false });
  const hosts = { list: () => [], matching: () => 1 };
  const shared = { models, hosts, metrics, clock: systemClock, store };
  const forecasts = new Forecasts({
    history: { read: async () => new Map() },
    hosts: { matching: () => 1, devices: () => [], isWarm: () => true },
    ...{ models, store, clock: systemClock, mostQueueJobs: 1_000, mostQueueBytes: 1e9 },
  });
  let begun = 0;
  const jobs = new Jobs({
    ...{ ...shared, ...more, forecasts, waiters: new Waiters(store, systemClock), resultTtlMs: 60_000, expectedHosts: 0 },
    onAdmitting: () => void begun++,
    onAdmitted() {},
  });
  const told = async (run: () => Promise<unknown>): Promise<[code: string, begun: number]> => {
    begun = 0;
    try {
      await run();
      return ["none", begun];
    } catch (error) {
      assert.ok(error instanceof SwitchyardError, String(error));
      return [error.code, begun];
    }
  };
  const infer = (submission: Submission) => told(() => jobs.infer(submission, localCaller, waits));
  const submit = (submission: Submission) => told(() => jobs.submit(submission, localCaller));
  const counted = async (): Promise<string[]> =>
    (await metrics.text())
      .split("\n")
      .filter((line) => /^switchyard_(jobs_rejected_total|tenant_jobs_rejected_total|refusal_seconds_count).* [1-9]/.test(line));
  return { counted, infer, submit };
}

const refusedFirst = ["deadline_unattainable", 0];
const refusedAsAJob = ["deadline_unattainable", 1];

test("a held call that has no time left is refused before a job is made of it, and counted", async () => {
  const { counted, infer } = await behind({ config: { class: "interactive" } });
  assert.deepEqual(await infer(late), refusedFirst);
  assert.deepEqual(await infer(late), refusedFirst);
  assert.deepEqual(await counted(), [
    'switchyard_jobs_rejected_total{model="tiny",class="interactive",reason="deadline_unattainable"} 2',
    "switchyard_refusal_seconds_count 2",
    'switchyard_tenant_jobs_rejected_total{tenant="default"} 2',
  ]);
});

test("what is wrong with a request is told although there is no time left", async () => {
  const { infer } = await behind();
  const { request } = late;
  assert.deepEqual(await infer({ ...late, request: { ...request, inputs: [{ ...image, shape: [2, 2] }] } }), ["signature_mismatch", 0]);
  assert.deepEqual(await infer({ ...late, request: { ...request, outputs: [{ name: "none" }] } }), ["signature_mismatch", 0]);
});

test("the time that a model's configuration gives is as good as the client's", async () => {
  const { infer } = await behind({ config: { default_timeout_ms: 100 } });
  const { timeoutMs: _, ...unsaid } = late;
  assert.deepEqual(await infer(unsaid), refusedFirst);
});

test("not so one with a key that stays bound to its job, one that a cache may answer, nor one that nobody holds the line for", async () => {
  const { infer, submit } = await behind();
  assert.deepEqual(await infer({ ...late, idempotency: { key: "one", fingerprint: "" } }), refusedAsAJob);
  assert.deepEqual(await submit({ ...late, hold: false }), refusedAsAJob);
  const cached = await behind({ config: { cache: { ttl_s: 60 } } as ModelConfig });
  assert.deepEqual(await cached.infer(late), refusedAsAJob);
});

test("one that is traced has its span, and one that is logged its line, which say why it was refused", async () => {
  const trace: TraceContext = { traceId: "1".repeat(32), spanId: "1".repeat(16), isSampled: true };
  const spans: unknown[] = [];
  const tracing = {
    newJob: (context: TraceContext) => ({ context, parentSpanId: context.spanId }),
    step: (name: string) => ({ context: trace, add() {}, end: (failed?: { code: string }) => void spans.push([name, failed?.code]) }),
  } as unknown as Tracing;
  const traced = await behind({ tracing });
  assert.deepEqual(await traced.infer({ ...late, trace }), refusedAsAJob);
  assert.deepEqual(spans, [["admit", "deadline_unattainable"]]);
  assert.deepEqual(await traced.infer({ ...late, trace: { ...trace, isSampled: false } }), refusedFirst);

  const lines: string[] = [];
  const logged = await behind({ journal: new JobJournal((event) => void lines.push(event)) });
  assert.deepEqual(await logged.infer(late), refusedAsAJob);
  assert.deepEqual(lines, ["job_refused"]);
});
