/** Idempotency keys under a crowd: one key is one job, at whichever coordinator it arrives. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { JobView } from "@switchyard/protocol";
import { call, floats } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";

let cluster: Processes;
before(async () => {
  cluster = await startProcesses({ coordinators: 2 });
});
after(() => cluster?.stop());

const bodyOf = (pixel: number) => ({ model: "digits", inputs: [floats("image", [1, 64], new Float32Array(64).fill(pixel))] });
const submit = (key: string, body: object, which = 0) =>
  call(`${cluster.urls[which]}/v1/jobs`, { body, headers: { "idempotency-key": key } });

test("a hundred posts with one key at two coordinators make one job", async () => {
  const answers = await Promise.all(Array.from({ length: 100 }, (_, at) => submit("crowd", bodyOf(1), at % 2)));
  for (const answer of answers) assert.equal(answer.status, 202, answer.bytes.toString());
  const ids = new Set(answers.map((answer) => (answer.json() as JobView).id));
  assert.equal(ids.size, 1);
  const replayed = answers.filter((answer) => answer.headers["idempotent-replayed"] === "true");
  assert.equal(replayed.length, 99);
  const { items } = (await call(`${cluster.url}/v1/jobs?model=digits`)).json() as { items: JobView[] };
  assert.deepEqual(
    items.map(({ id }) => id),
    [...ids],
  );
});

test("a hundred held calls with one key run once and hear the same answer", async () => {
  const body = { inputs: bodyOf(2).inputs };
  const before = ((await call(`${cluster.url}/v1/jobs?model=digits`)).json() as { items: JobView[] }).items.length;
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, at) =>
      call(`${cluster.urls[at % 2]}/v2/models/digits/infer`, { body, headers: { "idempotency-key": "held" } }),
    ),
  );
  for (const answer of answers) assert.equal(answer.status, 200, answer.bytes.toString());
  assert.equal(new Set(answers.map((answer) => JSON.stringify(answer.json().outputs))).size, 1);
  const { items } = (await call(`${cluster.url}/v1/jobs?model=digits`)).json() as { items: JobView[] };
  assert.equal(items.length, before + 1);
  assert.equal(items[0]!.attempt, 1);
});

test("another body under a key is refused, while the job runs and after it", async () => {
  const first = await submit("mine", bodyOf(3));
  assert.equal(first.headers["idempotent-replayed"], undefined);
  for (const which of [0, 1]) {
    const answer = await submit("mine", bodyOf(4), which);
    assert.equal(answer.status, 422, answer.bytes.toString());
    assert.equal(answer.json().code, "idempotency_key_reused");
  }
  await call(`${cluster.url}/v1/jobs/${first.json().id}?wait=60`);
  const again = await submit("mine", bodyOf(3), 1);
  assert.equal(again.json().id, first.json().id);
  assert.equal(again.json().state, "succeeded");
  assert.equal(again.headers["idempotent-replayed"], "true");
});

test("a refused request does not use its key up", async () => {
  const bad = await submit("second-try", { ...bodyOf(5), inputs: [floats("image", [1, 63], new Float32Array(63))] });
  assert.equal(bad.status, 422, bad.bytes.toString());
  const good = await submit("second-try", bodyOf(5));
  assert.equal(good.status, 202, good.bytes.toString());
});
