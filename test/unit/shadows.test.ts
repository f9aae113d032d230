/** How much may be sent to shadows at once. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Submission } from "../../coordinator/src/application/job-service.ts";
import { Shadows } from "../../coordinator/src/application/shadows.ts";

function rig() {
  const counted: string[] = [];
  const followed: { submission: Submission; end: () => void }[] = [];
  const shadows = new Shadows({
    models: { shadowOf: () => ({ version: 2, share: 1 }) },
    metrics: { shadowed: (_model, result) => void counted.push(result) },
    chance: () => 0,
  });
  const follow = (bytes: Uint8Array): void => {
    const input = { name: "x", datatype: "UINT8" as const, shape: [bytes.length], bytes };
    const request = { parameters: {}, inputs: [input], binaryDefault: false };
    const run = (submission: Submission) => new Promise<void>((resolve) => followed.push({ submission, end: resolve }));
    shadows.follow({ model: "m", alias: "stable", request, hold: true }, run);
  };
  const endAll = async (): Promise<void> => {
    for (const { end } of followed.splice(0)) end();
    await new Promise((resolve) => setImmediate(resolve));
    counted.length = 0;
  };
  return { counted, followed, follow, endAll };
}

test("shadows hold at most 32 requests and 64 MiB of inputs", async () => {
  const { counted, endAll, follow, followed } = rig();
  for (let at = 0; at < 3; at++) follow(new Uint8Array(30 << 20));
  assert.deepEqual([followed.length, counted], [2, ["skipped"]]);
  await endAll();
  for (let at = 0; at < 34; at++) follow(new Uint8Array(1_000));
  assert.equal(followed.length, 32);
  assert.equal(counted.filter((result) => result === "skipped").length, 2);
});

test("a shadow has its own inputs: the body that they came in goes with the answer to it", () => {
  const { follow, followed } = rig();
  const body = new Uint8Array(30 << 20).fill(7);
  follow(body.subarray(8, 12));
  body.buffer.transfer(0);
  assert.deepEqual([...followed[0]!.submission.request.inputs[0]!.bytes], [7, 7, 7, 7]);
  for (let at = 0; at < 3; at++) follow(new Uint8Array(30 << 20).subarray(0, 4));
  assert.equal(followed.length, 4, "what is held is four bytes each");
});
