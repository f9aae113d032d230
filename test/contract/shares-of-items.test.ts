/** Shares are of items, whatever jobs they come in: flows whose jobs differ in size, or whose jobs cannot be in one batch, on both stores. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { NewJob } from "../../coordinator/src/ports/job-store.ts";
import { redisRigs } from "../support/file-rigs.ts";
import { type JobRig, succeeded } from "../support/job-rig.ts";
import { memoryRig } from "../support/memory-rig.ts";

const rigs = await redisRigs();

/** A flow that always has jobs waiting. */
interface Sender extends Partial<NewJob> {
  items: number;
  /** How many; default 12. */
  most?: number;
  /** Of its n-th job; default: all alike. */
  shapeOf?: (job: number) => string;
}

/** As texts have that are all of different lengths: nobody's jobs can share a batch. */
const unlike = (job: number): string => `x:FP32[${job}]`;
/** Some that can, now and then. */
const sometimesAlike = (job: number): string => `x:FP32[${(job * 7_919) % 5}]`;

/** Items of each sender that were served in so many batches, while all of them always had some waiting. */
async function served(rig: JobRig, senders: readonly Sender[], { batches, maxItems }: { batches: number; maxItems: number }) {
  const ids = new Map<string, number>();
  const waiting = senders.map(() => 0);
  const items = senders.map(() => 0);
  const counts: number[] = [];
  const batchesOf: number[][] = [];
  let latestStartMs = 1_000_000;
  const fill = async (): Promise<void> => {
    for (const [at, { most = 12, shapeOf, ...job }] of senders.entries()) {
      for (; waiting[at]! < most; waiting[at]! += 1) {
        latestStartMs += 1; // the order is the same on every store
        const shape = shapeOf && { shapeClass: shapeOf(latestStartMs) };
        ids.set(await rig.admit({ timeoutMs: 3_600_000, latestStartMs, ...job, ...shape }, 1, 8), at);
      }
    }
  };
  await fill();
  const { host, ticket } = await rig.hostWithTicket();
  for (let batch = 0; batch < batches; batch++) {
    const jobs = await host.batch(ticket, { maxItems });
    counts.push(jobs.reduce((sum, job) => sum + senders[ids.get(job.id)!]!.items, 0));
    batchesOf.push(jobs.map(({ id }) => ids.get(id)!));
    for (const { id } of jobs) {
      const at = ids.get(id)!;
      waiting[at]! -= 1;
      items[at]! += senders[at]!.items;
    }
    await host.commit(
      ticket,
      jobs.map((job) => succeeded(job)),
    );
    await fill();
  }
  return { items, counts, batchesOf };
}

function assertShares(items: readonly number[], due: readonly number[], most = 0.05): void {
  const sum = items.reduce((all, one) => all + one, 0);
  const parts = due.reduce((all, one) => all + one, 0);
  for (const [at, part] of due.entries())
    assert.ok(Math.abs(items[at]! / sum - part / parts) <= most, `${items} of ${sum} items, due ${due}`);
}

function sentences(open: () => JobRig): void {
  test("a class whose jobs are as large as a batch gets no more than its share", async () => {
    const senders: Sender[] = [
      { class: "interactive", items: 1 },
      { class: "batch", items: 8 },
    ];
    const { items, counts } = await served(open(), senders, { batches: 60, maxItems: 8 });
    assertShares(items, [70, 5]);
    assert.ok(
      counts.every((count) => count === 8),
      `every batch is full: ${counts}`,
    );
  });

  test("a few small jobs at a time pay for the slots that they leave empty while large ones wait", async () => {
    const senders: Sender[] = [
      { class: "interactive", items: 1, most: 4 },
      { class: "batch", items: 16 },
    ];
    const { items } = await served(open(), senders, { batches: 60, maxItems: 16 });
    // each batch of four costs 16 / 70, a large job 16 / 5: one in fourteen
    assert.ok(items[1]! >= 3 * 16 && items[1]! <= 6 * 16, `${items}`);
  });

  test("who leads a batch that nobody else fits into is not served again before the others", async () => {
    const two = await served(
      open(),
      ["a", "b"].map((tenant) => ({ tenant, items: 1, shapeOf: unlike })),
      { batches: 40, maxItems: 16 },
    );
    assertShares(two.items, [1, 1]);
    const three = await served(
      open(),
      ["a", "b", "c"].map((tenant) => ({ tenant, items: 1, shapeOf: sometimesAlike })),
      { batches: 60, maxItems: 16 },
    );
    assertShares(three.items, [1, 1, 1]);
    const weighed = await served(
      open(),
      [
        { tenant: "heavy", tenantWeight: 3, items: 10 },
        { tenant: "light", items: 10 },
      ],
      { batches: 60, maxItems: 16 },
    );
    assertShares(weighed.items, [3, 1]);
  });

  test("tenants share items by their weights, though the jobs of one are larger", async () => {
    const senders: Sender[] = [
      { tenant: "small", tenantWeight: 3, items: 1 },
      { tenant: "large", tenantWeight: 1, items: 5 },
    ];
    const { items } = await served(open(), senders, { batches: 60, maxItems: 8 });
    assertShares(items, [3, 1]);
  });

  test("each batch is shared by items, not by jobs", async () => {
    const rig = open();
    const senders = ["one", "other"];
    for (let at = 0; at < 8; at++)
      for (const tenant of senders) await rig.admit({ timeoutMs: 3_600_000, tenant, items: 2, latestStartMs: 1_000_000 + at }, 1, 8);
    const { host, ticket } = await rig.hostWithTicket();
    for (let batch = 0; batch < 3; batch++) {
      const jobs = await host.batch(ticket, { maxItems: 8 });
      const tenants = await Promise.all(jobs.map(async ({ id }) => (await rig.record(id)).tenant));
      assert.deepEqual(tenants.sort(), ["one", "one", "other", "other"]);
      await host.commit(
        ticket,
        jobs.map((job) => succeeded(job)),
      );
    }
  });

  test("a tenant whose jobs are larger than a batch owes what they take", async () => {
    const senders: Sender[] = [
      { tenant: "small", items: 1 },
      { tenant: "huge", items: 40 },
    ];
    const { items } = await served(open(), senders, { batches: 80, maxItems: 8 });
    assertShares(items, [1, 1], 0.08);
  });

  test("tenants whose jobs cannot be in one batch share by their weights", async () => {
    const senders: Sender[] = [
      { tenant: "heavy", tenantWeight: 3, items: 1, shapeClass: "x:FP32[4]" },
      { tenant: "light", tenantWeight: 1, items: 1, shapeClass: "x:FP32[5]" },
    ];
    const { items } = await served(open(), senders, { batches: 40, maxItems: 8 });
    assertShares(items, [3, 1]);
  });
}

describe("the Redis store", () => sentences(() => rigs.rig()));

describe("the memory store", () => sentences(() => memoryRig()));

test("both stores take the same batches of many flows, shapes and weights", async () => {
  const classes = ["interactive", "standard", "batch"] as const;
  const senders: Sender[] = Array.from({ length: 7 }, (_, at) => ({
    ...{ class: classes[at % 3]!, tenant: `tenant-${at}`, tenantWeight: 1 + (at % 4), items: 1, most: 1 + 3 * at },
    ...(at % 2 === 0 && { shapeOf: sometimesAlike }),
  }));
  const many: Sender[] = ["a", "b", "c", "d"].map((tenant) => ({ tenant, items: 1, most: 70 }));
  const wide = { batches: 2, maxItems: 400 };
  const batches = (await served(rigs.rig(), many, wide)).batchesOf;
  assert.deepEqual(batches, (await served(memoryRig(), many, wide)).batchesOf);
  assert.equal(batches[0]!.length, 128, "as many jobs as a claim takes");
  for (const maxItems of [3, 8, 200]) {
    const wish = { batches: 40, maxItems };
    assert.deepEqual(
      (await served(rigs.rig(), senders, wish)).batchesOf,
      (await served(memoryRig(), senders, wish)).batchesOf,
      `${maxItems}`,
    );
  }
});
