/** Lines about jobs: one for each change of state, by job, attempt, host and trace, and nothing secret in any; none at all by default. */

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { call, floats } from "../support/calls.ts";
import { type OtlpCollector, startCollector } from "../support/otlp-collector.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { until } from "../support/until.ts";

const secret = `sy_${randomBytes(24).toString("base64url")}`;
const digest = createHash("sha256").update(secret).digest("hex");
const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
const pixel = 7.654321;
const inputs = [floats("image", [1, 64], new Float64Array(64).fill(pixel))];

let folder: string;
let collector: OtlpCollector;
let cluster: Processes;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "switchyard-logs-"));
  const file = path.join(folder, "keys.yaml");
  const key = `- id: tester\n  sha256: ${digest}\n  tenant: north\n  weight: 1\n  scopes: [submit, read, operate, admin]\n`;
  await writeFile(file, key, { mode: 0o600 });
  collector = await startCollector();
  cluster = await startProcesses({
    apiKey: secret,
    env: {
      SWITCHYARD_LOG_LEVEL: "debug",
      SWITCHYARD_API_KEYS: file,
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20hidden-from-logs",
    },
  });
});
after(async () => {
  await cluster?.stop();
  await collector?.close();
  await rm(folder, { recursive: true, force: true });
});

const headers = (more: Record<string, string> = {}): Record<string, string> => ({ authorization: `Bearer ${secret}`, ...more });

/** Lines of all processes about one job, in order of time. */
function linesOf(jobId: string): Record<string, unknown>[] {
  const texts = [...cluster.coordinators, ...cluster.workers].flatMap((one) => one.log().split("\n"));
  const lines = texts.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line) as Record<string, unknown>);
  return lines.filter(({ job_id }) => job_id === jobId);
}

test("each change of a job's state is one line, with the ids to find the rest by", async () => {
  const traceparent = `00-${traceId}-00f067aa0ba902b7-01`;
  const asked = headers({ traceparent, prefer: "wait=60", "idempotency-key": '"very-own-key"' });
  const answer = await call(`${cluster.url}/v1/jobs`, {
    body: { model: "digits", inputs, tags: { mark: "tag-in-no-line" } },
    headers: asked,
  });
  const view = answer.json();
  assert.equal(view.state, "succeeded", answer.bytes.toString());
  const lines = await until("four lines", async () => linesOf(view.id).length >= 4 && linesOf(view.id), { show: () => cluster.log() });
  assert.deepEqual(lines.map(({ event }) => event).sort(), ["attempt_ended", "job_queued", "job_running", "job_succeeded"]);
  for (const line of lines) {
    assert.deepEqual([line.level, line.model, line.trace_id], ["debug", "digits", traceId], JSON.stringify(line));
    if (line.event === "job_running" || line.event === "attempt_ended") assert.deepEqual([line.host, line.attempt], ["worker-1", 1]);
  }
  assert.equal(lines.find(({ event }) => event === "job_queued")?.tenant, "north");
});

test("a refusal and a cancellation have their lines too", async () => {
  const bad = await call(`${cluster.url}/v1/jobs`, { body: { model: "digits", inputs, timeout_ms: 1 }, headers: headers() });
  const id = bad.json().job_id ?? bad.json().id;
  const worker = cluster.workers[0]!;
  worker.signal("SIGSTOP");
  const held = await call(`${cluster.url}/v1/jobs`, { body: { model: "digits", inputs }, headers: headers() });
  const cancelled = await call(`${cluster.url}/v1/jobs/${held.json().id}`, { method: "DELETE", headers: headers() });
  worker.signal("SIGCONT");
  assert.equal(cancelled.status, 200);
  const seen = await until("its line", async () => linesOf(held.json().id).find(({ event }) => event === "job_cancelled"));
  assert.equal(seen.model, "digits");
  if (bad.status === 202)
    await until("the end of the other", async () => linesOf(id).some(({ event }) => /job_(expired|succeeded)/.test(String(event))));
});

test("no line holds a key, a token, a tag or a tensor", async () => {
  await call(`${cluster.url}/v1/hosts`, { headers: { authorization: "Bearer sy_wrong-key" } });
  const log = cluster.log();
  assert.ok(log.split("\n").length > 10, log);
  for (const hidden of [secret, digest, "sy_wrong-key", "very-own-key", "hidden-from-logs", "tag-in-no-line", String(pixel)])
    assert.equal(log.includes(hidden), false, `the log holds ${hidden}`);
});

test("by default no line is about a job", async (t) => {
  const quiet = await startProcesses();
  t.after(() => quiet.stop());
  const answer = await call(`${quiet.url}/v1/jobs`, { body: { model: "digits", inputs }, headers: { prefer: "wait=60" } });
  assert.equal(answer.json().state, "succeeded");
  assert.doesNotMatch(quiet.log(), /job_id|"debug"/);
  assert.match(quiet.log(), /"level":"info"/);
});
