/** R24: processes die between every two steps of a job's way, one step after the other. */

import { setTimeout as sleep } from "node:timers/promises";
import type { OneProcess } from "../../support/processes.ts";
import { until } from "../../support/until.ts";
import type { CommandFault } from "../faults/proxy.ts";
import { scriptOf } from "../faults/script-names.ts";
import { type Recipe, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

interface Point {
  what: string;
  who: "coordinator" | "worker";
  kind: "before" | "after";
  matches: (words: readonly string[]) => boolean;
  /** So many jobs are sent at once, every so often, until it is come to: the load alone may never lead there. */
  burst?: number;
}

const burstEveryMs = 500;

const script = (name: string) => (words: readonly string[]) => scriptOf(words) === name;
/** Of small batches they come with the claim, of others by a list that it made, or by their names. */
const readsInputs = (words: readonly string[]): boolean => ["mget", "sort_ro"].includes(words[0]?.toLowerCase() ?? "");

/** In the order of the way: admit, ticket, answer; take, claim, inputs, run, commit, end of the ticket. */
const points: readonly Point[] = [
  { what: "before admit", who: "coordinator", kind: "before", matches: script("admit") },
  { what: "after admit, before its ticket", who: "coordinator", kind: "after", matches: script("admit") },
  { what: "after the ticket, before the answer", who: "coordinator", kind: "after", matches: script("bullmq addPrioritizedJob") },
  { what: "before take", who: "worker", kind: "before", matches: script("take") },
  { what: "after take", who: "worker", kind: "after", matches: script("take") },
  { what: "after claim", who: "worker", kind: "after", matches: script("claim") },
  { what: "after the run, before commit", who: "worker", kind: "before", matches: script("commit") },
  { what: "after commit", who: "worker", kind: "after", matches: script("commit") },
  { what: "before the end of a ticket", who: "worker", kind: "before", matches: script("bullmq moveToFinished") },
  { what: "before the inputs", who: "worker", kind: "before", matches: readsInputs, burst: 8 },
];
const rate = { smoke: 12, nightly: 50, soak: 50 } as const;
const times = { smoke: 1, nightly: 3, soak: 50 } as const;

export const crashPoints: Recipe = {
  id: "R24",
  title: "processes dying between every two steps",
  tiers: ["smoke", "nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    // the third lives all along: what looks after dead hosts has to have watched them for a while
    await using scene = await Scene.open(context, { hosts: 2, coordinators: 3, proxied: true });
    const load = await scene.begin({ seed, rate: rate[tier], timeoutMs: { least: 20_000, most: 25_000 } });
    /** Whoever comes to it first: where one host can do it all, the other may be left without work for long. */
    const die = async (point: Point): Promise<void> => {
      const those: readonly OneProcess[] = point.who === "worker" ? scene.cluster.workers : scene.cluster.coordinators.slice(0, 2);
      let hit: OneProcess | undefined;
      for (const one of those) {
        scene.proxies.get(one.name)!.onCommand = (words): CommandFault | undefined => {
          if (hit || !point.matches(words)) return undefined;
          hit = one;
          return { kind: point.kind, call: () => one.signal("SIGKILL") };
        };
      }
      const sinceMs = performance.now();
      let burstMs = sinceMs;
      const isHit = async (): Promise<OneProcess | undefined> => {
        load.takeTurns(sinceMs);
        if (point.burst && performance.now() >= burstMs) {
          for (let job = 0; job < point.burst; job++) load.one();
          burstMs = performance.now() + burstEveryMs;
        }
        return hit;
      };
      const victim = await until(`a ${point.who} to come to the point ${point.what}`, isHit);
      load.takeTurns(undefined);
      await victim.exited;
      for (const { name } of those) scene.proxies.get(name)!.onCommand = undefined;
      scene.fault(`${victim.name} died ${point.what}`);
      await victim.respawn();
      await sleep(200);
    };
    for (let time = 0; time < times[tier]; time++) {
      // one of each kind at a time: the others go on
      const inTurn = async (who: Point["who"]): Promise<void> => {
        for (const point of points.filter((one) => one.who === who)) await die(point);
      };
      await Promise.all([inTurn("coordinator"), inTurn("worker")]);
    }
    const expected = { jobs: load.sent / 2, faults: times[tier] * points.length, executions: load.sent / 10 };
    return await scene.course(expected, (verdict) => [unsuccessful(verdict)]);
  },
};
