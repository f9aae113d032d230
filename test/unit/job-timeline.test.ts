import assert from "node:assert/strict";
import { test } from "node:test";
import { localCaller } from "../../coordinator/src/application/caller.ts";
import { timelineOf } from "../../coordinator/src/application/job-timeline.ts";
import type { EndedAttempt, JobRecord } from "../../coordinator/src/ports/job-store.ts";

const waiting: JobRecord = {
  ...{ id: "job", state: "queued", revision: 1, fence: 0, attempt: 0, maxAttempts: 3, deaths: 0, model: "digits", version: 1 },
  ...{ class: "standard", tenant: "default", createdMs: 1_000, deadlineMs: 61_000, ttlMs: 3_600_000, held: false },
};

const ended: JobRecord = {
  ...waiting,
  ...{ state: "succeeded", revision: 3, fence: 1, attempt: 2, startedMs: 1_030, finishedMs: 1_050, hostId: "host-a" },
  timings: { queueMs: 30, runMs: 12.5, totalMs: 50, batchItems: 8 },
};

const told = (record: JobRecord, caller = localCaller, attempts: EndedAttempt[] = []) =>
  timelineOf({ record, attempts }, caller).events.map(({ at: _, ...event }) => event);

test("a job that waits was admitted and no more", () => {
  assert.deepEqual(told(waiting), [{ after_ms: 0, event: "admitted" }]);
  assert.equal(timelineOf({ record: waiting, attempts: [] }, localCaller).events[0]?.at, "1970-01-01T00:00:01.000Z");
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

const failure = { code: "run_failed", detail: "no memory", retryable: true };
const earlier: EndedAttempt[] = [
  { fence: 1, attempt: 1, hostId: "host-a", startedMs: 1_010, endedMs: 1_020, end: "failed", runMs: 4, batchItems: 2, error: failure },
  { fence: 2, attempt: 2, hostId: "host-b", startedMs: 1_030, endedMs: 1_035, end: "handed_back", runMs: 0, batchItems: 0 },
  { fence: 3, attempt: 2, hostId: "host-c", startedMs: 1_040, endedMs: 4_040, end: "host_lost", runMs: 0, batchItems: 0 },
];

test("each attempt is told with its host, its beginning, its end and why it ended", () => {
  const record = { ...ended, fence: 4, attempt: 3, startedMs: 4_050, finishedMs: 4_070, hostId: "host-d" };
  assert.deepEqual(told(record, localCaller, earlier), [
    { after_ms: 0, event: "admitted" },
    { after_ms: 10, event: "started", attempt: 1, host: "host-a" },
    { after_ms: 4, event: "ran", run_ms: 4, batch_items: 2 },
    { after_ms: 6, event: "attempt_failed", attempt: 1, host: "host-a", error: failure },
    { after_ms: 10, event: "started", attempt: 2, host: "host-b" },
    { after_ms: 5, event: "handed_back", attempt: 2, host: "host-b" },
    { after_ms: 5, event: "started", attempt: 2, host: "host-c" },
    { after_ms: 3_000, event: "host_lost", attempt: 2, host: "host-c" },
    { after_ms: 10, event: "started", attempt: 3, host: "host-d" },
    { after_ms: 12.5, event: "ran", run_ms: 12.5, batch_items: 8 },
    { after_ms: 7.5, event: "succeeded" },
  ]);
  assert.equal(timelineOf({ record, attempts: earlier }, localCaller).untold_attempts, undefined);
  const reader = { ...localCaller, scopes: new Set(["read"] as const) };
  assert.doesNotMatch(JSON.stringify(told(record, reader, earlier)), /host-/);
});

test("an attempt after which the job waits again is not told a second time", () => {
  const { hostId: _, finishedMs: __, timings: ___, ...rest } = ended;
  const record = { ...rest, state: "queued" as const, fence: 1, attempt: 1, startedMs: 1_010 };
  const events = told(record, localCaller, earlier.slice(0, 1));
  assert.deepEqual(
    events.map(({ event }) => event),
    ["admitted", "started", "ran", "attempt_failed"],
  );
});

test("attempts of which nothing is kept are counted", () => {
  const record = { ...ended, fence: 9, attempt: 3 };
  assert.equal(timelineOf({ record, attempts: earlier }, localCaller).untold_attempts, 5);
});
