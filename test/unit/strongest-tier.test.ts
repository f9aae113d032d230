/** What the store keeps best, as tasks ask for it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type DurableTier, SwitchyardError } from "@switchyard/protocol";
import { jobIdPattern, memberJobId, newJobId, queueTag, tagOf } from "@switchyard/protocol/redis";
import { DurableJobs } from "../../coordinator/src/application/durable-jobs.ts";

function offering(...tiers: DurableTier[]): DurableJobs {
  return new DurableJobs({
    async require(tier) {
      if (!tiers.includes(tier)) throw new SwitchyardError("durability_unavailable", "not here");
    },
    settled: async () => undefined,
  });
}

test("the tier that survives most is the one with a copy elsewhere, then the one on disk", async () => {
  assert.equal(await offering("fsync", "replicated").strongest(), "replicated");
  assert.equal(await offering("fsync").strongest(), "fsync");
  assert.equal(await offering().strongest(), undefined);
  assert.equal(await new DurableJobs(undefined).strongest(), undefined);
});

test("a store that does not answer is not one that offers nothing", async () => {
  const away = async () => {
    throw new SwitchyardError("store_unavailable", "away");
  };
  await assert.rejects(new DurableJobs({ require: away, settled: away }).strongest(), { code: "store_unavailable" });
});

test("jobs that are made together are known by the first one's id, in its queue", () => {
  const lead = newJobId(queueTag("m", "d"));
  const ids = Array.from({ length: 1_000 }, (_, at) => memberJobId(lead, at));
  assert.equal(new Set([lead, ...ids]).size, 1_001);
  for (const id of ids) assert.ok(jobIdPattern.test(id) && tagOf(id) === tagOf(lead), id);
  assert.deepEqual(memberJobId(lead, 7), ids[7]);
  assert.notEqual(memberJobId(newJobId(tagOf(lead)), 7), ids[7]);
});
