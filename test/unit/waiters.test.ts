/** What wakes those who wait for a job, and what does not. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Waiters } from "../../coordinator/src/application/waiters.ts";
import type { JobStore } from "../../coordinator/src/ports/job-store.ts";

function rig() {
  const time = { ms: 0 };
  const records = new Map<string, { state: "queued" | "succeeded"; revision: number }>();
  const store = { nowMs: () => time.ms, peek: async () => records, expire: async () => {} } as unknown as JobStore;
  const waiters = new Waiters(store, { monotonicMs: () => time.ms } as never);
  const settled = async (wait: { woken: Promise<unknown> }): Promise<boolean> =>
    Promise.race([wait.woken.then(() => true), new Promise<boolean>((resolve) => setImmediate(() => resolve(false)))]);
  /** One look at the records. */
  const look = async (): Promise<void> => {
    time.ms += 1_000;
    await waiters.tick();
  };
  return { records, waiters, settled, look };
}

test("a job whose inputs are still on their way has not ended, however long they take", async () => {
  const { look, records, settled, waiters } = rig();
  const wait = waiters.register("one", { isAhead: true });
  await look();
  await look();
  assert.equal(await settled(wait), false);
  records.set("one", { state: "queued", revision: 1 });
  waiters.setDeadline("one", Number.MAX_SAFE_INTEGER);
  await look();
  assert.equal(await settled(wait), false);
  records.delete("one"); // and its outcome with it
  await look();
  assert.equal(await settled(wait), true);
});

test("a job that is answered in the midst of a look has not ended because the look came too early", async () => {
  const { settled, waiters, look, records } = rig();
  const wait = waiters.register("one", { isAhead: true });
  const looking = look();
  waiters.setDeadline("one", Number.MAX_SAFE_INTEGER);
  await looking;
  assert.equal(await settled(wait), false);
  records.set("one", { state: "succeeded", revision: 3 });
  await look();
  assert.equal(await settled(wait), true);
});

test("a record that is gone ends the wait of whoever knew it", async () => {
  const { look, settled, waiters } = rig();
  const wait = waiters.register("one", { deadlineMs: Number.MAX_SAFE_INTEGER });
  await look();
  assert.equal(await settled(wait), true);
});

test("nothing is looked at before somebody waits, and a stop ends the waiting for that", async () => {
  const { settled, waiters } = rig();
  const stop = new AbortController();
  const first = { woken: waiters.someone(stop.signal) };
  assert.equal(await settled(first), false);
  const wait = waiters.register("one", { deadlineMs: Number.MAX_SAFE_INTEGER });
  assert.equal(await settled(first), true);
  assert.equal(await settled({ woken: waiters.someone(stop.signal) }), true, "somebody waits");
  wait.leave();
  const second = { woken: waiters.someone(stop.signal) };
  assert.equal(await settled(second), false);
  stop.abort();
  assert.equal(await settled(second), true);
});
