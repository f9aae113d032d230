/** How much may be sent to shadows at once. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Submission } from "../../coordinator/src/application/job-service.ts";
import { Shadows } from "../../coordinator/src/application/shadows.ts";

test("shadows hold at most 32 requests and 64 MiB of inputs", async () => {
  const counted: string[] = [];
  const shadows = new Shadows({
    models: { shadowOf: () => ({ version: 2, share: 1 }) },
    metrics: { shadowed: (_model, result) => void counted.push(result) },
    chance: () => 0,
  });
  let ends: (() => void)[] = [];
  const follow = (sizeBytes: number): void => {
    const input = { name: "x", datatype: "UINT8" as const, shape: [sizeBytes], bytes: new Uint8Array(sizeBytes) };
    const submission: Submission = {
      model: "m",
      alias: "stable",
      request: { parameters: {}, inputs: [input], binaryDefault: false },
      hold: true,
    };
    shadows.follow(submission, () => new Promise<void>((resolve) => ends.push(resolve)));
  };
  for (let at = 0; at < 3; at++) follow(30 << 20);
  assert.deepEqual([ends.length, counted], [2, ["skipped"]]);
  for (const end of ends) end();
  await new Promise((resolve) => setImmediate(resolve));
  ends = [];
  for (let at = 0; at < 34; at++) follow(1_000);
  assert.equal(ends.length, 32);
  assert.equal(counted.filter((result) => result === "skipped").length, 3);
});
