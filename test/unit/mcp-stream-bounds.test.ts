import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { bounded, type StreamBounds } from "../../coordinator/src/doors/mcp/stream-bounds.ts";

function open(bounds: StreamBounds) {
  let source!: ReadableStreamDefaultController<Uint8Array>;
  const told: string[] = [];
  const from = new ReadableStream<Uint8Array>({
    start(controller) {
      source = controller;
    },
    cancel: () => void told.push("left"),
  });
  const stream = bounded(from, { ...bounds, behind: () => void told.push("behind"), end: () => void told.push("end") });
  return { source, told, text: () => new Response(stream).text() };
}

const event = (bytes: number) => new Uint8Array(bytes).fill(0x61);

test("a reader that leaves too much unread is dropped, but one event may be as large as it is", async () => {
  const { source, told, text } = open({ maxBehindBytes: 10 });
  source.enqueue(event(100));
  await turn();
  assert.deepEqual(told, []);
  source.enqueue(event(1));
  await turn();
  assert.deepEqual(told, ["left", "behind", "end"]);
  await assert.rejects(text(), /too far behind/);
});

test("what is read in time comes whole, after a comment where that is asked for", async () => {
  const { source, told, text } = open({ maxBehindBytes: 10, opening: true });
  const read = text();
  for (let count = 0; count < 100; count++) {
    source.enqueue(event(50));
    await turn();
  }
  source.close();
  assert.equal(await read, `: open\n\n${"a".repeat(5_000)}`);
  await turn();
  assert.deepEqual(told, ["end"]);
});

test("a signal ends the stream in order, and what fails at its source fails here", async () => {
  const over = new AbortController();
  const ended = open({ signal: over.signal });
  ended.source.enqueue(event(3));
  await turn();
  over.abort();
  assert.equal(await ended.text(), "aaa");
  await turn();
  assert.deepEqual(ended.told, ["left", "end"]);
  const broken = open({});
  broken.source.error(new Error("it broke"));
  await assert.rejects(broken.text(), /it broke/);
  const late = open({ signal: AbortSignal.abort() });
  assert.equal(await late.text(), "");
});
