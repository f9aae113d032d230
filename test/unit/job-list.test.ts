/** The console's list of jobs, against a server that answers from memory: what it asks for, and when it stops. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { JobView } from "@switchyard/protocol";
import { lendGlobal } from "../support/lent-global.ts";

const takeStorage = lendGlobal("sessionStorage", { getItem: () => null }); // read once, when the modules are loaded
const { JobList, mayRetry } = await import("../../console/src/job-list.ts");
takeStorage();

interface Answer {
  items: Partial<JobView>[];
  links: { next?: string };
}

/** What the list asks from now on, and what it is told. */
function serve(t: TestContext, answer: (asked: URL) => Answer | Promise<Answer>): URL[] {
  const asked: URL[] = [];
  t.mock.method(globalThis, "fetch", async (path: string) => {
    const url = new URL(path, "http://localhost");
    asked.push(url);
    assert.ok(asked.length < 200, "it asks without end");
    return Response.json(await answer(url));
  });
  return asked;
}

const startMs = Date.parse("2026-01-31T12:00:00Z");
const job = (at: number, state: JobView["state"] = "succeeded"): Partial<JobView> => ({
  id: `job-${at}`,
  state,
  created_at: new Date(startMs + 1_000 * at).toISOString(),
});
const from = (url: URL): number => Number(url.searchParams.get("cursor") ?? 0);
const after = (page: number): { next: string } => ({ next: `/v1/jobs?tag=rare&limit=200&cursor=${page}` });

test("pages without a match are read over until one has some", async (t) => {
  const asked = serve(t, (url) => (from(url) < 5 ? { items: [], links: after(from(url) + 1) } : { items: [job(1)], links: {} }));
  const list = new JobList({ tag: "rare" });
  await list.readTo(40);
  assert.deepEqual([list.jobs.value.map(({ id }) => id), list.hasMore.value, asked.length], [["job-1"], false, 6]);
});

test("a search that finds nothing for long pauses, and goes on when it is told to", async (t) => {
  const asked = serve(t, (url) => ({ items: [], links: after(from(url) + 1) }));
  const list = new JobList({ tag: "rare" });
  await list.readTo(40);
  const paused = asked.length;
  assert.ok(list.isPaused.value && paused <= 50, `${paused} pages were read`);
  await list.readTo(80);
  assert.equal(asked.length, paused, "scrolling does not begin it again");
  const onwards = list.searchOn();
  assert.equal(list.isPaused.value, false);
  await onwards;
  assert.equal(asked.length, 2 * paused);
  assert.equal(from(asked.at(-1) as URL), 2 * paused - 1, "it goes on where it was");
});

test("what is wanted while the list looks for new jobs is read after that", async (t) => {
  const gate = Promise.withResolvers<void>();
  const asked = serve(t, async (url) => {
    if (asked.length === 2) await gate.promise;
    return { items: from(url) === 0 ? [job(2)] : [job(1)], links: from(url) === 0 ? after(1) : {} };
  });
  const list = new JobList({ tag: "rare" });
  await list.readTo(1);
  const renewed = list.renew([], { withNew: true });
  await list.readTo(40);
  gate.resolve();
  await renewed;
  assert.deepEqual(
    list.jobs.value.map(({ id }) => id),
    ["job-2", "job-1"],
  );
});

test("looks for new jobs take a twentieth of the time: with each beat where they are cheap, seldom where they are not", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: startMs });
  let tookMs = 5;
  const asked = serve(t, () => {
    t.mock.timers.setTime(Date.now() + tookMs);
    return { items: [job(1)], links: after(1) };
  });
  const list = new JobList({ tag: "rare" });
  const looks = async (beats: number): Promise<number> => {
    const before = asked.length;
    for (let beat = 0; beat < beats; beat++) {
      await list.renew([], { withNew: true });
      t.mock.timers.setTime(Date.now() + 2_000);
    }
    return asked.length - before;
  };
  assert.equal(await looks(5), 5);
  tookMs = 1_000;
  assert.ok((await looks(31)) <= 4);
  tookMs = 0;
  await looks(11);
  assert.equal(await looks(3), 3, "it is quick again once the server is");
});

test("when more jobs came than a page holds, the list begins anew, with none left out", async (t) => {
  let newest = 1;
  const page = (first: number): Answer => ({
    items: [job(first), job(first - 1)].filter(({ id }) => id !== "job-0"),
    links: first > 2 ? after(first - 2) : {},
  });
  serve(t, (url) => page(from(url) || newest));
  const list = new JobList({ tag: "rare" });
  await list.readTo(40);
  newest = 7;
  await list.renew([], { withNew: true });
  assert.deepEqual(
    list.jobs.value.map(({ id }) => id),
    [7, 6, 5, 4, 3, 2, 1].map((at) => `job-${at}`),
  );
});

test("a retry is offered for jobs whose inputs outlive them, which are dead letters alone", () => {
  const error = (code: string, retryable: boolean) => ({ code, retryable, detail: "" });
  assert.ok(mayRetry({ state: "failed", error: error("run_failed", true) }));
  assert.ok(mayRetry({ state: "failed", error: error("poison", false) }));
  assert.ok(!mayRetry({ state: "failed", error: error("run_failed", false) }), "the model refuses these inputs");
  assert.ok(!mayRetry({ state: "cancelled", error: error("cancelled", false) }));
  assert.ok(!mayRetry({ state: "expired", error: error("expired", false) }));
  for (const state of ["queued", "running", "succeeded", "failed"] as const) assert.ok(!mayRetry({ state }));
});
