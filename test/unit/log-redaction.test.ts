import assert from "node:assert/strict";
import { test } from "node:test";
import { withoutCredentials } from "@switchyard/protocol";
import { pinoLog } from "../../coordinator/src/adapters/pino-log.ts";
import { pinoLog as workerLog } from "../../worker/src/pino-log.ts";

const clock = { nowMs: () => Date.parse("2026-01-02T03:04:05.678Z") };

function written(write: (into: { write(line: string): void }) => void): Record<string, unknown>[] {
  const lines: string[] = [];
  write({ write: (line) => void lines.push(line) });
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

test("a line has its time, level, event and fields", () => {
  const lines = written((into) => pinoLog({ level: "info", clock }, into).warn("store_away", { job_id: "a-1", trace_id: undefined }));
  assert.deepEqual(lines, [{ level: "warn", time: "2026-01-02T03:04:05.678Z", event: "store_away", job_id: "a-1" }]);
  const ofWorker = written((into) => workerLog({ level: "info", host: "h-1", clock }, into).info("drained"));
  assert.deepEqual(ofWorker, [{ level: "info", time: "2026-01-02T03:04:05.678Z", host: "h-1", event: "drained" }]);
});

test("levels below the one that is wanted are not written, and lines about jobs are not even made", () => {
  const lines = written((into) => {
    const log = pinoLog({ level: "warn", clock }, into);
    log.info("listening");
    assert.equal(log.debug, undefined);
    assert.equal(workerLog({ level: "info", host: "h", clock }, into).debug, undefined);
    pinoLog({ level: "debug", clock }, into).debug?.("job_queued");
  });
  assert.deepEqual(
    lines.map(({ event }) => event),
    ["job_queued"],
  );
});

test("keys, tokens, passwords and tensors are struck out, by name and within texts", () => {
  const secret = "s3cr3t";
  const fields = {
    authorization: `Bearer ${secret}`,
    api_key: secret,
    message: `cannot reach rediss://sy:${secret}@store.test:6379/1 with Bearer ${secret}`,
    nested: { token: secret, password: secret, inputs: [1, 2, 3] } as never,
    inputs: "1.25,2.5",
  };
  for (const write of [
    (into: { write(line: string): void }) => pinoLog({ level: "info", clock }, into).error("start_failed", fields),
    (into: { write(line: string): void }) => workerLog({ level: "info", host: "h", clock }, into).warn("lost", fields),
  ]) {
    const [line] = written(write);
    const text = JSON.stringify(line);
    assert.doesNotMatch(text, /s3cr3t|1\.25|\[1,2,3\]/);
    assert.match(text, /store\.test:6379/);
  }
  assert.equal(withoutCredentials("see http://host/a@b"), "see http://host/a@b");
});
