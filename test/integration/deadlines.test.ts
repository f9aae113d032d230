/** Deadlines through the doors: told soon after they pass, never run afterwards, the smallest wish wins, classes have their own. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { JobView } from "@switchyard/protocol";
import { type Answer, call, floats, jobView } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { shortest } from "../support/shortest.ts";
import { until } from "../support/until.ts";

/** Clients hear of an expiry this soon after the deadline. */
const toldMs = 250;
const inputs = [floats("image", [1, 64], new Float32Array(64))];

let cluster: Processes;
before(async () => {
  cluster = await startProcesses({ workers: 0 });
});
after(() => cluster?.stop());

const submit = (body: object, headers: Record<string, string> = {}): Promise<Answer> =>
  call(`${cluster.url}/v1/jobs`, { body: { model: "digits", inputs, ...body }, headers });
const infer = (body: object, headers: Record<string, string> = {}): Promise<Answer> =>
  call(`${cluster.url}/v2/models/digits/infer`, { body: { inputs, ...body }, headers });
const allowedMs = (view: JobView): number => Date.parse(view.deadline) - Date.parse(view.created_at);

test("without any worker a job is told as expired right after its deadline, at both doors, and never runs later", async (t) => {
  await submit({ timeout_ms: 50 }, { prefer: "wait=1" }); // the first call of a process is slower
  const ids: string[] = [];
  const latestMs = await shortest(toldMs, async () => {
    const answers = await Promise.all([
      ...Array.from({ length: 5 }, () => infer({ parameters: { timeout: 300_000 } })),
      ...Array.from({ length: 5 }, () => submit({ timeout_ms: 300 }, { prefer: "wait=10" })),
    ]);
    for (const answer of answers.slice(0, 5)) {
      assert.equal(answer.status, 504, answer.bytes.toString());
      assert.equal(typeof answer.json().error, "string");
      const id = answer.headers["x-switchyard-job"] as string;
      assert.equal((await jobView(cluster.url, id)).state, "expired", "it tells a job's end from a refusal");
    }
    for (const answer of answers.slice(5)) {
      assert.equal(answer.status, 200, answer.bytes.toString());
      const view = answer.json() as JobView;
      assert.equal(view.state, "expired");
      assert.equal(view.error?.code, "expired");
      assert.equal(view.started_at, undefined);
      ids.push(view.id);
    }
    const late = answers.map(({ tookMs }) => tookMs - 300);
    assert.ok(Math.min(...late) > -10, `told ${late} ms after the deadline`);
    t.diagnostic(`told ${Math.max(...late).toFixed(0)} ms after the deadline at worst`);
    return Math.max(...late);
  });
  assert.ok(latestMs <= toldMs, `told ${latestMs.toFixed(0)} ms after the deadline`);

  const waiting = (await submit({ timeout_ms: 300_000 })).json() as JobView;
  const worker = await cluster.addWorker();
  await until("the job with time left to run", async () => (await jobView(cluster.url, waiting.id, 5)).state === "succeeded");
  for (const id of ids) {
    const view = await jobView(cluster.url, id);
    assert.deepEqual([view.state, view.attempt, view.started_at], ["expired", 0, undefined]);
  }
  assert.equal(await worker.stop(), 0);
});

test("of several limits the smallest wins", async () => {
  const body = { timeout_ms: 30_000, parameters: { timeout: 20_000_000 } };
  assert.equal(allowedMs((await submit(body)).json()), 20_000);
  assert.equal(allowedMs((await submit(body, { "x-request-timeout-ms": "10000" })).json()), 10_000);
  assert.equal(allowedMs((await submit({ timeout_ms: 5_000 }, { "x-request-timeout-ms": "10000" })).json()), 5_000);
  const held = await infer({ parameters: { timeout: 60_000_000 } }, { "x-request-timeout-ms": "200" });
  assert.equal(held.status, 504, held.bytes.toString());
  assert.ok(held.tookMs < 20_000, `${held.tookMs} ms: the header did not count`);
});

test("each class has its own default", async () => {
  const defaults = { interactive: 5_000, standard: 60_000, batch: 86_400_000 };
  for (const [name, ms] of Object.entries(defaults)) assert.equal(allowedMs((await submit({ class: name })).json()), ms, name);
  assert.equal(allowedMs((await submit({})).json()), defaults.standard);
});

const maxMs = 86_400_000;
const asked: [what: string, ask: () => Promise<Answer>, names: RegExp][] = [
  ...[0, -1, -0.5, maxMs + 1, 1.5, "5", "NaN", null, true, [5], {}].map((ms): (typeof asked)[0] => [
    `timeout_ms ${JSON.stringify(ms)}`,
    () => submit({ timeout_ms: ms }),
    /timeout_ms/,
  ]),
  ...["NaN", "-5", "0x10", "1e999", "Infinity"].map((text): (typeof asked)[0] => [
    `a body with timeout_ms ${text}`,
    () => {
      const json = JSON.stringify({ model: "digits", inputs, timeout_ms: "HERE" }).replace('"HERE"', text);
      return call(`${cluster.url}/v1/jobs`, { body: Buffer.from(json), headers: { "content-type": "application/json" } });
    },
    /timeout_ms|JSON/,
  ]),
  ...["0", "-1", "NaN", "Infinity", "1e3", "1.5", "soon", String(maxMs + 1), "9".repeat(400)].map((text): (typeof asked)[0] => [
    `a job with the header X-Request-Timeout-Ms: ${text.slice(0, 10)}`,
    () => submit({}, { "x-request-timeout-ms": text }),
    /X-Request-Timeout-Ms/,
  ]),
  ...[-1, 1.5, 1_000 * maxMs + 1, "NaN", "-1", true].map((us): (typeof asked)[0] => [
    `an inference with the parameter timeout ${JSON.stringify(us)}`,
    () => infer({ parameters: { timeout: us } }),
    /timeout/,
  ]),
  ...["-1", "NaN", String(maxMs + 1)].map((text): (typeof asked)[0] => [
    `an inference with the header X-Request-Timeout-Ms: ${text}`,
    () => infer({}, { "x-request-timeout-ms": text }),
    /X-Request-Timeout-Ms/,
  ]),
];
for (const [what, ask, names] of asked) {
  test(`${what} is refused, naming what is wrong`, async () => {
    const answer = await ask();
    assert.equal(answer.status, 400, answer.bytes.toString());
    assert.match(answer.bytes.toString(), names);
  });
}
