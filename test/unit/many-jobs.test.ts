/** The console's changes of many jobs, against a server that answers from memory: what is done, what is refused, and when it gives up. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { RequeuedView } from "@switchyard/protocol";
import { lendGlobal } from "../support/lent-global.ts";

const takeStorage = lendGlobal("sessionStorage", { getItem: () => null }); // read once, when the modules are loaded
const { bulkCancel, bulkRequeue, changeAll, changeEach, countAll, outcomeText } = await import("../../console/src/many-jobs.ts");
const { ask } = await import("../../console/src/api.ts");
takeStorage();

type Item = RequeuedView["items"][number];

const full = { code: "store_full", detail: "no memory left", retryable: true };
const gone = { code: "inputs_expired", detail: "the inputs of this job are gone", retryable: false };
const done = (id: string): Item => ({ id, retried_as: `${id}-again` });
const refused = (id: string, error: Item["error"]): Item => ({ id, error: error! });

/** Answers page after page, as the server would; asked for more it fails the test. */
function serve(t: TestContext, pages: { items: Item[]; next?: string }[]): string[] {
  const asked: string[] = [];
  t.mock.method(globalThis, "fetch", async (path: string) => {
    asked.push(path);
    const { items, next } = pages[asked.length - 1] ?? assert.fail(`it asks without end: ${path}`);
    const count = items.filter(({ error }) => error !== undefined).length;
    const links = next === undefined ? {} : { next: `/v1/dead-letters:requeue?limit=200&cursor=${next}` };
    return Response.json({ requeued: items.length - count, refused: count, items, links } satisfies RequeuedView);
  });
  return asked;
}

/** What the dialog says in the end. */
async function requeued(): Promise<string> {
  let text = "";
  await changeAll(bulkRequeue({}), {
    signal: new AbortController().signal,
    onPage: (outcome) => {
      text = outcomeText(outcome);
    },
  });
  return text;
}

test("requeuing stops when a full store lets nothing through, and says how many it refused and why", async (t) => {
  const asked = serve(t, [
    { items: [done("a"), refused("b", full)], next: "0" },
    { items: [refused("b", full)], next: "0" },
  ]);
  assert.equal(
    await requeued(),
    "Done: 1. Refused: 1; the first, because: no memory left [store_full]. The rest was left as it was; try again later.",
  );
  assert.equal(asked.length, 2);
});

test("a page of refusals that may pass ends it: the pages behind it would only be refused too", async (t) => {
  const busy = { code: "queue_full", detail: "too many jobs wait", retryable: true };
  const asked = serve(t, [{ items: [refused("a", busy), refused("b", busy)], next: "2" }]);
  assert.match(await requeued(), /^Done: 0\. Refused: 2; the first, because: too many jobs wait \[queue_full\]\. The rest/);
  assert.equal(asked.length, 1);
});

test("a page that comes again with nothing done ends it, whatever the refusals are", async (t) => {
  const asked = serve(t, [
    { items: [done("a")], next: "7" },
    { items: [refused("b", gone)], next: "7" },
  ]);
  assert.match(await requeued(), /^Done: 1\. Refused: 1; .* The rest was left as it was/);
  assert.equal(asked.length, 2);
});

test("letters whose inputs are gone do not keep those behind them from being requeued", async (t) => {
  serve(t, [{ items: [refused("a", gone), refused("b", gone)], next: "2" }, { items: [done("c")] }]);
  assert.equal(await requeued(), "Done: 1. Refused: 2; the first, because: the inputs of this job are gone [inputs_expired].");
});

test("a letter that the store refused once and then took is no refusal", async (t) => {
  serve(t, [{ items: [done("a"), refused("b", full)], next: "0" }, { items: [done("b")] }]);
  assert.equal(await requeued(), "Done: 2.");
});

test("what a filter names is counted without being changed, and cancelled page by page", async (t) => {
  const asked: URL[] = [];
  t.mock.method(globalThis, "fetch", async (path: string) => {
    const url = new URL(path, "http://localhost");
    asked.push(url);
    const isLast = url.searchParams.has("cursor");
    url.searchParams.set("cursor", "1");
    const links = isLast ? {} : { next: `${url.pathname}${url.search}` };
    return Response.json({ dry_run: url.searchParams.has("dry_run"), matched: 3, changed: 2, links });
  });
  const { signal } = new AbortController();
  const bulk = bulkCancel({ tag: "night" });
  assert.deepEqual(await countAll(bulk, signal), { jobs: 6, isAll: true });
  assert.ok(asked.every(({ searchParams }) => searchParams.get("dry_run") === "true"));
  const told: number[] = [];
  await changeAll(bulk, { signal, onPage: (outcome) => void told.push(outcome.done) });
  assert.deepEqual(told, [2, 4]);
  assert.ok(asked.slice(2).every(({ searchParams }) => !searchParams.has("dry_run") && searchParams.get("tag") === "night"));
});

test("a job of a selection that is refused does not keep the others from their turn", async (t) => {
  t.mock.method(globalThis, "fetch", async (path: string) =>
    path.endsWith("b")
      ? Response.json({ code: "job_already_ended", detail: "The job has already ended: succeeded" }, { status: 409 })
      : Response.json({}),
  );
  const outcome = await changeEach(["a", "b", "c"], (id) => ask(`/v1/jobs/${id}`, { method: "DELETE" }));
  assert.deepEqual([...outcome.refused.keys()], ["b"]);
  assert.equal(outcomeText(outcome), "Done: 2. Refused: 1; the first, because: The job has already ended: succeeded [job_already_ended].");
});

test("what holds one job up holds all up, and who has left changes nothing more", async (t) => {
  const asked: string[] = [];
  t.mock.method(globalThis, "fetch", async (path: string) => {
    asked.push(path);
    if (path.endsWith("/a")) return Response.json({});
    return Response.json({ code: "store_unavailable", detail: "the store does not answer" }, { status: 503 });
  });
  const change = (id: string) => ask(`/v1/jobs/${id}`, { method: "DELETE" });
  const held = await changeEach(["a", "b", "c", "d"], change);
  assert.equal(
    outcomeText(held),
    "Done: 1. Refused: 1; the first, because: the store does not answer [store_unavailable]. The rest was left as it was; try again later.",
  );
  assert.equal(asked.length, 2);
  const left = new AbortController();
  const leave = (id: string) => {
    left.abort();
    return change(id);
  };
  const cut = await changeEach(["a", "a", "a"], leave, left.signal);
  assert.deepEqual([cut.done, cut.isCut, asked.length], [1, true, 3]);
});
