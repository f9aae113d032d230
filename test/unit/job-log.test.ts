import assert from "node:assert/strict";
import { test } from "node:test";
import { localCaller } from "../../coordinator/src/application/caller.ts";
import { jobLogOf } from "../../coordinator/src/application/job-log.ts";
import type { EndedAttempt, JobRecord } from "../../coordinator/src/ports/job-store.ts";

const ended: JobRecord = {
  ...{ id: "job", state: "succeeded", revision: 3, fence: 1, attempt: 1, maxAttempts: 3, deaths: 0, model: "digits", version: 1 },
  ...{ class: "standard", tenant: "north", createdMs: 1_000, deadlineMs: 61_000, ttlMs: 3_600_000, held: false },
  ...{ startedMs: 1_030, finishedMs: 1_050, hostId: "host-a" },
  timings: { queueMs: 30, runMs: 12.5, totalMs: 50, batchItems: 8 },
};
const failure = { code: "run_failed", detail: "no memory", retryable: true };
const dead: EndedAttempt[] = [
  { fence: 1, attempt: 1, hostId: "host-a", startedMs: 1_010, endedMs: 1_020, end: "failed", runMs: 4, batchItems: 2, error: failure },
  { fence: 2, attempt: 2, hostId: "host-b", startedMs: 1_030, endedMs: 4_030, end: "host_lost", runMs: 0, batchItems: 0 },
];

test("a job that succeeded at once has the four lines that the logs of its processes have", () => {
  const { id, lines } = jobLogOf({ record: ended, attempts: [] }, localCaller);
  assert.equal(id, "job");
  assert.deepEqual(
    lines.map(({ event, level, source }) => [source, level, event]),
    [
      ["coordinator", "info", "job_queued"],
      ["host", "info", "job_running"],
      ["host", "info", "attempt_ended"],
      ["coordinator", "info", "job_succeeded"],
    ],
  );
  assert.deepEqual(lines[0]?.fields, {
    model: "digits",
    version: 1,
    class: "standard",
    tenant: "north",
    timeout_ms: 60_000,
    max_attempts: 3,
  });
  assert.deepEqual(lines[2], {
    ...{ at: "1970-01-01T00:00:01.050Z", level: "info", source: "host", host: "host-a", event: "attempt_ended" },
    fields: { attempt: 1, end: "succeeded", run_ms: 12.5, batch_items: 8 },
  });
});

test("a run that failed says why, and a host that died is named, to operators only", () => {
  const record: JobRecord = { ...ended, state: "failed", fence: 3, attempt: 3, startedMs: 4_040, finishedMs: 4_060, error: failure };
  const { lines } = jobLogOf({ record, attempts: dead }, localCaller);
  const worse = lines.filter(({ level }) => level !== "info");
  assert.deepEqual(
    worse.map(({ event, fields, host, level }) => [level, event, host, fields.code ?? fields.host]),
    [
      ["warn", "attempt_ended", "host-a", "run_failed"],
      ["warn", "host_lost", undefined, "host-b"],
      ["warn", "attempt_ended", "host-a", "run_failed"],
      ["error", "job_failed", undefined, "run_failed"],
    ],
  );
  const reader = { ...localCaller, scopes: new Set(["read"] as const) };
  assert.doesNotMatch(JSON.stringify(jobLogOf({ record, attempts: dead }, reader)), /host-[ab]/);
});

test("a job that was cancelled while it waited was on no host", () => {
  const { startedMs: _, hostId: __, timings: ___, ...rest } = ended;
  const { lines } = jobLogOf({ record: { ...rest, state: "cancelled", fence: 0, attempt: 0 }, attempts: [] }, localCaller);
  assert.deepEqual(
    lines.map(({ event }) => event),
    ["job_queued", "job_cancelled"],
  );
});
