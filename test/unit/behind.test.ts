/** What a coordinator that is behind refuses before it makes anything of a job. */

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
import { fakeModels } from "../support/fake-job-service.ts";
import { memoryRig } from "../support/memory-rig.ts";

const signature = {
  inputs: [{ name: "image", datatype: "FP32" as const, shape: [-1, 4] }],
  outputs: [{ name: "scores", datatype: "FP32" as const, shape: [-1, 3] }],
};
const image: Tensor = { name: "image", datatype: "FP32", shape: [1, 4], bytes: new Uint8Array(16) };
const waits = { aborted: false, addEventListener() {}, removeEventListener() {} };
/** Nine tenths of its time are gone. */
const late: Submission = {
  ...{ model: "tiny", version: 1, hold: true, timeoutMs: 100, spentMs: 95 },
  request: { parameters: {}, inputs: [image], binaryDefault: true },
};
const cannotBe: Submission = { ...late, request: { ...late.request, inputs: [{ ...image, shape: [2, 2] }] } };

async function behind(config: ModelConfig = {}, more: { journal?: JobJournal } = {}) {
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
  const waiters = new Waiters(store, systemClock);
  const jobs = new Jobs({
    ...{ ...shared, ...more, forecasts, waiters, resultTtlMs: 60_000, onAdmitting() {}, onAdmitted() {}, expectedHosts: 0 },
  });
  const codeOf = async (submission: Submission): Promise<string> => {
    try {
      await jobs.infer(submission, localCaller, waits);
      return "none";
    } catch (error) {
      assert.ok(error instanceof SwitchyardError, String(error));
      return error.code;
    }
  };
  assert.equal(await codeOf(cannotBe), "signature_mismatch", "nothing is known of the queue yet");
  await jobs.submit({ ...late, hold: false, spentMs: 0, timeoutMs: 60_000 }, localCaller);
  const counted = async (): Promise<string[]> =>
    (await metrics.text())
      .split("\n")
      .filter((line) => /^switchyard_(jobs_rejected_total|tenant_jobs_rejected_total|refusal_seconds_count).* [1-9]/.test(line));
  return { codeOf, counted, jobs, waiters };
}

test("a held call that has no time left is refused whatever its inputs are, and counted", async () => {
  const { codeOf, counted, waiters } = await behind({ class: "interactive" });
  assert.equal(await codeOf(cannotBe), "deadline_unattainable");
  assert.equal(await codeOf(late), "deadline_unattainable");
  assert.equal(waiters.size, 0);
  assert.deepEqual(await counted(), [
    'switchyard_jobs_rejected_total{model="tiny",class="interactive",reason="deadline_unattainable"} 2',
    "switchyard_refusal_seconds_count 2",
    'switchyard_tenant_jobs_rejected_total{tenant="default"} 2',
  ]);
});

test("the time that a model's configuration gives is as good as the client's", async () => {
  const { codeOf } = await behind({ default_timeout_ms: 100 });
  const { timeoutMs: _, ...unsaid } = cannotBe;
  assert.equal(await codeOf(unsaid), "deadline_unattainable");
  assert.equal(await codeOf({ ...unsaid, timeoutMs: 60_000 }), "signature_mismatch");
});

test("not so one with a key that stays bound to its job, one with a span or a line of its own, nor one that nobody holds the line for", async () => {
  const { codeOf, jobs } = await behind();
  const trace: TraceContext = { traceId: "1".repeat(32), spanId: "1".repeat(16), isSampled: true };
  assert.equal(await codeOf({ ...cannotBe, idempotency: { key: "one", fingerprint: "" } }), "signature_mismatch");
  assert.equal(await codeOf({ ...cannotBe, trace }), "signature_mismatch");
  assert.equal(await codeOf({ ...cannotBe, trace: { ...trace, isSampled: false } }), "deadline_unattainable");
  await assert.rejects(jobs.submit(cannotBe, localCaller), { code: "signature_mismatch" });
  const lines: string[] = [];
  const logged = await behind({}, { journal: new JobJournal((event) => void lines.push(event)) });
  assert.equal(await logged.codeOf(cannotBe), "signature_mismatch");
  assert.equal(await logged.codeOf(late), "deadline_unattainable");
  assert.deepEqual(lines, ["job_queued", "job_refused"]);
});
