/** How the console stays current: what it hears and when, in a page that is seen and hidden by this test. */

import assert from "node:assert/strict";
import { after, before, describe, type TestContext, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { lendGlobal } from "../support/lent-global.ts";

const takeStorage = lendGlobal("sessionStorage", { getItem: () => null }); // read once, when the modules are loaded
const { isAway } = await import("../../console/src/api.ts");
const { beat, overview, stayCurrent } = await import("../../console/src/live.ts");
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

/** A server whose streams stay open until their reader goes; `open` counts them. */
function serve(t: TestContext): { open: number; begun: number } {
  const streams = { open: 0, begun: 0 };
  t.mock.method(globalThis, "fetch", async (_path: string, { signal }: { signal: AbortSignal }) => {
    streams.open++;
    streams.begun++;
    const at = String(streams.begun);
    const body = new ReadableStream<Uint8Array>({
      start(to) {
        to.enqueue(new TextEncoder().encode(event(at)));
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
    for (const signal of [caller, keyFault, overview]) signal.value = undefined;
    isAway.value = false;
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
});
