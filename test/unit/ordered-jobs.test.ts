import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OrderedJobs } from "../../coordinator/src/adapters/ordered-jobs.ts";

interface Job {
  key: number;
  id: number;
  items: number;
}

const inOrder = (a: Job, b: Job): number => a.key - b.key || a.id - b.id;

test("a line in blocks is what a sorted array would be, whatever comes and goes", () => {
  const steps = fc.array(fc.record({ key: fc.nat({ max: 40 }), items: fc.integer({ min: 1, max: 3 }), removes: fc.nat({ max: 3 }) }), {
    minLength: 1_500,
    maxLength: 2_500,
    size: "max",
  });
  fc.assert(
    fc.property(steps, (all) => {
      const line = new OrderedJobs<Job>(inOrder);
      let plain: Job[] = [];
      for (const [id, { key, items, removes }] of all.entries()) {
        const job = { key, id, items };
        line.add(job);
        plain.push(job);
        if (removes !== 0) continue;
        const gone = plain[(key * 37) % plain.length] as Job;
        plain = plain.filter((one) => one !== gone);
        assert.ok(line.remove(gone) && !line.remove(gone));
      }
      plain.sort(inOrder);
      assert.deepEqual([...line], plain);
      assert.deepEqual([line.length, line.items], [plain.length, plain.reduce((sum, { items }) => sum + items, 0)]);
      for (const place of [0, 1, plain.length >> 1, plain.length - 1, plain.length]) {
        assert.equal(line.at(place), plain[place]);
        const other = { key: plain[place]?.key ?? 99, id: -1, items: 1 };
        const before = plain.filter((one) => inOrder(one, other) < 0).reduce((sum, { items }) => sum + items, 0);
        assert.equal(line.itemsBefore(other), before);
      }
    }),
    { numRuns: 20 },
  );
});
