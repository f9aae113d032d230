/** How much may be sent to shadows at once. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Submission } from "../../coordinator/src/application/job-service.ts";
import { Shadows } from "../../coordinator/src/application/shadows.ts";

test("shadows hold at most 32 requests and 64 MiB of bodies", async () => {
  const counted: string[] = [];
  const shadows = new Shadows({
    models: { shadowOf: () => ({ version: 2, share: 1 }) },
    metrics: { shadowed: (_model, result) => void counted.push(result) },
    chance: () => 0,
  });
  let ends: (() => void)[] = [];
  const follow = (bodyBytes: number, sizeBytes = bodyBytes): void => {
    const bytes = new Uint8Array(bodyBytes).subarray(bodyBytes - sizeBytes);
    const input = { name: "x", datatype: "UINT8" as const, shape: [sizeBytes], bytes };
    const submission: Submission = {
      model: "m",
      alias: "stable",
      request: { parameters: {}, inputs: [input], binaryDefault: false },
      hold: true,
    };
    shadows.follow(submission, () => new Promise<void>((resolve) => ends.push(resolve)));
  };
  for (const [bodyBytes, sizeBytes] of [[30 << 20], [30 << 20, 4]] as [number, number?][]) {
    counted.length = 0;
    for (let at = 0; at < 3; at++) follow(bodyBytes, sizeBytes);
    assert.deepEqual([ends.length, counted], [2, ["skipped"]]);
    for (const end of ends) end();
    await new Promise((resolve) => setImmediate(resolve));
    ends = [];
  }
  counted.length = 0;
  for (let at = 0; at < 34; at++) follow(1_000);
  assert.equal(ends.length, 32);
  assert.equal(counted.filter((result) => result === "skipped").length, 2);
});
