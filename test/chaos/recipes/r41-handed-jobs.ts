/** R41: jobs that come one at a time are claimed, as they are admitted, for the host that lingers. That host dies, freezes or does not hear, and so does who hands them over. */

import { setTimeout as sleep } from "node:timers/promises";
import type { Redis } from "ioredis";
import { seededRandom } from "../../../scripts/seeded-random.ts";
import type { WorkerProcess } from "../../support/processes.ts";
import { type Recipe, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

/** Of each kind of fault. */
const rounds = { smoke: 1, nightly: 6, soak: 120 } as const;
/** Shorter pauses than a host lingers, mostly. */
const rate = 100;
/** In which hosts have seen enough jobs that came alone again. */
const calmMs = { smoke: 1_000, nightly: 2_500, soak: 2_500 } as const;
/** After a job was handed over, its run is over and its host lingers for the next. */
const lingersMs = 10;
/** In which a job is handed over: hosts that have just begun see first how long runs take, and that jobs come alone. */
const withinMs = 30_000;
/** Shorter than a host may be silent. */
const frozenMs = 1_200;
const storeFrozenMs = 400;
/** A handed job that its host does not take is another's after a moment and a sweep; what the frozen host had claimed waits until it is awake. */
const mostMs = { smoke: 2_500, nightly: frozenMs + 800, soak: frozenMs + 800 } as const;

export const handedJobs: Recipe = {
  id: "R41",
  title: "jobs handed over one at a time, to and by what fails",
  tiers: ["smoke", "nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    const random = seededRandom(seed);
    await using scene = await Scene.open(context, { hosts: 2, coordinators: 2, device: { minMs: 1, maxMs: 4 } });
    await using handed = await Handed.open(scene.redis);
    const load = await scene.begin({
      seed,
      rate,
      timeoutMs: { least: 12_000, most: 16_000 },
      manners: ["infer", "held"],
      oneAtATime: true,
    });
    await handed.next(scene.cluster.workers);
    const { coordinators, redis, workers } = scene.cluster;
    const kill = (host: WorkerProcess): Promise<void> => scene.killHost(host, calmMs[tier]).then(({ respawned }) => respawned);
    const faults: (() => Promise<void>)[] = [
      async () => await kill(await handed.next(workers)),
      async () => {
        const host = await handed.next(workers);
        await sleep(lingersMs);
        await kill(host);
      },
      async () => {
        const host = await handed.next(workers);
        await sleep(random.below(lingersMs));
        scene.watch.freeze(host);
        scene.fault(`${host.name} frozen`);
        await sleep(frozenMs);
        scene.watch.thaw(host);
      },
      async () => {
        await scene.stop(await handed.next(workers));
        scene.fault("a host drained");
        for (const host of workers) if (!host.runs) await host.respawn();
      },
      async () => {
        for (const type of ["NORMAL", "PUBSUB"]) await scene.redis.call("CLIENT", "KILL", "TYPE", type, "SKIPME", "YES");
        scene.fault("connections killed");
      },
      async () => {
        redis.pause();
        scene.fault("Redis frozen");
        await sleep(storeFrozenMs);
        redis.resume();
      },
      async () => {
        const coordinator = coordinators[random.below(2)]!;
        await coordinator.kill();
        scene.fault(`${coordinator.name} killed`);
        await coordinator.respawn();
      },
    ];
    for (let round = 0; round < rounds[tier]; round++) {
      for (const fault of faults) {
        await fault();
        await sleep(calmMs[tier]);
      }
    }
    const count = rounds[tier] * faults.length;
    const expected = { jobs: load.sent / 2, faults: count, executions: load.sent / 2 };
    return await scene.course(expected, (verdict) => {
      const tookMs = scene.ledger.events.flatMap((event) => {
        if (event.kind !== "outcome") return [];
        const { createdMs, finishedMs } = event.outcome;
        return [finishedMs - createdMs - scene.pulse.lateMs(createdMs, finishedMs)];
      });
      return [
        unsuccessful(verdict),
        { what: "jobs handed over", value: handed.count, limit: load.sent / 4, better: "higher" },
        { what: "slowest job", value: Math.max(...tookMs), limit: mostMs[tier], better: "lower", unit: "ms" },
        { what: "further runs, against faults", value: verdict.counts.furtherRuns, limit: 2 * count, better: "lower" },
      ];
    });
  },
};

/** Hears what is handed over, and to whom. */
class Handed implements AsyncDisposable {
  count = 0;
  #heard = Promise.withResolvers<string>();
  readonly #listener: Redis;

  private constructor(listener: Redis) {
    this.#listener = listener;
  }

  static async open(redis: Redis): Promise<Handed> {
    const listener = redis.duplicate();
    const handed = new Handed(listener);
    listener.on("error", () => {}); // it is broken on purpose
    listener.on("pmessage", (_pattern: string, channel: string, message: string) => {
      if (!message.includes("\n")) return; // a wake-up
      handed.count++;
      handed.#heard.resolve(channel.split(":").at(-1)!);
      handed.#heard = Promise.withResolvers();
    });
    await listener.psubscribe("sy:wake:*");
    return handed;
  }

  /** The host that is handed a job now. */
  async next(hosts: readonly WorkerProcess[]): Promise<WorkerProcess> {
    const endMs = performance.now() + withinMs;
    while (performance.now() < endMs) {
      const incarnation = await Promise.race([this.#heard.promise, sleep(100, undefined, { ref: false })]);
      const host = hosts.find((one) => one.runs && one.incarnation === incarnation);
      if (host) return host;
    }
    throw new Error(`no job is handed over, after ${this.count} of them`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.disconnect();
  }
}
