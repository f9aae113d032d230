/** R16: scripts are carried out and their replies are lost with the connection, each script in turn. */

import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../support/until.ts";
import { scriptOf } from "../faults/script-names.ts";
import type { Load } from "../load.ts";
import type { Recipe } from "../recipe.ts";
import { Scene } from "../scene.ts";

/** What clients and hosts of this load call again and again. */
const frequent = ["admit", "claim", "commit", "heartbeat", "sweep", "take", "renew", "watch", "report", "cancel"];
/** How hosts fetch tickets. One that is fetched unheard is locked for ten seconds, and only so many may be on offer. */
const fetching = "bullmq moveToActive";
/** BullMQ is asked only where no host lingers. */
const queueing = ["bullmq addPrioritizedJob", fetching, "bullmq moveToFinished"];
const each = {
  smoke: { ms: 400, every: [10] },
  nightly: { ms: 3_000, every: [100, 20] },
  soak: { ms: 120_000, every: [100, 20] },
} as const;
const stormMs = 2_000;
const runsAfterStorm = 10;
const rate = { smoke: 30, nightly: 60, soak: 60 } as const;
/** Of what is seldom called: whoever repeats a call is answered then. */
const rareEvery = 3;
/** Jobs that end while hosts are frozen: shorter than what a host may be silent. */
const frozenMs = 1_500;
const shortJobs = 5;
const shortMs = { least: 400, most: 800 };
/** Until what is waited for has happened: longest for records of calls without a key, which are forgotten after their minute. */
const seenWithinMs = 90_000;
const firstShort = 1_000_000;

export const lostReplies: Recipe = {
  id: "R16",
  title: "replies lost after the command was carried out, each script in turn",
  tiers: ["smoke", "nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 2, coordinators: 2, proxied: true });
    const load = await scene.begin({ seed, rate: rate[tier], timeoutMs: { least: 20_000, most: 25_000 }, cancelEvery: 5 });
    const short = scene.clients({ seed: seed + 1, rate: 0, timeoutMs: shortMs, firstNumber: firstShort, manners: ["held"] });
    const dropped = new Map<string, number>();
    /** The first of each script, then one of so many: some are called once a second. */
    const dropRepliesOf = (script: string, every: number): { seen: () => number } => {
      let seen = 0;
      for (const proxy of scene.proxies.values()) {
        proxy.onCommand = (words) => {
          if (scriptOf(words) !== script || seen++ % every > 0) return undefined;
          dropped.set(script, (dropped.get(script) ?? 0) + 1);
          scene.ledger.fault(`reply of ${script} dropped`);
          return { kind: "drop_reply" };
        };
      }
      return { seen: () => seen };
    };
    for (const every of each[tier].every) {
      for (const script of [...frequent, ...queueing]) {
        const { seen } = dropRepliesOf(script, every);
        const sinceMs = performance.now();
        await sleep(each[tier].ms);
        const isSeen = async (): Promise<boolean> => {
          load.takeTurns(sinceMs);
          return seen() > 0;
        };
        await until(`${script} to lose a reply`, isSeen);
        load.takeTurns(undefined);
      }
    }
    dropRepliesOf(fetching, 1);
    await sleep(stormMs);
    for (const proxy of scene.proxies.values()) proxy.onCommand = undefined;
    const [calmMs, before] = [performance.now(), scene.executions().length];
    await until("hosts to run again", async () => scene.executions().length >= before + runsAfterStorm, { withinMs: 30_000 });
    const againMs = performance.now() - calmMs;
    // a smoke test is over before the first records of calls without a key are a minute old
    const all = Object.entries(rare).filter(([script]) => script !== "forget" || tier !== "smoke");
    for (const [script, bringAbout] of all) {
      const { seen } = dropRepliesOf(script, rareEvery);
      await bringAbout(scene, short, seen);
      await until(`${script} to lose a reply`, async () => seen() > 0, { withinMs: seenWithinMs });
    }
    for (const proxy of scene.proxies.values()) proxy.onCommand = undefined;
    scene.say(`  replies dropped: ${[...dropped].map(([script, times]) => `${script} ${times}`).join(", ")}`);
    const scripts = frequent.length + queueing.length + all.length;
    const expected = { jobs: load.sent / 2, faults: scripts, executions: load.sent / 10 };
    const isShort = (key: string): boolean => key.startsWith(`chaos-${seed + 1}-`);
    const expiredOf = (ofShort: boolean): number => {
      const ended = scene.ledger.events.filter((event) => event.kind === "outcome" && event.outcome.state === "expired");
      return new Set(ended.flatMap((event) => ("key" in event && isShort(event.key) === ofShort ? [event.key] : []))).size;
    };
    return await scene.course(expected, ({ counts }) => [
      { what: "scripts that lost a reply", value: dropped.size, limit: scripts, better: "higher" },
      { what: "hosts ran again after no fetch was heard of", value: againMs, limit: 5_000, better: "lower", unit: "ms" },
      { what: "jobs that failed", value: counts.failed, limit: 0, better: "lower" },
      {
        what: "jobs that expired, of those with hosts frozen beyond their deadlines",
        value: expiredOf(true),
        limit: short.sent,
        better: "lower",
      },
      { what: "other jobs that expired", value: expiredOf(false), limit: 0, better: "lower" },
      { what: "calls without a key that did not succeed", value: counts.answeredBadly, limit: 0, better: "lower" },
    ]);
  },
};

/** What a plain load never calls, and what brings it about. */
const rare: Readonly<Record<string, (scene: Scene, short: Load, seen: () => number) => Promise<void>>> = {
  /** A deadline that somebody waits for passes. */
  async expire(scene, short, seen) {
    for (let tries = 0; seen() === 0 && tries < 5; tries++) {
      for (const worker of scene.cluster.workers) scene.watch.freeze(worker);
      for (let job = 0; job < shortJobs; job++) short.one();
      await sleep(frozenMs);
      for (const worker of scene.cluster.workers) scene.watch.thaw(worker);
      if (seen() === 0) await sleep(frozenMs); // they had been refused, or had run before
    }
  },
  /** Records of calls without a key that ended together have been there for their minute. */
  async forget() {},
  /** A host is lost with jobs in hand. */
  async "take-back"(scene) {
    const { respawned, back } = await scene.killHost(await scene.busyHost(), 500);
    await Promise.all([respawned, back]);
  },
  /** A host says goodbye, and gives up what it may claim: one that had jobs in hand a moment before has that. */
  async release(scene, _short, seen) {
    for (let tries = 0; seen() === 0 && tries < 5; tries++) {
      const leaving = await scene.busyHost();
      await scene.stop(leaving);
      await leaving.respawn();
    }
  },
};
