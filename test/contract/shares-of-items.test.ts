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
}

/** Items of each sender that were served in so many batches, while all of them always had some waiting. */
async function served(rig: JobRig, senders: readonly Sender[], { batches, maxItems }: { batches: number; maxItems: number }) {
  const ids = new Map<string, number>();
  const waiting = senders.map(() => 0);
  const items = senders.map(() => 0);
  const counts: number[] = [];
  const fill = async (): Promise<void> => {
    for (const [at, { most = 12, ...job }] of senders.entries()) {
      for (; waiting[at]! < most; waiting[at]! += 1) ids.set(await rig.admit({ timeoutMs: 3_600_000, ...job }, 1, 8), at);
    }
  };
  await fill();
  const { host, ticket } = await rig.hostWithTicket();
  for (let batch = 0; batch < batches; batch++) {
    const jobs = await host.batch(ticket, { maxItems });
    counts.push(jobs.reduce((sum, job) => sum + senders[ids.get(job.id)!]!.items, 0));
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
  return { items, counts };
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

  test("jobs as large as a batch are not passed over for ever by a few small ones that always come before them", async () => {
    const senders: Sender[] = [
      { class: "interactive", items: 1, most: 4 },
      { class: "batch", items: 16 },
    ];
    const { items } = await served(open(), senders, { batches: 40, maxItems: 16 });
    assert.ok(items[1]! >= 8 * 16, `${items}: what the small ones leave of a batch counts for the large ones`);
    assert.ok(items[0]! >= 20 * 4, `${items}: and the small ones go before them most of the time`);
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
