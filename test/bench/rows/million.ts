/**
 * A million jobs that wait in one queue: admit and claim take as long as with none. Jobs go straight through the coordinator's store, hosts'
 * steps through their scripts, on a Redis of its own; no HTTP and no run is in these times.
 */

import { Redis } from "ioredis";
import { seededRandom } from "../../../scripts/seeded-random.ts";
import type { JobRig, TestHost } from "../../support/job-rig.ts";
import { succeeded } from "../../support/job-rig.ts";
import { RedisRigs } from "../../support/redis-rig.ts";
import { type Noise, noiseOf, round, sleep, untilQuiet } from "../cell.ts";
import { quantile } from "../fairness.ts";
import { readMachine, useBetween } from "../machine.ts";
import { startBenchRedis } from "../systems/bench-redis.ts";
import { budget } from "./budget.ts";
import type { RowContext, RowResult } from "./row.ts";
import { shown } from "./shown.ts";

const waiting = 1_000_000;
const waitingQuick = 50_000;
const batch = 8;
const inputBytes = 256;
const timeoutMs = 3_600_000;
const underWay = 1_000;
const turns = 3_000;
const memory = 8 * 1024 ** 3;

interface Times {
  admitMs: { p50: number; p99: number };
  claimMs: { p50: number; p99: number };
  noise: Noise;
}

/** A host under a ticket of the rig's queue, which has nothing waiting yet. */
async function hostOf(rig: JobRig): Promise<{ host: TestHost; ticket: string }> {
  await admit(rig, 1, () => 0);
  const found = await rig.hostWithTicket();
  await answer(found.host, found.ticket);
  return found;
}

async function admit(rig: JobRig, count: number, spreadMs: () => number): Promise<void> {
  const inputs = [new Uint8Array(inputBytes)];
  const admitted = await Promise.allSettled(
    Array.from({ length: count }, () => rig.admit({ timeoutMs, latestStartMs: timeoutMs - 1_000 - spreadMs(), inputs }, 1, batch)),
  );
  const failed = admitted.find((one) => one.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

/**
 * Until so many wait; answers how many do, and the tickets that the sweeper issued for them, since the host's own has lapsed meanwhile. A
 * Redis that stands still for its file, longer than the store waits, is asked again, and may have done what it was asked before.
 */
async function fill(rig: JobRig, jobs: number, spreadMs: () => number): Promise<{ jobs: number; tickets: string[] }> {
  const more = async (count: number): Promise<void> => {
    try {
      await admit(rig, count, spreadMs);
    } catch (error) {
      if ((error as { code?: string }).code !== "store_unavailable") throw error;
      await sleep(1);
    }
  };
  for (let left = jobs; left > 0; left -= underWay) await more(Math.min(left, underWay));
  const tickets: string[] = [];
  for (;;) {
    const { figures, tickets: issued } = await rig.store.sweep(rig.tag, 1, batch);
    tickets.push(...issued);
    if (figures.waiting >= jobs) return { jobs: figures.waiting, tickets };
    await more(Math.min(jobs - figures.waiting, underWay));
  }
}

/** The first of these, or of those that the sweeper issues, that is not gone. */
async function takeTicket(rig: JobRig, worker: { host: TestHost; ticket: string }, issued: string[]): Promise<void> {
  for (let tickets = issued, look = 0; look < 60; look++) {
    for (const ticket of tickets) {
      if ((await worker.host.take(ticket)) !== "held") continue;
      worker.ticket = ticket;
      return;
    }
    await sleep(0.5);
    tickets = (await rig.store.sweep(rig.tag, 1, batch)).tickets;
  }
  throw new Error("the sweeper issued no ticket for half a minute");
}

/** Claims a batch and commits it; answers how long the claim took. */
async function answer(host: TestHost, ticket: string): Promise<number> {
  const startedMs = performance.now();
  const jobs = await host.batch(ticket, { maxItems: batch, busyMs: 60_000 });
  const tookMs = performance.now() - startedMs;
  await host.commit(
    ticket,
    jobs.map((job) => succeeded(job)),
  );
  return tookMs;
}

/** Turns of a batch that is admitted and a batch that is claimed: the queue stays as long as it is. */
async function measureTurns(
  rig: JobRig,
  worker: { host: TestHost; ticket: string },
  of: { turns: number; spreadMs: () => number; own: Set<number> },
): Promise<Times> {
  await untilQuiet();
  const [admits, claims]: [number[], number[]] = [[], []];
  const before = readMachine(of.own);
  for (let turn = 0; turn < of.turns; turn++) {
    const startedMs = performance.now();
    await admit(rig, batch, of.spreadMs);
    admits.push(performance.now() - startedMs);
    claims.push(await answer(worker.host, worker.ticket));
  }
  const noise = noiseOf(useBetween(before, readMachine(of.own)));
  const both = (times: number[]) => ({ p50: round(quantile(times, 0.5)!, 3), p99: round(quantile(times, 0.99)!, 3) });
  return { admitMs: both(admits), claimMs: both(claims), noise };
}

/** Redis writes its file anew while it grows; that is measured by nobody here. */
async function untilRewritten(redis: Redis): Promise<void> {
  for (let look = 0; look < 60; look++) {
    if (/aof_rewrite_in_progress:0/.test(await redis.info("persistence"))) return;
    await sleep(1);
  }
}

async function usedBytes(redis: Redis): Promise<number> {
  return Number(/^used_memory:(\d+)/m.exec(await redis.info("memory"))?.[1]);
}

export async function millionRow(context: RowContext): Promise<RowResult> {
  const wanted = context.isQuick ? waitingQuick : waiting;
  const perRound = context.isQuick ? turns / 10 : turns;
  const server = await startBenchRedis({ maxMemoryBytes: memory });
  const redis = new Redis(server.url);
  const rigs = await RedisRigs.open(server.url);
  try {
    const rig = rigs.rig();
    const own = new Set([process.pid, server.pid]);
    const random = seededRandom(5);
    const spreadMs = (): number => random.below(timeoutMs / 2);
    const worker = await hostOf(rig);
    const measure = async (what: string): Promise<Times[]> => {
      const found: Times[] = [];
      for (let turn = 0; turn < context.rounds; turn++) {
        found.push(await measureTurns(rig, worker, { turns: perRound, spreadMs, own }));
        context.say(`  ${what}: ${JSON.stringify(found.at(-1))}`);
      }
      return found;
    };
    await measureTurns(rig, worker, { turns: perRound, spreadMs, own }); // warms both ends up
    const empty = await measure("nothing waits");
    const bytesBefore = await usedBytes(redis);
    const startedMs = performance.now();
    const { jobs, tickets } = await fill(rig, wanted, spreadMs);
    const seconds = (performance.now() - startedMs) / 1000;
    const bytesPerJob = ((await usedBytes(redis)) - bytesBefore) / jobs;
    context.say(`  ${jobs} jobs admitted in ${seconds.toFixed(1)} s, ${bytesPerJob.toFixed(0)} bytes each`);
    await untilRewritten(redis);
    await takeTicket(rig, worker, tickets);
    const full = await measure(`${jobs} wait`);
    const sweepStartedMs = performance.now();
    const { figures } = await rig.store.sweep(rig.tag, 1, batch);
    const sweepMs = performance.now() - sweepStartedMs;
    if (figures.waiting !== jobs) throw new Error(`${figures.waiting} jobs wait instead of ${jobs}`);
    const against = (value: (times: Times) => number) =>
      full.map((times, at) => ({ value: value(times) / value(empty[at]!), isQuiet: !(times.noise.isNoisy || empty[at]!.noise.isNoisy) }));
    const line = (title: string, times: Times[]): string[] => [
      title,
      shown(
        times.map(({ admitMs }) => admitMs.p50),
        2,
      ),
      shown(
        times.map(({ admitMs }) => admitMs.p99),
        2,
      ),
      shown(
        times.map(({ claimMs }) => claimMs.p50),
        2,
      ),
      shown(
        times.map(({ claimMs }) => claimMs.p99),
        2,
      ),
    ];
    return {
      title: `${jobs.toLocaleString("en")} waiting jobs of ${inputBytes} bytes: ${bytesPerJob.toFixed(0)} bytes of Redis each, admitted at ${(jobs / seconds).toFixed(0)} jobs/s, a sweep ${sweepMs.toFixed(1)} ms`,
      table: {
        titles: [`ms for a batch of ${batch}`, "admit p50", "admit p99", "claim p50", "claim p99"],
        lines: [line("nothing waits", empty), line(`${jobs} wait`, full)],
      },
      details: [{ jobs, seconds, bytesPerJob, sweepMs, empty, full }],
      budgets: [
        budget({
          text: "admit p99 ≤ 2 × that of an empty queue",
          rounds: against(({ admitMs }) => admitMs.p99),
          limit: 2,
          better: "lower",
        }),
        budget({
          text: "claim p99 ≤ 2 × that of an empty queue",
          rounds: against(({ claimMs }) => claimMs.p99),
          limit: 2,
          better: "lower",
        }),
      ],
    };
  } finally {
    redis.disconnect();
    await rigs.close();
    await server.stop();
  }
}
