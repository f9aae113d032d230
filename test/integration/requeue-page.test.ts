/** Submitting dead letters again page by page, through the door and by the SDK, over a store that breaks a page off. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { frameParts, joinParts, SwitchyardError } from "@switchyard/protocol";
import { newJobId, queueTag } from "@switchyard/protocol/redis";
import { Switchyard } from "switchyard";
import { DeadLetters } from "../../coordinator/src/application/dead-letters.ts";
import { DurableJobs } from "../../coordinator/src/application/durable-jobs.ts";
import { firstPage, type JobListFilter, type JobRecord } from "../../coordinator/src/ports/job-store.ts";
import { openDoor } from "../support/open-door.ts";

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

test("a page that the store breaks off has a cursor to go on by, also when it is the first", async (context) => {
  for (const cursor of [undefined, "third"]) {
    const { letters, asked } = lettersOf();
    const door = await openDoor(context, {}, { deadLetters: letters });
    const client = new Switchyard({ url: door.url });
    const first = await client.deadLetters.requeue({ cursor });
    assert.deepEqual(
      first.items.map(({ error, retried_as: again }) => error?.code ?? typeof again),
      ["string", "store_full"],
    );
    assert.ok(first.cursor, "callers take no text for no cursor");
    assert.equal(first.links.next, `/v1/dead-letters:requeue?cursor=${cursor ?? firstPage}`);
    const rest = await client.deadLetters.requeue({ cursor: first.cursor });
    assert.deepEqual([rest.requeued, rest.refused, rest.cursor], [1, 0, undefined]);
    assert.equal(asked[1]!.cursor, cursor ?? firstPage);
  }
});
