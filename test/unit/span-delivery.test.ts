import assert from "node:assert/strict";
import { test } from "node:test";
import { AlwaysOnSampler, BatchSpanProcessor, type SpanExporter, TracerProvider } from "@opentelemetry/sdk-trace";
import { SpanDelivery, type SpanResult } from "@switchyard/protocol";

test("each span is counted once: delivered, failed, or dropped because too many waited", async () => {
  const counts: Record<SpanResult, number> = { delivered: 0, failed: 0, dropped: 0 };
  const told: string[] = [];
  const delivery = new SpanDelivery(
    {
      count: (result, spans) => {
        counts[result] += spans;
      },
      failing: (why) => told.push(why),
      delivering: () => told.push("delivering"),
    },
    3,
  );
  const seen: number[] = [];
  const collector: SpanExporter = {
    export: (spans, done) => {
      seen.push(spans.length);
      done({ code: 1, error: new Error("away") });
    },
    shutdown: async () => {},
  };
  const batches = new BatchSpanProcessor({
    exporter: delivery.exporter(collector),
    scheduledDelayMillis: 60_000,
    maxQueueSize: 3,
    maxExportBatchSize: 3,
  });
  const provider = new TracerProvider({ sampler: new AlwaysOnSampler(), spanProcessors: [delivery, batches] });
  const tracer = provider.getTracer("test");
  const flush = (): Promise<void> => batches.forceFlush().catch(() => {});

  for (let round = 0; round < 2; round++) {
    for (let at = 0; at < 2; at++) tracer.startSpan("one").end();
    await flush();
  }
  assert.deepEqual([counts, told], [{ delivered: 0, failed: 4, dropped: 0 }, ["away"]]);

  // a batch that is full goes by itself, and only one at a time: hold it
  let release = (): void => {};
  collector.export = (spans, done) => {
    seen.push(spans.length);
    release = () => done({ code: 0 });
  };
  for (let at = 0; at < 3 + 5; at++) tracer.startSpan("one").end();
  assert.equal(counts.dropped, 2, "three are under way, three wait");
  release();
  await new Promise(setImmediate);
  release();
  await new Promise(setImmediate);
  assert.deepEqual([counts, told, seen], [{ delivered: 6, failed: 4, dropped: 2 }, ["away", "delivering"], [2, 2, 3, 3]]);
  await provider.shutdown();
});
