/** How the console stays current: what it hears and when, in a page that is seen and hidden by this test. */

import assert from "node:assert/strict";
import { after, before, describe, type TestContext, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { lendGlobal } from "../support/lent-global.ts";

const takeStorage = lendGlobal("sessionStorage", { getItem: () => null }); // read once, when the modules are loaded
const { ask, isAway, listen } = await import("../../console/src/api.ts");
const { beat, overview, overviewFault, stayCurrent } = await import("../../console/src/live.ts");
const { caller, keyFault } = await import("../../console/src/session.ts");
takeStorage();
const page = Object.assign(new EventTarget(), { hidden: false });

function show(isSeen: boolean): void {
  page.hidden = !isSeen;
  page.dispatchEvent(new Event("visibilitychange"));
}

async function settle(): Promise<void> {
  for (let at = 0; at < 20; at++) await turn();
}

const event = (at: string): string => `id: 1\nevent: overview\ndata: ${JSON.stringify({ at, series: [{ at }] })}\n\n`;

interface Streams {
  open: number;
  begun: number;
  /** On the last one. */
  say: (text: string) => void;
}

/** A server whose streams stay open until their reader goes; `open` counts them. */
function serve(t: TestContext): Streams {
  const streams: Streams = { open: 0, begun: 0, say: () => {} };
  t.mock.method(globalThis, "fetch", async (_path: string, { signal }: { signal: AbortSignal }) => {
    streams.open++;
    streams.begun++;
    const at = String(streams.begun);
    const body = new ReadableStream<Uint8Array>({
      start(to) {
        streams.say = (text) => to.enqueue(new TextEncoder().encode(text));
        streams.say(event(at));
        signal.addEventListener("abort", () => {
          streams.open--;
          to.error(signal.reason);
        });
      },
    });
    return new Response(body);
  });
  return streams;
}

describe("what keeps the console current", () => {
  let takeDocument = (): void => {};
  before(() => {
    takeDocument = lendGlobal("document", page);
  });
  after(() => {
    takeDocument();
    for (const signal of [caller, keyFault, overview, overviewFault]) signal.value = undefined;
    beat.value = 0;
  });

  test("a page that nobody sees holds no stream, and hears again, with what it had, once it is seen", async (t) => {
    show(true);
    const streams = serve(t);
    const stop = new AbortController();
    t.after(() => stop.abort());
    const over = stayCurrent(stop.signal);
    await settle();
    assert.deepEqual([streams.open, overview.value?.at], [1, "1"]);
    show(false);
    await settle();
    assert.deepEqual([streams.open, streams.begun, overview.value?.at], [0, 1, "1"]);
    show(true);
    await settle();
    assert.deepEqual([streams.open, overview.value?.series.map(({ at }) => at)], [1, ["1", "2"]]);
    stop.abort();
    await over;
    assert.equal(streams.open, 0);
  });

  test("a page that is opened hidden asks for its stream when it is seen", async (t) => {
    show(false);
    const streams = serve(t);
    const stop = new AbortController();
    t.after(() => stop.abort());
    const over = stayCurrent(stop.signal);
    await settle();
    assert.equal(streams.begun, 0);
    show(true);
    await settle();
    assert.equal(streams.open, 1);
    stop.abort();
    await over;
  });

  test("a key that is refused in the middle is asked for anew", async (t) => {
    show(true);
    caller.value = { tenant: "red", scopes: ["read"] };
    const refusal = { code: "unauthenticated", detail: "The API key has expired" };
    t.mock.method(globalThis, "fetch", async () => Response.json(refusal, { status: 401 }));
    const stop = new AbortController();
    t.after(() => stop.abort());
    const over = stayCurrent(stop.signal);
    await settle();
    assert.deepEqual([caller.value, keyFault.value], [undefined, refusal.detail]);
    stop.abort();
    await over;
  });

  /** As the page stands after so long. */
  async function wait(t: TestContext, ms: number): Promise<void> {
    t.mock.timers.tick(ms);
    await settle();
  }

  test("a stream that ends without an event counts as lost until one comes, and the page of the same figures says why", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.now() + 60_000 });
    show(true);
    let isStoreAway = true;
    const detail = "the store does not answer; try again";
    t.mock.method(globalThis, "fetch", async (path: string) => {
      if (!path.endsWith("/events")) return Response.json({ code: "store_unavailable", detail }, { status: 503 });
      return new Response(isStoreAway ? "retry: 2000\n\n" : `retry: 2000\n\n${event("later")}`);
    });
    const told: boolean[] = [];
    t.after(isAway.subscribe((is) => void told.push(is)));
    const beats = beat.value;
    const stop = new AbortController();
    t.after(() => stop.abort());
    const over = stayCurrent(stop.signal);
    await settle();
    assert.deepEqual([isAway.value, overviewFault.value?.message, overview.value], [true, detail, undefined]);
    await wait(t, 500);
    await wait(t, 1_000);
    assert.deepEqual(told, [false, true], "it is not back as soon as a connection is answered");
    assert.ok(beat.value > beats + 1, "pages ask for themselves meanwhile");
    isStoreAway = false;
    await wait(t, 2_000);
    assert.deepEqual([told, overviewFault.value, overview.value?.at], [[false, true, false], undefined, "later"]);
    stop.abort();
    await over;
  });

  test("a stream that is refused for now says why what is shown is not current", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    show(true);
    const detail = "64 such streams are open, as many as may";
    t.mock.method(globalThis, "fetch", async () => Response.json({ code: "rate_limited", detail }, { status: 429 }));
    const stop = new AbortController();
    t.after(() => stop.abort());
    const over = stayCurrent(stop.signal);
    await settle();
    assert.deepEqual([isAway.value, overviewFault.value?.message], [true, detail]);
    stop.abort();
    await over;
    assert.equal(isAway.value, false, "nobody listens any more");
  });

  test("a stream that is silent for longer than its keep-alives are apart is ended, and begun anew", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    show(true);
    const streams = serve(t);
    const stop = new AbortController();
    t.after(() => stop.abort());
    const over = stayCurrent(stop.signal);
    await settle();
    await wait(t, 40_000);
    streams.say(": keep-alive\n\n");
    await settle();
    await wait(t, 40_000);
    assert.deepEqual([isAway.value, streams.open, streams.begun], [false, 1, 1]);
    await wait(t, 5_000);
    assert.deepEqual([isAway.value, streams.open, streams.begun], [true, 0, 1]);
    assert.match(overviewFault.value?.message ?? "", /nothing for 45 s/);
    await wait(t, 500);
    assert.deepEqual([isAway.value, streams.open, streams.begun, overviewFault.value], [false, 1, 2, undefined]);
    stop.abort();
    await over;
  });

  test("a job's stream that is refused is no lost connection of the whole console", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const problem = { code: "rate_limited", detail: "too many streams" };
    t.mock.method(globalThis, "fetch", async () => Response.json(problem, { status: 429 }));
    const stop = new AbortController();
    t.after(() => stop.abort());
    const told: (string | undefined)[] = [];
    const onLost = (error: Error | undefined): void => void told.push(error?.message);
    const over = listen("/v1/jobs/one/events", { signal: stop.signal, onEvent: () => assert.fail("there is none"), onLost });
    await settle();
    assert.deepEqual([isAway.value, told], [false, ["too many streams"]]);
    stop.abort();
    await over;
  });

  test("an answer that never comes is given up, unless it may be long", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    t.mock.method(
      globalThis,
      "fetch",
      (_path: string, { signal }: RequestInit) =>
        new Promise((_, reject) => signal!.addEventListener("abort", () => reject(new DOMException("it was aborted", "AbortError")))),
    );
    const given = assert.rejects(ask("/v1/queues"), /^Error: No answer came in 45 s$/);
    let isOver = false;
    const stop = new AbortController();
    const long = ask("/v1/models/one/graph", { mayBeLong: true, signal: stop.signal }).catch(() => {
      isOver = true;
    });
    await wait(t, 45_000);
    await given;
    assert.equal(isOver, false);
    stop.abort();
    await long;
  });

  test("a stream that is back is known by a keep-alive, where nothing has changed meanwhile", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    let begun = 0;
    t.mock.method(globalThis, "fetch", async () => new Response(++begun === 1 ? "retry: 2000\n\n" : ": keep-alive\n\n"));
    const stop = new AbortController();
    t.after(() => stop.abort());
    const over = listen("/v1/jobs/one/events", { signal: stop.signal, onEvent: () => assert.fail("there is none") });
    await settle();
    assert.equal(isAway.value, true);
    await wait(t, 500);
    assert.deepEqual([isAway.value, begun], [false, 2]);
    stop.abort();
    await over;
  });
});
