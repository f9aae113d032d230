import assert from "node:assert/strict";
import { test } from "node:test";
import type { JobClass } from "@switchyard/protocol";
import fc from "fast-check";
import {
  aheadOf,
  allot,
  type Backlog,
  charge,
  clockAfter,
  flowWeights,
  type Rival,
  startTag,
} from "../../coordinator/src/scheduler/fair-share.ts";

const flow = (name: string, weight: number, waiting = 1_000, finish = 0): Backlog => ({ name, weight, waiting, finish });

const backlogs = fc
  .array(
    fc.record({
      weight: fc.integer({ min: 1, max: 70 }),
      waiting: fc.integer({ min: 1, max: 30 }),
      finish: fc.integer({ max: 20 }).map(Math.abs),
    }),
    {
      minLength: 2,
      maxLength: 12,
    },
  )
  .map((list) => list.map((one, at) => ({ ...one, name: `f${at}` })));

test("a class's weight is divided among its tenants by theirs", () => {
  const flows: { class: JobClass; tenantWeight: number }[] = [
    { class: "interactive", tenantWeight: 1 },
    { class: "standard", tenantWeight: 1 },
    { class: "standard", tenantWeight: 4 },
    { class: "batch", tenantWeight: 9 },
  ];
  assert.deepEqual(flowWeights(flows), [70, 5, 20, 5]);
  assert.deepEqual(flowWeights([]), []);
});

test("one flow alone takes every slot", () => {
  assert.deepEqual(allot([flow("only", 5, 3, 7)], 16, 2), [{ name: "only", weight: 5, slots: 16, start: 7 }]);
  assert.deepEqual(allot([], 16, 2), []);
});

test("slots go out by weight, and the heavier flow goes first", () => {
  const [first, second] = allot([flow("a", 1), flow("b", 3)], 8, 0);
  assert.deepEqual([first?.name, first?.slots, second?.name, second?.slots], ["b", 6, "a", 2]);
});

test("flows of equal weight and tag are served by name, so that every reader decides alike", () => {
  const names = (flows: Backlog[]): string[] => allot(flows, 2, 0).map(({ name }) => name);
  assert.deepEqual(names([flow("b", 1), flow("a", 1), flow("c", 1)]), ["a", "b"]);
  assert.deepEqual(names([flow("c", 1), flow("a", 1), flow("b", 1)]), ["a", "b"]);
});

test("no flow gets more slots than it has items, and none is left unused while any has some", () => {
  fc.assert(
    fc.property(backlogs, fc.integer({ min: 1, max: 64 }), fc.integer({ min: 0, max: 20 }), (flows, slots, virtual) => {
      const served = allot(flows, slots, virtual);
      const given = served.reduce((sum, one) => sum + one.slots, 0);
      assert.equal(
        given,
        Math.min(
          slots,
          flows.reduce((sum, { waiting }) => sum + waiting, 0),
        ),
      );
      for (const { name, slots: got, start } of served) {
        const of = flows.find((one) => one.name === name)!;
        assert.ok(got >= 1 && got <= of.waiting);
        assert.equal(start, Math.max(virtual, of.finish));
      }
      assert.equal(new Set(served.map(({ name }) => name)).size, served.length);
    }),
  );
});

test("over many batches busy flows get their weights' shares, within a slot", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 2, maxLength: 6 }),
      fc.integer({ min: 1, max: 20 }),
      (weights, slots) => {
        const tags = new Map<string, number>();
        const got = new Map<string, number>();
        let virtual = 0;
        for (let batch = 0; batch < 400; batch++) {
          for (const one of allot(
            weights.map((weight, at) => flow(`f${at}`, weight, 1_000, tags.get(`f${at}`) ?? 0)),
            slots,
            virtual,
          )) {
            const { finish, lastStart } = charge(one, { items: one.slots, last: 1 });
            tags.set(one.name, finish);
            virtual = Math.max(virtual, lastStart);
            got.set(one.name, (got.get(one.name) ?? 0) + one.slots);
          }
        }
        const sum = weights.reduce((total, weight) => total + weight, 0);
        for (const [at, weight] of weights.entries()) {
          const due = (400 * slots * weight) / sum;
          assert.ok(
            Math.abs((got.get(`f${at}`) ?? 0) - due) <= weights.length,
            `f${at} of ${weights}: ${got.get(`f${at}`)} instead of ${due}`,
          );
        }
      },
    ),
    { numRuns: 40 },
  );
});

test("a flow that was idle has saved nothing, and owes what it took before", () => {
  const idle = allot([flow("idle", 1, 100, 0), flow("busy", 1, 100, 50)], 10, 50);
  assert.deepEqual(
    idle.map(({ slots }) => slots),
    [5, 5],
  );
  const owing = allot([flow("greedy", 1, 100, 58), flow("other", 1, 100, 50)], 8, 50);
  assert.deepEqual(
    owing.map(({ name, slots }) => [name, slots]),
    [["other", 8]],
  );
});

test("whoever came and went before, busy flows get their shares from now on, but for a batch", () => {
  const crowds = fc.array(fc.record({ others: fc.integer({ min: 0, max: 120 }), batches: fc.integer({ min: 1, max: 6 }) }), {
    maxLength: 6,
  });
  fc.assert(
    fc.property(crowds, fc.integer({ min: 2, max: 5 }), fc.integer({ min: 1, max: 16 }), (history, stay, slots) => {
      const tags = new Map<string, number>();
      let virtual = 0;
      const serve = (names: readonly string[]): Map<string, number> => {
        const weight = 25 / names.length;
        for (const name of names) tags.set(name, startTag({ finish: tags.get(name) ?? 0, weight }, virtual, slots));
        const served = allot(
          names.map((name) => flow(name, weight, 1_000, tags.get(name))),
          slots,
          virtual,
        );
        for (const one of served) {
          const { finish, lastStart } = charge(one, { items: one.slots, last: 1 });
          tags.set(one.name, finish);
          virtual = Math.max(virtual, lastStart);
        }
        return new Map(served.map((one) => [one.name, one.slots]));
      };
      const staying = Array.from({ length: stay }, (_, at) => `f${at}`);
      for (const { others, batches } of history) {
        const crowd = Array.from({ length: others }, (_, at) => `other-${at}`);
        for (let batch = 0; batch < batches; batch++) serve([...staying, ...crowd]);
      }
      const got = new Map<string, number>();
      for (let batch = 0; batch < 60; batch++) for (const [name, count] of serve(staying)) got.set(name, (got.get(name) ?? 0) + count);
      for (const name of staying)
        assert.ok((got.get(name) ?? 0) >= (60 * slots) / stay - slots - stay, `${name} got ${got.get(name)} of ${60 * slots}`);
    }),
  );
});

test("who is served is charged by items over weight, and nothing else moves a tag", () => {
  assert.deepEqual(charge({ start: 10, weight: 4 }, { items: 8, last: 1 }), { finish: 12, lastStart: 11.75 });
  assert.deepEqual(charge({ start: 10, weight: 4 }, { items: 8, last: 6 }), { finish: 12, lastStart: 10.5 });
  assert.deepEqual(charge({ start: 10, weight: 4 }, { items: 0, last: 0 }), { finish: 10, lastStart: 10 });
});

const job = (items: number, weight: number, classWeight = 1) => ({ items, weight, classWeight });
const rival = (items: number, weight: number, coming = 0): Rival => ({ items, weight, coming });
/** Ahead of a job beside other tenants of its class. */
const besideTenants = (items: number, weight: number, tenants: readonly Rival[], mostAhead?: number): number =>
  aheadOf(job(items, weight), { tenants, classes: [] }, mostAhead);

test("ahead of a job are those before it in its flow, and of each other flow its share or all it has", () => {
  assert.equal(besideTenants(4, 10, []), 4);
  assert.equal(besideTenants(4, 10, [rival(1_000, 10)]), 9);
  assert.equal(besideTenants(4, 10, [rival(2, 10)]), 6);
  assert.equal(besideTenants(0, 5, [rival(1_000, 70)]), 14);
  assert.equal(besideTenants(0, 70, [rival(1_000, 5)]), 1);
});

test("a class has its weight beside all that goes before the job in its own, however many tenants that is of", () => {
  const classes = [rival(1_000, 70)];
  assert.equal(aheadOf(job(4, 1, 5), { tenants: [], classes }), 4 + 5 * 14);
  assert.equal(aheadOf(job(4, 1, 5), { tenants: [rival(3, 1), rival(2, 1)], classes }), 9 + 10 * 14);
  assert.equal(aheadOf(job(4, 1, 5), { tenants: [], classes: [rival(9, 70), rival(1_000, 25)] }), 4 + 9 + 25);
});

test("a job is served after at most what was said to be ahead of it, and at most a turn of each other flow sooner", () => {
  fc.assert(
    fc.property(backlogs, fc.nat({ max: 40 }), (flows, before) => {
      const even = flows.map((one) => ({ ...one, finish: 0 }));
      const [own, ...others] = even as [Backlog, ...Backlog[]];
      const predicted = besideTenants(
        before,
        own.weight,
        others.map(({ waiting, weight }) => rival(waiting, weight)),
      );
      // slot by slot: how many others are served before the own flow's turn number before + 1
      const total = others.reduce((sum, { waiting }) => sum + waiting, before + 1);
      let slots = 1;
      const gotOf = (n: number): number =>
        allot([{ ...own, waiting: before + 1 }, ...others], n, 0).find(({ name }) => name === own.name)?.slots ?? 0;
      while (slots < total && gotOf(slots) < before + 1) slots++;
      assert.ok(predicted >= slots - 1, `${predicted} were predicted, ${slots - 1} were served`);
      const turn = others.reduce((sum, { weight }) => sum + 1 + Math.ceil(weight / own.weight), 0);
      assert.ok(predicted <= slots - 1 + turn, `${predicted} were predicted, ${slots - 1} were served`);
    }),
  );
});

test("what is expected of others counts as what waits, up to their share", () => {
  assert.equal(besideTenants(10, 10, [rival(0, 10, 4)], 20), 14);
  assert.equal(besideTenants(10, 10, [rival(3, 10, 4)], 20), 17);
  assert.equal(besideTenants(10, 10, [rival(3, 10, 400)], 20), 20);
  assert.equal(besideTenants(10, 10, [rival(400, 10, 400)], 21), 21, "what waits has a turn of its own");
  assert.equal(besideTenants(0, 5, [rival(0, 70, 400)], 1), 0, "behind the first of a flow");
  assert.equal(besideTenants(0, 5, [rival(9, 70, 400)], 9), 9);
  assert.equal(
    aheadOf(job(4, 1, 5), { tenants: [rival(0, 1, 2)], classes: [rival(0, 70, 400)] }, 90),
    6 + 6 * 14,
    "beside what comes, too",
  );
  assert.equal(aheadOf(job(0, 1, 5), { tenants: [rival(0, 1, 2)], classes: [rival(0, 70, 400)] }, 0), 0);
});

test("a trace of what came long ago is no item", () => {
  assert.equal(besideTenants(10, 1, [rival(3, 1, 1e-9)], 13), 13);
  assert.equal(aheadOf(job(10, 1, 25), { tenants: [], classes: [rival(0, 25, 1e-9)] }, 10), 10);
});

test("where more is ahead than may be, others go on coming until the job has its turn", () => {
  // four come while ten are served, so of what is served six in ten are its own
  assert.equal(besideTenants(12, 1, [rival(0, 1, 4)], 10), 20);
  assert.equal(besideTenants(12, 1, [rival(3, 2, 4)], 10), 25);
  assert.equal(besideTenants(12, 1, [rival(0, 1, 9)], 10), 24, "the other's share is an even part");
  assert.equal(besideTenants(12, 1, [rival(0, 1, 90)], 10), 24);
});

const rivals = fc.array(
  fc.record({
    items: fc.nat({ max: 60 }),
    weight: fc.integer({ min: 1, max: 70 }),
    coming: fc.oneof(
      fc.constant(0),
      fc.nat({ max: 8_000 }).map((hundredths) => hundredths / 100),
    ),
  }),
  { maxLength: 6 },
);

test("a job is refused exactly if the others have and get too many by then, and the answer is where both meet", () => {
  fc.assert(
    fc.property(
      fc.record({ items: fc.nat({ max: 40 }), weight: fc.integer({ min: 1, max: 70 }), classWeight: fc.constantFrom(5, 25, 70) }),
      rivals,
      rivals,
      fc.nat({ max: 300 }),
      (own, tenants, classes, mostAhead) => {
        const mostOf = (before: number, items: number, ratio: number): number =>
          Math.max(Math.min(items, Math.ceil((before + 1) * ratio)), Math.floor(before * ratio));
        /** Ahead of it once so many were served. */
        const after = (served: number): number => {
          const part = mostAhead > 0 ? served / mostAhead : 1;
          const of = (list: readonly Rival[], before: number, weight: number): number =>
            list.reduce(
              (sum, one) => sum + Math.min(one.items + one.coming * part, mostOf(before, one.items, one.weight / weight)),
              before,
            );
          const before = of(tenants, own.items, own.weight);
          return of(classes, before, own.classWeight);
        };
        const still = (list: readonly Rival[]): Rival[] => list.map((one) => ({ ...one, coming: 0 }));
        const ahead = aheadOf(own, { tenants, classes }, mostAhead);
        assert.equal(ahead > mostAhead, Math.ceil(after(mostAhead) - 1e-6) > mostAhead);
        assert.ok(
          ahead >= Math.min(mostAhead + 1, aheadOf(own, { tenants: still(tenants), classes: still(classes) }, mostAhead)),
          "at least what waits",
        );
        if (ahead <= mostAhead || mostAhead === 0) return;
        assert.ok(Number.isInteger(ahead));
        assert.ok(after(ahead) <= ahead + 1e-6, `${after(ahead)} after ${ahead}`);
        const before = Math.floor(Math.min(ahead - 1, 0.99 * ahead));
        assert.ok(before <= mostAhead || after(before) > before - 1e-6, `${after(before)} after ${before}`);
      },
    ),
  );
});

test("the clock follows the jobs that were served, and overtakes nobody who waited beside them", () => {
  assert.equal(clockAfter(5, [7, 6], []), 7);
  assert.equal(clockAfter(5, [7, 6], [6.5, 9]), 6.5);
  assert.equal(clockAfter(5, [7, 6], [4]), 5, "it never goes back");
  assert.equal(clockAfter(5, [], [9]), 5, "nothing was served");
});

test("slots that nobody could use are charged to those who were served, by their items, and set no clock", () => {
  assert.deepEqual(charge({ start: 10, weight: 4 }, { items: 4, last: 4, waste: 3 }), { finish: 14, lastStart: 10 });
});
