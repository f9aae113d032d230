import assert from "node:assert/strict";
import { test } from "node:test";
import { localCaller } from "../../coordinator/src/application/caller.ts";
import { timelineOf } from "../../coordinator/src/application/job-timeline.ts";
import type { JobRecord } from "../../coordinator/src/ports/job-store.ts";

const waiting: JobRecord = {
  ...{ id: "job", state: "queued", revision: 1, fence: 0, attempt: 0, maxAttempts: 3, deaths: 0, model: "digits", version: 1 },
  ...{ class: "standard", tenant: "default", createdMs: 1_000, deadlineMs: 61_000, ttlMs: 3_600_000, held: false },
};

const ended: JobRecord = {
  ...waiting,
  ...{ state: "succeeded", revision: 3, fence: 1, attempt: 2, startedMs: 1_030, finishedMs: 1_050, hostId: "host-a" },
  timings: { queueMs: 30, runMs: 12.5, totalMs: 50, batchItems: 8 },
};

const told = (record: JobRecord, caller = localCaller) => timelineOf(record, caller).events.map(({ at: _, ...event }) => event);

test("a job that waits was admitted and no more", () => {
  assert.deepEqual(told(waiting), [{ after_ms: 0, event: "admitted" }]);
  assert.equal(timelineOf(waiting, localCaller).events[0]?.at, "1970-01-01T00:00:01.000Z");
});

test("a job that ran tells how long it waited, where and with how many it ran, and when it was committed", () => {
  assert.deepEqual(told(ended), [
    { after_ms: 0, event: "admitted" },
    { after_ms: 30, event: "started", attempt: 2, host: "host-a" },
    { after_ms: 12.5, event: "ran", run_ms: 12.5, batch_items: 8 },
    { after_ms: 7.5, event: "succeeded" },
  ]);
});

test("only operators see which host it was", () => {
  const reader = { ...localCaller, scopes: new Set(["read"] as const) };
  assert.equal(JSON.stringify(told(ended, reader)).includes("host-a"), false);
});

test("a retry names the job that it repeats, and a failure says why", () => {
  const error = { code: "run_failed", detail: "no", retryable: false };
  const events = told({ ...ended, state: "failed", retryOf: "old", error });
  assert.deepEqual(events[0], { after_ms: 0, event: "retried_from", job: "old" });
  assert.deepEqual(events.at(-1), { after_ms: 7.5, event: "failed", error });
});

test("a job that expired while it waited never started", () => {
  const { startedMs: _, hostId: __, ...rest } = ended;
  const events = told({ ...rest, state: "expired", fence: 0, timings: { queueMs: 50, runMs: 0, totalMs: 50, batchItems: 0 } });
  assert.deepEqual(
    events.map(({ event }) => event),
    ["admitted", "expired"],
  );
});

test("an answer from the cache ran nowhere", () => {
  const { hostId: _, startedMs: __, ...rest } = ended;
  const events = told({ ...rest, fence: 0, revision: 1, timings: { queueMs: 0, runMs: 0, totalMs: 0, batchItems: 0 } });
  assert.deepEqual(
    events.map(({ event }) => event),
    ["admitted", "answered_from_cache", "succeeded"],
  );
});
