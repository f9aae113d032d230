/** What the counting of a call's messages does when its stream has closed under it. grpc-js's own call is a fake. */

import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";
import { Metadata } from "@grpc/grpc-js";
import { BodyBudget } from "../../coordinator/src/doors/body-budget.ts";
import type { CallEnds } from "../../coordinator/src/doors/grpc-calls.ts";
import { countMessages, heldBy } from "../../coordinator/src/doors/grpc-messages.ts";

const largeBytes = 100_000;

test("a message that is taken when its call has closed gives nothing back twice and counts nothing again", () => {
  const bodies = new BodyBudget(2 * largeBytes);
  let waits = 0;
  const clock = {
    monotonicMs: () => 0,
    after: () => {
      waits++;
      return () => void waits--;
    },
  };
  const metadata = new Metadata();
  const stream = Object.assign(new EventEmitter(), { close() {} });
  const inner = {
    stream,
    decompressMessage: (framed: Buffer) => framed.subarray(5),
    start: (listener: { onReceiveMetadata(metadata: Metadata): void }) => listener.onReceiveMetadata(metadata),
    startRead() {},
  };
  const ends = { context: { bodies, clock, config: { maxBodyBytes: largeBytes } } } as unknown as CallEnds;
  const methodDefinition = { path: "/inference.GRPCInferenceService/ModelStreamInfer", requestStream: true } as never;
  const call = countMessages(ends)(methodDefinition, inner as never);
  call.start({ onReceiveMetadata() {}, onReceiveMessage() {}, onReceiveHalfClose() {}, onCancel() {} });

  const framed = Buffer.alloc(largeBytes);
  stream.emit("data", Buffer.concat([framed, framed]));
  const [message] = [0, 1].map(() => inner.decompressMessage(framed));
  const other = bodies.body();
  assert.ok(!other.has(largeBytes));
  stream.emit("close");
  heldBy(metadata).decoded(message!); // of two the other one is left
  assert.ok(other.has(2 * largeBytes), "all of the budget is there");
  assert.equal(waits, 0);
});
