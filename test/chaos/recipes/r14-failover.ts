/**
 * R14: the master dies, or freezes, and a replica takes its place: whatever was acknowledged as replicated is there. One that wakes up early
 * goes on as a master until the sentinels have told it, for those who are still connected: what they do there is as good as not done.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { ask, RedisFarm, startSentinels } from "../../support/redis-forms.ts";
import { until } from "../../support/until.ts";
import type { Course, Recipe, RecipeContext } from "../recipe.ts";
import { Scene } from "../scene.ts";

const downAfterMs = 1_000;
/** For how long sentinels see a second master before they step in, with room. */
const demotedWithinMs = 12_000;
const password = "hunter2";

async function failOver(context: RecipeContext, how: "killed" | "frozen" | "woken"): Promise<Course> {
  await using farm = await RedisFarm.open();
  const { master, replica, sentinels, url } = await startSentinels(farm, { downAfterMs });
  const patient = { maxRetriesPerRequest: null, retryStrategy: () => 100, commandTimeout: 1_000 };
  const nodes = sentinels.map(({ port }) => ({ host: "127.0.0.1", port }));
  const redis = new Redis({ sentinels: nodes, name: "yard", password, ...patient });
  redis.on("error", () => {}); // it is broken on purpose
  await using scene = await Scene.open(context, { hosts: 2, coordinators: 2, store: { url, redis } });
  scene.supervise();
  const { seed } = context;
  const plan = {
    seed,
    rate: 30,
    timeoutMs: { least: 40_000, most: 50_000 },
    manners: ["held", "queued"] as const,
    durability: "replicated" as const,
    mayRefuse: ["durability_unavailable"],
  };
  const load = await scene.begin(plan);
  await sleep(3_000);
  if (how === "killed") await master.kill();
  else master.signal("SIGSTOP");
  const goneMs = performance.now();
  scene.fault(`the master ${how}`);
  // a sentinel ends all connections of the server that it makes the master
  const isMaster = (): Promise<boolean> =>
    ask(replica.port, async (one) => (await one.role())[0] === "master", { password }).catch(() => false);
  await until("the replica to be the master", isMaster, { withinMs: 30_000 });
  const promotedMs = performance.now() - goneMs;
  scene.fault(`the replica is the master after ${promotedMs.toFixed(0)} ms`);
  if (how === "woken") master.signal("SIGCONT");
  // without a second copy the tier is not offered: a new one, as whoever runs the servers would start
  await farm.start("replica-2", (port) => [
    `port ${port}`,
    `requirepass ${password}`,
    `masterauth ${password}`,
    "repl-diskless-sync-delay 0",
    `replicaof 127.0.0.1 ${replica.port}`,
  ]);
  const before = scene.executions().length;
  await until("hosts to run again", async () => scene.executions().length > before, { withinMs: 40_000 });
  const backMs = performance.now() - goneMs;
  if (how === "frozen") master.signal("SIGCONT");
  await sleep(how === "woken" ? demotedWithinMs + 5_000 : 5_000);
  const againWithinMs = how === "woken" ? demotedWithinMs + 15_000 : 15_000;
  const expected = { jobs: load.sent / 4, faults: 2, executions: load.sent / 20 };
  return await scene.course(expected, ({ counts }) => [
    { what: `master ${how}: new master after`, value: promotedMs, limit: 15_000, better: "lower", unit: "ms" },
    { what: `master ${how}: hosts ran again after`, value: backMs, limit: againWithinMs, better: "lower", unit: "ms" },
    { what: `master ${how}: jobs that did not succeed`, value: counts.acknowledged - counts.succeeded, limit: 0, better: "lower" },
  ]);
}

export const failover: Recipe = {
  id: "R14",
  title: "fail-over to a replica, the master killed, frozen, and frozen for a moment",
  tiers: ["nightly", "soak"],
  async run(context) {
    const killed = await failOver(context, "killed");
    if (!killed.verdict.isGood) return killed;
    const frozen = await failOver(context, "frozen");
    if (!frozen.verdict.isGood) return frozen;
    const woken = await failOver(context, "woken");
    return { ...woken, checks: [...killed.checks, ...frozen.checks, ...woken.checks] };
  },
};
