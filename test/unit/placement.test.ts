/** What should be loaded where: promises first, then what is used, never more than fits, and little at a time. */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { nextDemand } from "../../coordinator/src/scheduler/demand.ts";
import { type HostPlan, type PlacedModel, type PlacementHost, planPlacement } from "../../coordinator/src/scheduler/placement.ts";

const longMs = 1e9;

function model(tag: string, change: Partial<PlacedModel> & { usedMs?: number } = {}): PlacedModel {
  const { usedMs = 0, ...rest } = change;
  const demand = { over10sMs: usedMs, over60sMs: usedMs };
  return { tag, memoryMb: 100, loadMs: 1_000, demand, pin: false, minReplicas: 0, maxReplicas: Number.POSITIVE_INFINITY, ...rest };
}

/** `holds` are tags held for long. */
function host(id: string, holds: string[] = [], change: Partial<PlacementHost> = {}): PlacementHost {
  return { id, memoryMb: 1_000, mostModels: 64, holds: new Map(holds.map((tag) => [tag, longMs])), ...change };
}

type Score = (model: PlacedModel, host: PlacementHost) => number | undefined;

function plan(models: PlacedModel[], hosts: PlacementHost[], score: Score = () => 0): Record<string, HostPlan> {
  const memoryMbOf = (tag: string): number => models.find((one) => one.tag === tag)?.memoryMb ?? 100;
  return Object.fromEntries(planPlacement({ models, hosts, score, memoryMbOf }));
}

const loads = (plans: Record<string, HostPlan>): string[] =>
  Object.entries(plans).flatMap(([id, { load }]) => load.map((tag) => `${tag}>${id}`));
const drops = (plans: Record<string, HostPlan>): string[] =>
  Object.entries(plans).flatMap(([id, { drop }]) => drop.map((tag) => `${tag}<${id}`));

/** Follows plans until nothing changes. */
function settle(models: PlacedModel[], hosts: PlacementHost[], score?: Score): { hosts: PlacementHost[]; steps: number } {
  let now = hosts;
  for (let steps = 0; ; steps++) {
    const plans = plan(models, now, score);
    if (loads(plans).length + drops(plans).length === 0) return { hosts: now, steps };
    assert.ok(steps < 100, "it goes round in circles");
    now = now.map((one) => {
      const { drop, load } = plans[one.id]!;
      const holds = new Map([...one.holds].filter(([tag]) => !drop.includes(tag)));
      for (const tag of load) holds.set(tag, longMs);
      return { ...one, holds };
    });
  }
}

const holding = (hosts: PlacementHost[], tag: string): string[] => hosts.filter(({ holds }) => holds.has(tag)).map(({ id }) => id);

test("what nobody uses and nothing promises stays as it is", () => {
  const plans = plan([model("a"), model("b")], [host("one", ["a"]), host("two")]);
  assert.deepEqual(plans, { one: { load: [], drop: [], keep: [] }, two: { load: [], drop: [], keep: [] } });
});

test("a pinned model is held somewhere and kept there, and min_replicas on as many hosts", () => {
  const models = [model("pinned", { pin: true }), model("three", { minReplicas: 3 })];
  const { hosts } = settle(models, [host("one"), host("two"), host("three"), host("four")]);
  assert.equal(holding(hosts, "pinned").length, 1);
  assert.equal(holding(hosts, "three").length, 3);
  const plans = plan(models, hosts);
  for (const id of holding(hosts, "three")) assert.ok(plans[id]!.keep.includes("three"));
});

test("more is promised than there are hosts: each of them holds it, and nothing else happens", () => {
  const { hosts } = settle([model("a", { minReplicas: 5 })], [host("one"), host("two")]);
  assert.deepEqual(holding(hosts, "a"), ["one", "two"]);
});

test("a model on more hosts than max_replicas leaves those that like it least, also where it is in use", () => {
  const models = [model("a", { maxReplicas: 1, usedMs: 5_000 })];
  const hosts = ["one", "two", "three"].map((id) => host(id, ["a"]));
  const { hosts: left } = settle(models, hosts, (_model, { id }) => (id === "two" ? 5 : 0));
  assert.deepEqual(holding(left, "a"), ["two"]);
});

test("a busy model is spread until each of its hosts has room for a burst", () => {
  const { hosts } = settle(
    [model("a", { usedMs: 1_500 })],
    ["one", "two", "three", "four"].map((id) => host(id)),
  );
  assert.equal(holding(hosts, "a").length, 3, "1.5 devices at 70 % are 3 hosts");
});

test("a model with a fifth of the traffic is held twice, a small one once", () => {
  const { hosts } = settle([model("large", { usedMs: 400 }), model("small", { usedMs: 50 })], [host("one"), host("two"), host("three")]);
  assert.deepEqual([holding(hosts, "large").length, holding(hosts, "small").length], [2, 1]);
});

test("a burst of ten seconds counts as twice of what has been, not as what it is", () => {
  const burst = model("a", { demand: { over10sMs: 5_000, over60sMs: 300 }, maxReplicas: 10 });
  const { hosts } = settle(
    [burst],
    ["one", "two", "three", "four", "five"].map((id) => host(id)),
  );
  assert.equal(holding(hosts, "a").length, 2);
});

test("what is least used makes room, but not what is promised, what is as busy, or what came only lately", () => {
  const small = { memoryMb: 250 };
  const comes = model("comes", { usedMs: 300 });
  const idle = plan([comes], [host("one", ["idle", "other"], small)]);
  assert.deepEqual([loads(idle), drops(idle)], [["comes>one"], ["idle<one"]]);
  const promised = plan([comes, model("pinned", { pin: true })], [host("one", ["pinned", "idle"], small)]);
  assert.deepEqual(drops(promised), ["idle<one"]);
  const busy = plan([comes, model("busy", { usedMs: 290 })], [host("one", ["busy"], { memoryMb: 150 })]);
  assert.deepEqual([loads(busy), drops(busy)], [[], []]);
  const young = host("one", [], {
    ...small,
    holds: new Map([
      ["lately", 9_000],
      ["too", 9_999],
    ]),
  });
  assert.deepEqual(loads(plan([comes, model("lately"), model("too")], [young])), [], "ten load times have not passed");
});

test("the number of models counts like their memory", () => {
  const full = host("one", ["a", "b"], { mostModels: 2 });
  const plans = plan([model("comes", { minReplicas: 1 })], [full]);
  assert.deepEqual([loads(plans), drops(plans).length], [["comes>one"], 1]);
});

test("a model goes to the host that is preferred, and not to one that must not have it or could not load it", () => {
  const scores: Record<string, number | undefined> = { one: undefined, two: 0, three: 5 };
  const { hosts } = settle(
    [model("a", { minReplicas: 2 })],
    ["one", "two", "three"].map((id) => host(id)),
    (_m, { id }) => scores[id],
  );
  assert.deepEqual(holding(hosts, "a"), ["two", "three"]);
  assert.deepEqual(
    loads(
      plan(
        [model("a", { pin: true })],
        ["one", "two", "three"].map((id) => host(id)),
        (_m, { id }) => scores[id],
      ),
    ),
    ["a>three"],
  );
});

test("whatever the cluster: a step changes a tenth at most, nothing outgrows its host by a plan, and plans come to rest", () => {
  const tags = ["a", "b", "c", "d", "e", "f"];
  const models = fc.tuple(
    ...tags.map((tag) =>
      fc
        .record({
          usedMs: fc.integer({ min: 0, max: 3_000 }),
          memoryMb: fc.integer({ min: 10, max: 400 }),
          pin: fc.boolean(),
          minReplicas: fc.integer({ min: 0, max: 3 }),
          maxReplicas: fc.integer({ min: 1, max: 4 }),
        })
        .map((change) => model(tag, change)),
    ),
  );
  const hosts = fc.array(fc.record({ memoryMb: fc.integer({ min: 100, max: 900 }), holds: fc.subarray(["x", "y", "z"]) }), {
    minLength: 1,
    maxLength: 5,
  });
  fc.assert(
    fc.property(models, hosts, (all, made) => {
      const before = made.map(({ holds, memoryMb }, at) => host(`host-${at}`, holds, { memoryMb: Math.max(memoryMb, holds.length * 100) }));
      const plans = plan(all, before);
      const held = before.reduce((sum, { holds }) => sum + holds.size, 0);
      const changed = loads(plans).length + drops(plans).length;
      assert.ok(changed <= Math.max(1, Math.ceil(held / 10)) + 3, `${changed} changes of ${held}`);
      const { hosts: after } = settle(all, before);
      for (const one of after) {
        const usedMb = [...one.holds.keys()].reduce((sum, tag) => sum + (all.find((known) => known.tag === tag)?.memoryMb ?? 100), 0);
        assert.ok(usedMb <= one.memoryMb || one.holds.size === 1, `${one.id} holds ${usedMb} of ${one.memoryMb} MB`);
      }
      for (const { maxReplicas, tag } of all) assert.ok(holding(after, tag).length <= maxReplicas, tag);
    }),
    { numRuns: 300 },
  );
});

test("demand follows what hosts have run: in ten seconds two thirds of the way, slower over a minute, and back to nothing", () => {
  let demand = new Map();
  let total = 0;
  const second = (usedMs: number): void => {
    const last = new Map([["h", { a: total }]]);
    total += usedMs;
    demand = nextDemand(demand, { last, now: new Map([["h", { a: total }]]), passedMs: 1_000 });
  };
  for (let at = 0; at < 10; at++) second(500);
  assert.ok(Math.abs(demand.get("a")!.over10sMs - 316) < 2, `${demand.get("a")!.over10sMs}`);
  assert.ok(Math.abs(demand.get("a")!.over60sMs - 77) < 2, `${demand.get("a")!.over60sMs}`);
  for (let at = 0; at < 900; at++) second(0);
  assert.equal(demand.size, 0);
});

test("a host that is new or began anew brings its past with it into no average", () => {
  const looks = { last: new Map(), now: new Map([["new", { a: 60_000 }]]), passedMs: 1_000 };
  assert.equal(nextDemand(new Map(), looks).size, 0);
  const reloaded = nextDemand(new Map(), { last: new Map([["h", { a: 900 }]]), now: new Map([["h", { a: 100 }]]), passedMs: 1_000 });
  assert.ok(Math.abs(reloaded.get("a")!.over10sMs - 100 * (1 - Math.exp(-0.1))) < 1e-9);
});
