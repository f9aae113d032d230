/** How queues spread over the masters of a Redis Cluster, as their tags fall. docs/redis.md tells these numbers. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { keys, queueTag, slotCount, slotOf } from "@switchyard/protocol/redis";

/** Queues on each of so many masters that share the slots evenly. */
function spread(models: number, masters: number): number[] {
  const counts = new Array<number>(masters).fill(0);
  for (let model = 0; model < models; model++) {
    const tag = queueTag(`model-${model}`, `digest-${model}`);
    counts[Math.floor((slotOf(keys.base(tag)) * masters) / slotCount)]! += 1;
  }
  return counts;
}

test("2,000 models spread over 3, 6 and 12 masters so that the busiest has at most a quarter more than its share", (t) => {
  for (const masters of [3, 6, 12]) {
    const counts = spread(2_000, masters);
    const busiest = Math.max(...counts) / (2_000 / masters);
    t.diagnostic(`${masters} masters: ${counts.join(", ")}; the busiest has ${busiest.toFixed(2)} of its share`);
    assert.ok(busiest < 1.25, `${masters} masters: ${counts.join(", ")}`);
  }
});
