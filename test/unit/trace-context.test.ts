import assert from "node:assert/strict";
import { test } from "node:test";
import { readTraceContext, readTraceWord, traceparentOf, traceWordOf } from "@switchyard/protocol";

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
const spanId = "00f067aa0ba902b7";
const parent = `00-${traceId}-${spanId}-01`;

test("a traceparent is read and written again", () => {
  const context = readTraceContext(parent);
  assert.deepEqual(context, { traceId, spanId, isSampled: true });
  assert.equal(traceparentOf(context!), parent);
  assert.equal(readTraceContext(`00-${traceId}-${spanId}-00`)?.isSampled, false);
  assert.equal(readTraceContext(`00-${traceId}-${spanId}-03`)?.isSampled, true);
});

test("a later version is read as far as it is known, and what is no context is none", () => {
  assert.deepEqual(readTraceContext(`cc-${traceId}-${spanId}-01-what-comes`), { traceId, spanId, isSampled: true });
  for (const wrong of [
    undefined,
    "",
    "00",
    `ff-${traceId}-${spanId}-01`,
    `00-${traceId}-${spanId}-01-more`,
    `00-${traceId.toUpperCase()}-${spanId}-01`,
    `00-${"0".repeat(32)}-${spanId}-01`,
    `00-${traceId}-${"0".repeat(16)}-01`,
    `00-${traceId}-${spanId}`,
    `${parent}\n`,
  ])
    assert.equal(readTraceContext(wrong), undefined, wrong);
});

test("a tracestate goes along where it can be carried", () => {
  assert.equal(readTraceContext(parent, "a=1,b=2")?.state, "a=1,b=2");
  for (const wrong of ["", "x".repeat(513), "a=\n", "ä=1"]) assert.equal(readTraceContext(parent, wrong)?.state, undefined, wrong);
});

test("a context is one word without spaces and quotes, whatever its state holds", () => {
  const context = { traceId, spanId, isSampled: true, state: `vendor=a b;c"d\\e,other="x"` };
  const word = traceWordOf(context);
  assert.match(word, /^[^\s"\\]+$/);
  assert.deepEqual(readTraceWord(word), context);
  assert.deepEqual(readTraceWord(parent), { traceId, spanId, isSampled: true });
  assert.equal(readTraceWord("nothing"), undefined);
});
