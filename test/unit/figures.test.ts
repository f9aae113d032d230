/** Figures of the last minutes: what is counted, added up over coordinators, and read back. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { OverviewView, TenantView } from "@switchyard/protocol";
import { prometheusMetrics } from "../../coordinator/src/adapters/prometheus-metrics.ts";
import { type Caller, localCaller } from "../../coordinator/src/application/caller.ts";
import {
  addSlot,
  emptySlot,
  modelIn,
  observe,
  otherName,
  quantileMs,
  type Spread,
} from "../../coordinator/src/application/figure-slots.ts";
import { Figures, slotMs } from "../../coordinator/src/application/figures.ts";
import type { JobNotice } from "../../coordinator/src/ports/job-store.ts";
import { fakeModels } from "../support/fake-job-service.ts";
import { memoryBoard, memoryOverview } from "../support/memory-figures.ts";

const startMs = 1_000_000 * slotMs;
const models = fakeModels(["one", "two"].map((model) => ({ model, version: 1, signature: { inputs: [], outputs: [] } })));
const hosts = { list: () => [], matching: () => 1 };

function cluster(coordinators: number) {
  const left = new Map<number, Map<string, string>>();
  const clock = { nowMs: startMs };
  const each = Array.from({ length: coordinators }, (_, at) => {
    const board = memoryBoard(left, `coordinator ${at}`);
    const figures = new Figures({ board, nowMs: () => clock.nowMs });
    const metrics = figures.counting(prometheusMetrics({ version: "1", processMetrics: false }));
    return { board, figures, metrics, overview: memoryOverview({ hosts, models, figures, nowMs: () => clock.nowMs }) };
  });
  const leave = async (): Promise<void> => {
    for (const { figures } of each) await figures.leave();
  };
  return { clock, each, leave };
}

const notice = (more: Partial<JobNotice>): JobNotice => ({
  ...{ id: "j", state: "succeeded", revision: 3, fence: 1, createdMs: 0, startedMs: 10, finishedMs: 20, deadlineMs: 1_000, attempt: 1 },
  ...{ runMs: 8, batchItems: 4, items: 1, class: "standard", tenant: "red", counts: true },
  ...more,
});

test("a quantile is within a tenth of the truth, and there is none of nothing", () => {
  const spread: Spread = {};
  for (let ms = 1; ms <= 1_000; ms++) observe(spread, ms);
  for (const [share, expected] of [
    [0.5, 500],
    [0.95, 950],
    [0.99, 990],
  ] as const) {
    const found = quantileMs(spread, share) as number;
    assert.ok(Math.abs(found - expected) / expected < 0.1, `${share}: ${found}, not about ${expected}`);
  }
  assert.equal(quantileMs({}, 0.5), null);
  const extremes: Spread = {};
  for (const ms of [0, 1e12]) observe(extremes, ms);
  assert.equal(Object.keys(extremes).length, 2);
});

test("a slot keeps apart only so many models, and loses none of their jobs", () => {
  const slot = emptySlot();
  for (let at = 0; at < 200; at++) modelIn(slot, `model-${at}`).admitted += 1;
  assert.ok(Object.keys(slot.models).length <= 65);
  assert.ok((slot.models[otherName]?.admitted ?? 0) >= 135);
  const twice = emptySlot();
  addSlot(twice, slot);
  addSlot(twice, slot);
  assert.equal(
    Object.values(twice.models).reduce((sum, { admitted }) => sum + admitted, 0),
    400,
  );
  assert.equal(modelIn(emptySlot(), "constructor").admitted, 0);
});

test("every coordinator shows what all of them counted, once a slot is over", async () => {
  const { clock, each, leave } = cluster(2);
  const [first, second] = each as [(typeof each)[number], (typeof each)[number]];
  for (const { metrics } of each) {
    metrics.admitted("one", "standard");
    metrics.finished("one", "standard", "succeeded", { e2eSeconds: 0.02, queueSeconds: 0.01 });
  }
  second.metrics.admitted("two", "standard");
  second.metrics.finished("two", "standard", "expired", { e2eSeconds: 1 });
  second.metrics.rejected("two", "standard", "queue_full");
  await leave();
  const early = await first.overview.view(localCaller);
  assert.equal(early.view.recent.offered, 0, "the slot is not over");
  clock.nowMs += 3 * slotMs;
  await leave();
  const views = await Promise.all(each.map(async ({ overview }) => (await overview.view(localCaller)).view));
  for (const { recent, series } of views as OverviewView[]) {
    assert.deepEqual([recent.offered, recent.succeeded, recent.expired, recent.refused, recent.refusals], [4, 2, 1, 1, { queue_full: 1 }]);
    assert.ok(Math.abs((recent.total_ms.p50 as number) - 20) < 2);
    assert.equal(series.length, 150);
    assert.equal(series.filter(({ offered }) => offered > 0).length, 1);
  }
  const narrow: Caller = { ...localCaller, models: new Set(["one"]), scopes: new Set(["read"]) };
  const { view } = await first.overview.view(narrow);
  assert.deepEqual([view.recent.offered, view.recent.refused, view.now.hosts], [2, 0, undefined]);
  clock.nowMs += 60_000 + 2 * slotMs;
  assert.equal((await first.overview.view(localCaller)).view.recent.offered, 0, "a minute is over");
});

test("the store is asked once for each slot, however many look", async () => {
  const { clock, each } = cluster(1);
  const { board, overview } = each[0] as (typeof each)[number];
  await Promise.all(Array.from({ length: 20 }, () => overview.view(localCaller)));
  assert.equal(board.reads, 1);
  await overview.view(localCaller);
  assert.equal(board.reads, 1);
  clock.nowMs += slotMs;
  await overview.view(localCaller);
  assert.equal(board.reads, 2);
});

test("what slots hold is added up once for all who may use the same models, until a slot is new", async () => {
  const { clock, each, leave } = cluster(1);
  const { metrics, overview } = each[0] as (typeof each)[number];
  metrics.admitted("one", "standard");
  clock.nowMs += 3 * slotMs;
  await leave();
  const narrow: Caller = { ...localCaller, models: new Set(["two"]) };
  const [first, second, other] = await Promise.all([localCaller, { ...localCaller }, narrow].map((caller) => overview.view(caller)));
  assert.equal(first!.view.series.length, 150);
  assert.ok(first!.view.series.every((point, at) => point === second!.view.series[at]));
  assert.equal(first!.view.recent, second!.view.recent);
  assert.deepEqual([first!.view.recent.offered, other!.view.recent.offered], [1, 0]);
  clock.nowMs += slotMs;
  assert.notEqual((await overview.view(localCaller)).view.recent, first!.view.recent);
});

test("what queues hold now is added up once in half a second for all who look", async () => {
  const { clock, each } = cluster(1);
  const { figures, metrics, overview } = each[0] as (typeof each)[number];
  const { queues } = figures;
  let asked = 0;
  figures.queues = () => {
    asked += 1;
    return queues.call(figures);
  };
  metrics.queueFigures({ model: "one", version: 1, tag: "plain" }, { waiting: 4, running: 2, oldestSeconds: 1.5, dead: 1 });
  const narrow: Caller = { ...localCaller, models: new Set(["two"]), scopes: new Set(["read"]) };
  const views = await Promise.all([localCaller, localCaller, narrow].map((caller) => overview.view(caller)));
  assert.equal(asked, 1);
  const now = { queued: 4, running: 2, oldest_ms: 1_500, dead_letters: 1 };
  assert.deepEqual(views[1]!.view.now, { ...now, hosts: { ready: 0, draining: 0, lost: 0 } });
  assert.deepEqual(views[2]!.view.now, { queued: 0, running: 0, oldest_ms: 0, dead_letters: 0 });
  metrics.queueFigures({ model: "one", version: 1, tag: "plain" }, { waiting: 5, running: 2, oldestSeconds: 1.5, dead: 1 });
  clock.nowMs += 500;
  assert.equal((await overview.view(localCaller)).view.now.queued, 5);
});

test("what a reader has had of the series it is not told again", async () => {
  const { clock, each } = cluster(1);
  const { overview } = each[0] as (typeof each)[number];
  const { lastSlot } = await overview.view(localCaller);
  assert.equal((await overview.view(localCaller, lastSlot)).view.series.length, 0);
  clock.nowMs += 3 * slotMs;
  assert.equal((await overview.view(localCaller, lastSlot)).view.series.length, 3);
});

test("a slot that the store does not take is left later", async () => {
  const left: number[] = [];
  let isAway = true;
  let nowMs = startMs;
  const board = {
    leave: async (slot: number) => {
      if (isAway) throw new Error("away");
      left.push(slot);
    },
    read: async (slots: readonly number[]) => slots.map(() => []),
  };
  const figures = new Figures({ board, nowMs: () => nowMs });
  figures.ended(notice({}));
  nowMs += slotMs;
  await assert.rejects(figures.leave());
  isAway = false;
  await figures.leave();
  await figures.leave();
  assert.deepEqual(left, [startMs / slotMs]);
});

test("a coordinator that drains leaves also the slot that is not over", async () => {
  const { clock, each } = cluster(2);
  const [first, second] = each as [(typeof each)[number], (typeof each)[number]];
  first.metrics.admitted("one", "standard");
  await first.figures.leave({ all: true });
  clock.nowMs += 3 * slotMs;
  assert.equal((await second.overview.view(localCaller)).view.recent.offered, 1);
});

test("what was left is not lost when the store's clock steps back into its slot", async () => {
  const { clock, each, leave } = cluster(1);
  const { metrics, overview } = each[0] as (typeof each)[number];
  metrics.admitted("one", "standard");
  clock.nowMs += slotMs;
  await leave();
  clock.nowMs -= slotMs;
  metrics.admitted("one", "standard");
  await leave();
  clock.nowMs += 3 * slotMs;
  await leave();
  assert.equal((await overview.view(localCaller)).view.recent.offered, 2);
});

test("a slot that a coordinator leaves late is counted yet, and a slot that is long over is read no more", async () => {
  const { clock, each } = cluster(2);
  const [late, reader] = each as [(typeof each)[number], (typeof each)[number]];
  late.metrics.admitted("one", "standard");
  clock.nowMs += 3 * slotMs;
  assert.equal((await reader.overview.view(localCaller)).view.recent.offered, 0);
  await late.figures.leave();
  clock.nowMs += slotMs;
  assert.equal((await reader.overview.view(localCaller)).view.recent.offered, 1);
  const asked: number[] = [];
  const { board } = reader;
  const { read } = board;
  board.read = (slots) => {
    asked.push(slots.length);
    return read.call(board, slots);
  };
  clock.nowMs += slotMs;
  await reader.overview.view(localCaller);
  assert.ok(asked.length === 1 && asked[0]! < 30, `${asked} slots were read for one that is new`);
});

test("a clock that jumps during a read costs a view its figures, and never its end", async () => {
  const { clock, each } = cluster(1);
  const { board, overview } = each[0] as (typeof each)[number];
  const { read } = board;
  board.read = async (slots) => {
    assert.ok(board.reads < 10, "it reads without end");
    clock.nowMs += 3_600_000;
    return read.call(board, slots);
  };
  assert.equal((await overview.view(localCaller)).view.series.length, 150);
  board.read = read;
  clock.nowMs = startMs;
  assert.equal((await overview.view(localCaller)).view.series.length, 150);
});

test("tenants are shown with their share of the device time: of a batch, what their items are of it", async () => {
  const { clock, each, leave } = cluster(1);
  const { figures, overview } = each[0] as (typeof each)[number];
  figures.ended(notice({ tenant: "red", runMs: 8, batchItems: 4, items: 3 }));
  figures.ended(notice({ tenant: "blue", runMs: 8, batchItems: 4, items: 1, startedMs: 40 }));
  figures.ended(notice({ tenant: "blue", state: "cancelled", startedMs: 0, runMs: 0, batchItems: 0 }));
  clock.nowMs += 3 * slotMs;
  await leave();
  const found = await overview.tenants(["red", "blue", "grey"].map((tenant) => ({ tenant, weight: 1, keys: [] })));
  const of = (name: string): NonNullable<TenantView["recent"]> => found.find(({ tenant }) => tenant === name)?.recent as never;
  assert.deepEqual([of("red").jobs, of("red").device_ms, of("red").device_share], [1, 6, 0.75]);
  assert.deepEqual([of("blue").jobs, of("blue").device_ms, of("blue").device_share], [2, 2, 0.25]);
  assert.ok(Math.abs((of("blue").queue_ms.p50 as number) - 40) < 4, "a job that never started has no wait until then");
  assert.deepEqual([of("grey").jobs, of("grey").device_share, of("grey").queue_ms.p50], [0, 0, null]);
});

test("queues are those of models that are there, with what was swept last", async () => {
  const { clock, each, leave } = cluster(1);
  const { figures, metrics } = each[0] as (typeof each)[number];
  const asked: string[][] = [];
  const waiting = async (tags: readonly string[]) => {
    if (tags.length > 0) asked.push([...tags]);
    return tags.map((tag) => ({ tag, tenant: "red", class: "batch" as const, jobs: 7 }));
  };
  const overview = memoryOverview({ hosts, models, figures, nowMs: () => clock.nowMs, store: { waiting } });
  assert.deepEqual(await overview.queues(localCaller), []);
  metrics.queueFigures({ model: "one", version: 1, tag: "plain" }, { waiting: 4, running: 2, oldestSeconds: 1, dead: 0 });
  metrics.queueFigures({ model: "one", version: 1, tag: "choosy" }, { waiting: 3, running: 0, oldestSeconds: 1.5, dead: 1 });
  metrics.finished("two", "batch", "succeeded", { e2eSeconds: 0.1 });
  clock.nowMs += 3 * slotMs;
  await leave();
  const rows = await overview.queues(localCaller);
  assert.deepEqual(
    rows.map(({ model, queued, running, oldest_ms, dead_letters }) => [model, queued, running, oldest_ms, dead_letters]),
    [
      ["one", 7, 2, 1_500, 1],
      ["two", 0, 0, 0, 0],
    ],
  );
  assert.deepEqual(asked, [[models.list()[0]?.version.tag]], "the store is asked only for queues in which jobs wait");
  assert.deepEqual(rows[0]?.waiting, [{ class: "batch", tenant: "red", jobs: 7 }]);
  const reader: Caller = { ...localCaller, scopes: new Set(["read"]) };
  assert.deepEqual((await overview.queues(reader))[0]?.waiting, [{ class: "batch", jobs: 7 }]);
  metrics.queueGone("choosy");
  assert.deepEqual(
    figures.queues().map(({ now }) => [now.waiting, now.dead]),
    [[4, 0]],
  );
  metrics.modelGone("one");
  assert.equal((await overview.view(localCaller)).view.now.queued, 0);
});
