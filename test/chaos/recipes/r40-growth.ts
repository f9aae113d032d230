/**
 * R40: hosts die, connections end and coordinators are replaced for many lifetimes of a result, which are short here: nothing grows, and
 * when all has been forgotten the store is as it was.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { seededRandom } from "../../../scripts/seeded-random.ts";
import { Growth, growthOf, type Sample } from "../growth.ts";
import type { Ledger } from "../ledger.ts";
import { type Check, type Recipe, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

/** Of a result; an hour, as shipped. */
const keptMs = { smoke: 3_000, nightly: 10_000, soak: 60_000 } as const;
/** For which it is known after that; a day, as shipped. */
const knownMs = { smoke: 5_000, nightly: 15_000, soak: 600_000 } as const;
/** After which sizes must stand: what is compiled on the way counts as memory too. */
const warmUpMs = { smoke: 15_000, nightly: 75_000, soak: 1_200_000 } as const;
const lengthMs = { smoke: 15_000, nightly: 120_000, soak: 8 * 3_600_000 } as const;
const faultEveryMs = 5_000;
/** About half of what the hosts could do. */
const rate = 60;
const sampleEveryMs = 1_000;
/** What sizes may grow by. What processes take from the system wanders by tens of megabytes, which only hours even out. */
const allowed = {
  smoke: { percent: 15, liveMbAMinute: 5, mbAMinute: 500 },
  nightly: { percent: 5, liveMbAMinute: 1, mbAMinute: 100 },
  soak: { percent: 2, liveMbAMinute: 0.1, mbAMinute: 1 },
} as const;
/** How long the record of a call without a key is there, and that it is looked for. */
const bareMs = 60_000 + 15_000;
/** What remains of a load that nobody remembers, for as long as there is a store: a queue's figures, its place in lists, BullMQ's counters. */
const fewKeys = 10;

export const growth: Recipe = {
  id: "R40",
  title: "hosts, connections and coordinators lost in turn over many lifetimes of a result, shortened",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed, say } = context;
    const random = seededRandom(seed);
    const retention = { keptMs: keptMs[tier], knownMs: knownMs[tier] };
    await using scene = await Scene.open(context, {
      hosts: 3,
      coordinators: 3,
      balanced: true,
      dayMs: retention.knownMs,
      memory: true,
      env: { SWITCHYARD_RESULT_TTL: `${retention.keptMs / 1_000}s` },
    });
    const { coordinators, workers } = scene.cluster;
    // the first of each lives through it all, so that what it gathers shows
    const lasting = [coordinators[0]!, workers[0]!];
    const growth = new Growth(scene.redis, lasting);
    const before = new Set(await lastingKeys(scene.redis));
    const load = await scene.begin({ seed, rate, timeoutMs: { least: 6_000, most: 10_000 }, retention });
    growth.start(sampleEveryMs);
    const endMs = Date.now() + warmUpMs[tier] + lengthMs[tier];
    const breakOne = [
      async (at: number) => {
        const { respawned } = await scene.killHost(workers[at]!, 1_000);
        await respawned;
      },
      async () => {
        await scene.redis.call("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES");
        scene.fault("connections killed");
      },
      async (at: number) => {
        await scene.stop(coordinators[at]!);
        scene.fault(`${coordinators[at]!.name} stopped`);
        await coordinators[at]!.respawn();
      },
    ];
    for (let turn = 0; Date.now() < endMs; turn++) {
      const nextMs = performance.now() + faultEveryMs;
      await breakOne[turn % breakOne.length]!(1 + random.below(2));
      await sleep(Math.max(0, nextMs - performance.now()));
    }
    await growth.stop();
    const samples = [...growth.samples, ...lasting.flatMap((one) => scene.memoryOf(one))].filter(
      ({ atMs }) => atMs >= endMs - lengthMs[tier] && atMs <= endMs,
    );
    const seconds = (warmUpMs[tier] + lengthMs[tier]) / 1_000;
    const expected = { jobs: 0.9 * rate * seconds, faults: seconds / 15, executions: load.sent / 8 };
    const course = await scene.course(expected, (verdict) => [unsuccessful(verdict)]);
    await sleep(Math.max(retention.keptMs + retention.knownMs + 8_000, bareMs)); // outputs outlive their record by some seconds
    const left = (await lastingKeys(scene.redis)).filter((name) => !before.has(name));
    say(`  keys that are left: ${left.join(", ")}`);
    const checks = [
      ...sizeChecks(samples, allowed[tier]),
      { what: "keys that are left when all is forgotten", value: left.length, limit: fewKeys, better: "lower" as const },
      ...driftChecks(scene.ledger, tier === "soak"),
    ];
    return { ...course, checks: [...course.checks, ...checks] };
  },
};

function sizeChecks(samples: readonly Sample[], may: (typeof allowed)[keyof typeof allowed]): Check[] {
  const names = [...new Set(samples.flatMap(({ values }) => Object.keys(values)))];
  return names.map((name): Check => {
    const { before, after, minutes } = growthOf(samples, name);
    const what = `${name}, ${before.toFixed(1)} to ${after.toFixed(1)}`;
    const perMinute = { what, value: (after - before) / minutes, better: "lower" as const, unit: "MB a minute" };
    if (name.startsWith("live")) return { ...perMinute, limit: may.liveMbAMinute };
    if (/^(worker|coordinator).* MB$/.test(name)) return { ...perMinute, limit: may.mbAMinute };
    if (name.endsWith("handles")) return { what, value: after - before, limit: 2, better: "lower" };
    return { what, value: 100 * (after / before - 1), limit: may.percent, better: "lower", unit: "%" };
  });
}

/** The time from a job's creation to its end, in the first third of the jobs against the last; judged where hours make it a figure. */
function driftChecks({ events }: Ledger, isJudged: boolean): Check[] {
  const tookMs = events.flatMap((event) => (event.kind === "outcome" ? [event.outcome.finishedMs - event.outcome.createdMs] : []));
  const third = Math.floor(tookMs.length / 3);
  const p99 = (part: number[]): number => part.sort((a, b) => a - b)[Math.floor(0.99 * part.length)]!;
  const value = 100 * (p99(tookMs.slice(-third)) / p99(tookMs.slice(0, third)) - 1);
  return [{ what: "drift of the p99", value, limit: isJudged ? 10 : 100, better: "lower", unit: "%" }];
}

/** Keys without a time to live. */
async function lastingKeys(redis: Scene["redis"]): Promise<string[]> {
  const lasting: string[] = [];
  for await (const page of redis.scanStream({ count: 1_000 })) {
    const names = page as string[];
    const times = await Promise.all(names.map((name) => redis.pttl(name)));
    lasting.push(...names.filter((_, at) => times[at] === -1));
  }
  return lasting;
}
