import assert from "node:assert/strict";
import { test } from "node:test";
import { frameParts, joinParts, SwitchyardError } from "@switchyard/protocol";
import { newJobId, queueTag } from "@switchyard/protocol/redis";
import { localCaller } from "../../coordinator/src/application/caller.ts";
import { DeadLetters } from "../../coordinator/src/application/dead-letters.ts";
import { DurableJobs } from "../../coordinator/src/application/durable-jobs.ts";
import type { JobListFilter, JobRecord } from "../../coordinator/src/ports/job-store.ts";

function dead(): JobRecord {
  return {
    ...{ id: newJobId(queueTag("m", "digest")), state: "failed", revision: 3, fence: 1, attempt: 1, maxAttempts: 1, deaths: 0, model: "m" },
    ...{ version: 1, class: "standard", tenant: "default", createdMs: 0, deadlineMs: 1_000, ttlMs: 1_000, held: false },
  };
}

/** Two dead letters, of which the second finds the store full once. */
function lettersOf() {
  let left = [dead(), dead()];
  let fullAt = 2;
  const asked: JobListFilter[] = [];
  const letters = new DeadLetters({
    jobs: {
      get: async (id) => left.find((record) => record.id === id)!,
      list: async (filter) => {
        asked.push(filter);
        return { jobs: left };
      },
      submit: async () => {
        if (--fullAt === 0) throw new SwitchyardError("store_full", "no memory left");
        return { record: dead(), replayed: false };
      },
    },
    durable: new DurableJobs(undefined),
    store: {
      boundKey: async () => undefined,
      discard: async (id) => {
        left = left.filter((record) => record.id !== id);
        return true;
      },
      inputs: async () => joinParts(frameParts([])),
      inputsKept: async () => new Set<string>(),
      watch: async () => undefined,
    },
  });
  return { letters, asked };
}

test("a page that the store breaks off has a cursor to go on by, also when it is the first", async () => {
  for (const cursor of [undefined, "third"]) {
    const { letters, asked } = lettersOf();
    const first = await letters.requeue({ limit: 50, ...(cursor !== undefined && { cursor }) }, localCaller);
    assert.deepEqual(
      first.requeued.map((one) => ("refused" in one ? one.refused.code : "again")),
      ["again", "store_full"],
    );
    assert.equal(first.cursor, cursor ?? "");
    const rest = await letters.requeue({ limit: 50, cursor: first.cursor! }, localCaller);
    assert.deepEqual([rest.requeued.length, "retriedAs" in rest.requeued[0]!, rest.cursor], [1, true, undefined]);
    assert.equal(asked[1]!.cursor, cursor ?? "");
  }
});
