/** What stores decide alike of a queue that tenants and classes share: what each will still send counts ahead of a job. On both stores. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import type { JobClass } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import fc from "fast-check";
import type { NewJob } from "../../coordinator/src/ports/job-store.ts";
import { Arrivals } from "../../coordinator/src/scheduler/arrivals.ts";
import { aheadOf, type Rival } from "../../coordinator/src/scheduler/fair-share.ts";
import { redisRigs } from "../support/file-rigs.ts";
import { type JobRig, roomyQueue } from "../support/job-rig.ts";
import { memoryRig } from "../support/memory-rig.ts";

const rigs = await redisRigs();

/** Admits jobs of one tenant in the order given and answers their ids. */
async function admitAll(rig: JobRig, count: number, wishes: Partial<NewJob>): Promise<string[]> {
  const ids: string[] = [];
  for (let at = 0; at < count; at++) ids.push(await rig.admit({ timeoutMs: 3_600_000, latestStartMs: 1_000_000 + at, ...wishes }, 1, 8));
  return ids;
}

/** So many of a tenant come, and are gone again. */
const pass = async (rig: JobRig, count: number, wishes: Partial<NewJob>): Promise<void> => {
  for (const id of await admitAll(rig, count, wishes)) await rig.store.cancel(id);
};
/** Items ahead of a job of a tenant that it is refused for; 0 where it is admitted, and then it is taken back. */
const refusedBy = async (rig: JobRig, wishes: Partial<NewJob>): Promise<number> => {
  const job = rig.job({ tenant: "mine", latestStartMs: 2_000_000, ...wishes });
  const answer = await rig.store.admit(job, roomyQueue);
  if (answer.answer === "admitted") await rig.store.cancel(job.id);
  return answer.answer === "refused" ? answer.ahead : 0;
};
const inAMinute = { withinMs: 64_000 };

function sentences(open: () => JobRig): void {
  test("other tenants are expected to go on as they came while the queue was shared, up to their share", async () => {
    const rig = open();
    await admitAll(rig, 10, { tenant: "mine" });
    await pass(rig, 40, { tenant: "many" }); // some sixty in that minute
    assert.equal(await refusedBy(rig, { ...inAMinute, mostAhead: 19 }), 20, "a slot for each of mine");
    assert.equal(await refusedBy(rig, { ...inAMinute, mostAhead: 20 }), 0);
    assert.equal(await refusedBy(rig, { mostAhead: 10 }), 0, "within no time none comes");
    assert.equal(await refusedBy(rig, { ...inAMinute, mostAhead: 10, latestStartMs: 1 }), 0, "before the first of a flow comes nothing");
    assert.equal(await refusedBy(rig, { ...inAMinute, mostAhead: 19, tenantWeight: 2 }), 0, "weight 2 has half as many beside it");
  });

  test("who comes seldom is expected seldom, and for longer where a job must wait for longer", async () => {
    const rig = open();
    await admitAll(rig, 12, { tenant: "mine" });
    await pass(rig, 3, { tenant: "some" }); // 4.3 in that minute
    const ahead = await refusedBy(rig, { ...inAMinute, mostAhead: 10 });
    assert.ok(ahead >= 20 && ahead <= 21, `${ahead}: 4.3 while ten are served, nine beside twelve of mine`);
    const most = await refusedBy(rig, { ...inAMinute, mostAhead: 15 });
    assert.ok(most >= 16 && most <= 17, `${most}: 4.3 while fifteen are served`);
    assert.equal(await refusedBy(rig, { ...inAMinute, mostAhead: 17 }), 0);
  });

  test("classes are expected by their weights", async () => {
    const rig = open();
    await admitAll(rig, 10, { tenant: "mine", class: "batch" });
    await pass(rig, 200, { tenant: "mine", class: "interactive" });
    assert.equal(await refusedBy(rig, { ...inAMinute, class: "batch", mostAhead: 100 }), 150, "fourteen beside each");
    const rest = open();
    await admitAll(rest, 30, { tenant: "mine", class: "interactive" });
    await pass(rest, 200, { tenant: "mine", class: "batch" });
    assert.equal(await refusedBy(rest, { ...inAMinute, class: "interactive", mostAhead: 31 }), 32, "one beside fourteen");
  });

  test("many tenants that each send little are expected together, and make nobody's share smaller", async () => {
    const rig = open();
    await admitAll(rig, 10, { tenant: "mine", class: "batch" });
    for (let at = 0; at < 60; at++) await pass(rig, 1, { tenant: `crowd-${at}`, class: "interactive" }); // some 85 in that minute
    const others = await refusedBy(rig, { ...inAMinute, class: "batch", mostAhead: 50 });
    assert.ok(others >= 90 && others <= 150, `${others}: all that come, or fourteen beside each`);
    for (let at = 0; at < 7; at++) await pass(rig, 1, { tenant: `crowd-${at}`, class: "batch" }); // some ten
    const own = await refusedBy(rig, { ...inAMinute, class: "batch", mostAhead: 50 });
    assert.ok(own > others && own <= 15 * 81, `${own}: each of these has fourteen beside it as well`);
    const rest = open();
    await admitAll(rest, 10, { tenant: "mine" });
    for (let at = 0; at < 7; at++) await pass(rest, 1, { tenant: `crowd-${at}` });
    const among = await refusedBy(rest, { ...inAMinute, mostAhead: 18 });
    assert.ok(among >= 19 && among <= 23, `${among}: ten while eighteen are served, twelve and a half until its turn`);
    assert.equal(await refusedBy(rest, { ...inAMinute, mostAhead: 20 }), 0);
  });

  test("a class is beside a job as one, however many of its tenants wait", async () => {
    const rig = open();
    await admitAll(rig, 9, { tenant: "mine", class: "batch" });
    for (let at = 0; at < 20; at++) await admitAll(rig, 2, { tenant: `crowd-${at}`, class: "standard" });
    assert.equal(await refusedBy(rig, { class: "batch", mostAhead: 48 }), 49, "all that waits, which is less than five beside each");
    assert.equal(await refusedBy(rig, { class: "batch", mostAhead: 48, latestStartMs: 1 }), 0);
    assert.equal(await refusedBy(rig, { class: "batch", mostAhead: 4, latestStartMs: 1 }), 5, "five beside the first");
  });

  test("who comes beside others shares the queue, also where it is refused", async () => {
    const rig = open();
    await admitAll(rig, 1, { tenant: "many" });
    assert.equal(await refusedBy(rig, { mostAhead: 0 }), 1);
    await pass(rig, 40, { tenant: "many" });
    await admitAll(rig, 10, { tenant: "mine" });
    assert.equal(await refusedBy(rig, { ...inAMinute, mostAhead: 15 }), 20);
  });

  test("what came while nobody shared the queue is not expected, nor what is refused or there already", async () => {
    const rig = open();
    await pass(rig, 40, { tenant: "many" });
    await admitAll(rig, 10, { tenant: "mine" });
    assert.equal(await refusedBy(rig, { ...inAMinute, mostAhead: 10 }), 0);
    const job = rig.job({ tenant: "other", latestStartMs: 2_000_000, mostAhead: 0 });
    for (let times = 0; times < 40; times++) await rig.store.admit(job, roomyQueue);
    assert.equal(await refusedBy(rig, { ...inAMinute, mostAhead: 10 }), 0, "they were refused");
    for (let times = 0; times < 40; times++) await rig.store.admit({ ...job, mostAhead: Infinity }, roomyQueue);
    const ahead = await refusedBy(rig, { ...inAMinute, mostAhead: 10 });
    assert.ok(ahead >= 13 && ahead <= 14, `${ahead}: the one that waits, and one and a half more while ten are served`);
  });

  test("jobs that wait again are not expected twice", async () => {
    const rig = open();
    await admitAll(rig, 10, { tenant: "mine" });
    const [id] = await admitAll(rig, 1, { tenant: "again", latestStartMs: 1 });
    const { host, ticket } = await rig.hostWithTicket();
    for (let times = 0; times < 5; times++) {
      const jobs = await host.batch(ticket, { maxItems: 11 });
      await host.commit(
        ticket,
        jobs.map(({ id: one, fence }) => ({ id: one, fence, outcome: "back" })),
      );
    }
    assert.equal((await rig.record(id!)).state, "queued");
    const ahead = await refusedBy(rig, { ...inAMinute, mostAhead: 10 });
    assert.ok(ahead >= 13 && ahead <= 14, `${ahead}: itself, and one and a half more while ten are served`);
  });
}

describe("the Redis store", () => {
  sentences(() => rigs.rig());

  test("what came of several flows in one step is counted by flow and by class, and each is ahead of those after it", async () => {
    const rig = rigs.rig();
    const wishes = (tenant: string, count: number, more: Partial<NewJob> = {}) =>
      Array.from({ length: count }, () => rig.job({ tenant, timeoutMs: 3_600_000, latestStartMs: 1_000_000, items: 2, ...more }));
    const jobs = ["a", "b", "a"].flatMap((tenant) => wishes(tenant, 5));
    const answers = await Promise.all([...jobs, ...wishes("c", 9, { mostAhead: 20 })].map((job) => rig.store.admit(job, roomyQueue)));
    const found = await rigs.redis.hgetall(`${keys.base(rig.tag)}arrivals`);
    // the first may have gone alone, before the others came together
    const counted = Object.fromEntries(Object.entries(found).map(([name, text]) => [name, Math.round(Number(text.split(" ")[7]))]));
    assert.ok(counted["standard:b"] === 10 && (counted["standard:a"] === 20 || counted["standard:a"] === 18), JSON.stringify(found));
    // the third of c has four of its own ahead, and five of a and of b each
    const admitted = answers.slice(15).filter(({ answer }) => answer === "admitted").length;
    assert.equal(admitted, 4);
    assert.equal(counted.standard, counted["standard:a"]! + 10 + 2 * admitted);
    assert.match(found.standard!, / 3$/, "so many flows");
    assert.ok((await rigs.redis.pttl(`${keys.base(rig.tag)}arrivals`)) > 60_000);
  });

  test("jobs that are admitted in one step are ahead of those after them, also once one was refused", async () => {
    const rig = rigs.rig();
    await admitAll(rig, 1, { tenant: "first" });
    const of = (tenant: string, mostAhead = Infinity) => rig.job({ tenant, mostAhead, timeoutMs: 3_600_000, latestStartMs: 2_000_000 });
    // the first may go alone, the others go together
    const jobs = [of("w"), of("x", 0), ...Array.from({ length: 5 }, () => of("a")), of("y", 2), of("z", 3)];
    const answers = await Promise.all(jobs.map((job) => rig.store.admit(job, roomyQueue)));
    assert.deepEqual(
      [1, 7, 8].map((at) => answers[at]!.answer),
      ["refused", "refused", "admitted"],
      "a turn of each: two before the second, three before the last",
    );
  });

  test("tenants that did not come for a minute make way, and how many there are is known again", async () => {
    const rig = rigs.rig();
    const name = `${keys.base(rig.tag)}arrivals`;
    await admitAll(rig, 1, { tenant: "a" });
    await admitAll(rig, 1, { tenant: "b" });
    const { nowMs } = await rig.audit();
    const before = (agoMs: number, flows = ""): string => `${nowMs - agoMs} 9 9 9 9 9 9 9${flows}`;
    const fields: Record<string, string> = {
      standard: before(64_000, " 2503"),
      batch: before(40_000, " 70"),
      "standard:b": before(90_000),
    };
    for (let at = 0; at < 2_500; at++) fields[`standard:gone-${at}`] = before(65_000);
    await rigs.redis.hset(name, {
      ...fields,
      "standard:stays": before(30_000),
      "batch:gone": before(70_000),
      "batch:stays": before(30_000),
    });
    await admitAll(rig, 1, { tenant: "b" });
    const left = await rigs.redis.hgetall(name);
    assert.deepEqual(Object.keys(left).sort(), ["batch", "batch:stays", "standard", "standard:b", "standard:stays"]);
    assert.deepEqual(
      [left.standard, left.batch].map((text) => text!.split(" ").at(-1)),
      ["2", "1"],
      "of b, which was gone, and of one that stays",
    );
  });

  test("a time of sharing that a clock ahead has left is over, and is set anew by who shares now", async () => {
    const rig = rigs.rig();
    const base = keys.base(rig.tag);
    await admitAll(rig, 1, { tenant: "a" });
    const { nowMs } = await rig.audit();
    await rigs.redis.hset(`${base}clock`, "shared", String(nowMs + 60_000));
    await admitAll(rig, 5, { tenant: "a" });
    assert.equal(await rigs.redis.exists(`${base}arrivals`), 0);
    await admitAll(rig, 1, { tenant: "b" });
    const until = Number(await rigs.redis.hget(`${base}clock`, "shared"));
    assert.ok(until <= (await rig.audit()).nowMs + 8_000 && until >= nowMs + 7_000, `${until - nowMs} ms`);
    assert.equal(await rigs.redis.exists(`${base}arrivals`), 1);
  });

  test("figures of arrivals that cannot be read count for nothing", async () => {
    const rig = rigs.rig();
    const name = `${keys.base(rig.tag)}arrivals`;
    await admitAll(rig, 3, { tenant: "a" });
    await admitAll(rig, 3, { tenant: "b" });
    await rigs.redis.hset(name, { standard: "x", "standard:a": "1 y 9", "standard:c": "", interactive: "1 a b c d e f g" });
    const job = rig.job({ tenant: "b", latestStartMs: 2_000_000, mostAhead: 5, withinMs: 5_000 });
    assert.deepEqual(await rig.store.admit(job, roomyQueue), { id: job.id, answer: "refused", ahead: 6, waiting: 6 });
    await admitAll(rig, 1, { tenant: "a" });
  });
});

/** What the store's own script makes of figures, all at once: of arrivals `[items, ms]` what is expected at the end, and what is ahead of a job. */
async function luaFigures(of: {
  came: readonly (readonly [items: number, atMs: number])[];
  withinMs: number;
  nowMs: number;
  own: number;
  tenants: readonly Rival[];
  classes: readonly Rival[];
  crowd: { weight: number; coming: number } | null;
  mostAhead: number;
}): Promise<[expected: number, ahead: number]> {
  const read = (name: string): string => readFileSync(new URL(`../../protocol/src/lua/${name}.lua`, import.meta.url), "utf8");
  const script = `${read("lib-time")}\n${read("lib-arrivals")}\n
    local of, figures, text = cjson.decode(ARGV[1]), arrivalFigures()
    for _, one in ipairs(of.came) do text = figures.withArrived(figures.parse(text), one[1], one[2]) end
    local beside = { weight = 8, classWeight = 25, tenants = of.tenants, classes = of.classes, name = 'itself' }
    beside.comingOf = function(one) return one.coming end
    beside.tenants[#beside.tenants + 1] = { name = 'itself', items = 50, weight = 9, coming = 9 }
    beside.crowd = of.crowd ~= cjson.null and of.crowd or nil
    local expected = figures.expectedItems(figures.parse(text), of.withinMs, of.nowMs)
    return { string.format('%.17g', expected), figures.aheadOf(of.own, beside, of.mostAhead) }`;
  const [expected, ahead] = (await rigs.redis.eval(script, 0, JSON.stringify(of))) as [string, number];
  return [Number(expected), ahead];
}

test("the store's script expects and counts as the scheduler does", async () => {
  const pauses = fc.oneof(fc.nat({ max: 30 }), fc.nat({ max: 5_000 }), fc.nat({ max: 90_000 }), fc.integer({ min: -20_000, max: 0 }));
  const rival = fc.record({
    items: fc.nat({ max: 60 }),
    weight: fc.integer({ min: 1, max: 70 }),
    coming: fc.oneof(
      fc.constant(1e-9),
      fc.nat({ max: 8_000 }).map((hundredths) => hundredths / 100),
    ),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        steps: fc.array(fc.tuple(fc.integer({ min: 1, max: 5_000 }), pauses), { maxLength: 40 }),
        lastMs: pauses,
        withinMs: fc.oneof(fc.nat({ max: 3_000 }), fc.nat({ max: 100_000 })),
        own: fc.nat({ max: 40 }),
        tenants: fc.array(rival, { minLength: 1, maxLength: 6 }),
        classes: fc.array(rival, { minLength: 1, maxLength: 2 }),
        crowd: fc.option(rival),
        mostAhead: fc.nat({ max: 300 }),
      }),
      async ({ steps, lastMs, ...of }) => {
        const arrivals = new Arrivals();
        let nowMs = 1_700_000_000_000;
        const came = steps.map(([items, passedMs]): [number, number] => {
          nowMs += passedMs;
          arrivals.add(items, nowMs);
          return [items, nowMs];
        });
        nowMs += lastMs;
        const [expected, ahead] = await luaFigures({ ...of, came, nowMs });
        const wanted = arrivals.expected(of.withinMs, nowMs);
        const tenants = of.crowd ? [...of.tenants, { ...of.crowd, items: 0 }] : of.tenants;
        assert.ok(Math.abs(expected - wanted) <= 1e-6 * Math.max(1, wanted), `${expected} expected, ${wanted}`);
        assert.equal(ahead, aheadOf({ items: of.own, weight: 8, classWeight: 25 }, { ...of, tenants }, of.mostAhead));
      },
    ),
    { numRuns: 300 },
  );
});

test("both stores admit alike while many tenants and classes come and go", async () => {
  const step = fc.record({
    tenant: fc.constantFrom("a", "b", "c"),
    class: fc.constantFrom<JobClass>("interactive", "standard", "batch"),
    urgency: fc.integer({ min: 0, max: 9 }),
    mostAhead: fc.constantFrom(0, 3, 10, 25, Infinity, Infinity, Infinity),
    withinMs: fc.constantFrom(0, 64_000),
    stays: fc.boolean(),
  });
  let [alike, parted] = [0, 0];
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), async (steps) => {
      const [one, other] = [rigs.rig(), memoryRig()];
      for (const [at, { stays, urgency, ...wishes }] of steps.entries()) {
        // of unlike urgency or one after the other, however long the steps take
        const latestStartMs = 1_000_000 + 100_000 * urgency + 1_000 * at;
        const of = { ...wishes, latestStartMs, timeoutMs: 3_600_000, tenantWeight: { a: 1, b: 2, c: 0.5 }[wishes.tenant]! };
        const answers = await Promise.all(
          [one, other].map(async (rig) => {
            const job = rig.job(of);
            const answer = await rig.store.admit(job, roomyQueue);
            if (answer.answer === "admitted" && !stays) await rig.store.cancel(job.id);
            return answer.answer === "refused" ? answer.ahead : 0;
          }),
        );
        // what came counts a little less with each millisecond, and the real clock moves on: near the bound they may part, and hold other jobs from there on
        const [least, most] = [Math.min(...answers), Math.max(...answers)];
        if (least === 0 && most > 0) {
          parted += 1;
          assert.ok(most <= of.mostAhead + 3, `${answers} with at most ${of.mostAhead}`);
          return;
        }
        alike += 1;
        assert.ok(most - least <= 2 + 0.1 * most, `${answers} with at most ${of.mostAhead}`);
      }
    }),
    { numRuns: 40 },
  );
  assert.ok(parted < alike / 50, `${parted} times of ${parted + alike} one was admitted by one store only`);
});

describe("the memory store", () => sentences(() => memoryRig()));
