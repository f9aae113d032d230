/** Notes of progress: rising, not too many, never too few. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Progress } from "../../coordinator/src/doors/mcp/progress.ts";
import { SessionEvents } from "../../coordinator/src/doors/mcp/session-events.ts";

interface Sent {
  atMs: number;
  progress: number;
  total?: number;
  message?: string;
}

/** A clock that is moved by hand, and what was sent by it. */
function rig(token: string | undefined) {
  let nowMs = 0;
  const due = new Set<{ atMs: number; run: () => void }>();
  const sent: Sent[] = [];
  const clock = {
    monotonicMs: () => nowMs,
    after(ms: number, run: () => void) {
      const one = { atMs: nowMs + ms, run };
      due.add(one);
      return () => void due.delete(one);
    },
  };
  const notify = async ({ params }: { params: Omit<Sent, "atMs"> }) => void sent.push({ ...params, atMs: nowMs });
  const context = { mcpReq: { _meta: token === undefined ? {} : { progressToken: token }, notify } };
  return {
    sent,
    progress: new Progress(context as never, clock),
    pass(ms: number) {
      for (const endMs = nowMs + ms; nowMs < endMs; nowMs++) {
        for (const one of [...due]) if (one.atMs <= nowMs && due.delete(one)) one.run();
      }
    },
  };
}

test("a long wait is told of every few seconds, in seconds that passed", async () => {
  const { pass, progress, sent } = rig("t");
  const work = Promise.withResolvers<number>();
  const done = progress.during("waiting for m", work.promise);
  pass(30_000);
  work.resolve(7);
  assert.equal(await done, 7);
  assert.deepEqual(
    sent.slice(0, 2).map(({ message, progress: at }) => [message, at]),
    [
      ["waiting for m", 1],
      ["waiting for m", 6],
    ],
  );
  const gaps = sent.slice(1).map(({ atMs }, at) => atMs - sent[at]!.atMs);
  assert.ok(Math.max(...gaps) <= 10_000 && sent.length >= 5, JSON.stringify(sent));
  pass(60_000);
  assert.equal(sent.length, 6, "nothing is told after the end");
});

test("steps are told at most four times a second, and always rise", async () => {
  const { pass, progress, sent } = rig("t");
  const work = Promise.withResolvers<void>();
  const done = progress.during("running", work.promise);
  for (let step = 1; step <= 100; step++) {
    progress.report(step, { total: 100 });
    pass(20);
  }
  pass(12_000);
  work.resolve();
  await done;
  const apart = sent.slice(1).map(({ atMs }, at) => atMs - sent[at]!.atMs);
  assert.ok(Math.min(...apart) >= 250, `${apart}`);
  assert.ok(sent.slice(1).every(({ progress: one }, at) => one > sent[at]!.progress));
  assert.ok(sent.some(({ progress: one }) => one === 100) && sent.at(-1)!.progress < 101);
});

test("a long wait for work that is measured is told of without running ahead of it", async () => {
  const { pass, progress, sent } = rig("t");
  const work = Promise.withResolvers<void>();
  const done = progress.during("waiting", work.promise, { isMeasured: true });
  pass(20_000);
  assert.ok(
    sent.length >= 4 && sent.every(({ message, progress: at }) => message === "waiting" && at > 0 && at < 0.01),
    JSON.stringify(sent),
  );
  progress.report(0.25, { total: 1, message: "a quarter" });
  const { message, progress: at, total } = sent.at(-1)!;
  assert.deepEqual([at, total, message], [0.25, 1, "a quarter"]);
  work.resolve();
  await done;
});

test("what is reported after the end is not told, nor for ever after", async () => {
  const { pass, progress, sent } = rig("t");
  const failing = progress.during("running", Promise.reject(new Error("no store")));
  await assert.rejects(failing);
  progress.report(3, { total: 4 });
  pass(60_000);
  assert.deepEqual(sent, []);
});

test("who gave no token is sent nothing", async () => {
  const { pass, progress, sent } = rig(undefined);
  const work = Promise.withResolvers<void>();
  const done = progress.during("x", work.promise);
  progress.report(1);
  pass(20_000);
  work.resolve();
  await done;
  assert.deepEqual(sent, []);
});

test("a session keeps what it sent last, by stream, up to its bounds", async () => {
  const events = new SessionEvents();
  const note = (text: string) => ({ jsonrpc: "2.0" as const, method: "m", params: { text } });
  const ids: string[] = [];
  for (let at = 0; at < 300; at++) ids.push(await events.storeEvent(at % 2 === 0 ? "even" : "odd", note(String(at))));
  assert.equal(await events.getStreamIdForEventId(ids[0]!), undefined, "the oldest are gone");
  assert.equal(await events.getStreamIdForEventId(ids[299]!), "odd");
  const replayed: unknown[] = [];
  const send = async (_id: string, message: unknown) => void replayed.push((message as ReturnType<typeof note>).params.text);
  assert.equal(await events.replayEventsAfter(ids[294]!, { send }), "even");
  assert.deepEqual(replayed, ["296", "298"]);
  await assert.rejects(events.replayEventsAfter(ids[0]!, { send }));
  await events.storeEvent("even", note("x".repeat(600_000)));
  assert.equal(await events.getStreamIdForEventId(ids[299]!), undefined, "a large one takes all the room");
});
