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
const withinMs = 60_000;
/** Shorter than a host may be silent, and longer than a job waits that was handed to it. */
const frozenMs = 2_000;
const storeFrozenMs = 400;
/** A handed job that its host does not take, or does not commit, is another's after a moment and a sweep. */
const mostMs = { smoke: 1_800, nightly: 1_000, soak: 1_000 } as const;
/** Where the machine is busy runs take too long to be handed over now and then: so many of the jobs must have been, at least one in so many. */
const handedOf = { smoke: 20, nightly: 4, soak: 4 } as const;

export const handedJobs: Recipe = {
  id: "R41",
  title: "jobs handed over one at a time, to and by what fails",
  tiers: ["smoke", "nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    const random = seededRandom(seed);
    await using scene = await Scene.open(context, { hosts: 2, coordinators: 2, device: { minMs: 1, maxMs: 4 } });
    using handed = await Handed.open(scene.redis);
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
        const code = await scene.stop(await handed.next(workers));
        scene.fault(`a host drained, with code ${code}`);
        for (const host of workers) if (!host.runs) await host.respawn();
      },
      async () => {
        await handed.next(workers);
        for (const type of ["NORMAL", "PUBSUB"]) await scene.redis.call("CLIENT", "KILL", "TYPE", type, "SKIPME", "YES");
        scene.fault("connections killed");
      },
      async () => {
        await handed.next(workers);
        redis.pause();
        scene.fault("Redis frozen");
        await sleep(storeFrozenMs);
        redis.resume();
      },
      async () => {
        await handed.next(workers);
        const coordinator = coordinators[random.below(2)]!; // they are asked in turns
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
      let slowestMs = 0;
      for (const event of scene.ledger.events) {
        if (event.kind !== "outcome" || !handed.ids.has(event.id)) continue;
        const { createdMs, finishedMs } = event.outcome;
        slowestMs = Math.max(slowestMs, finishedMs - createdMs - scene.pulse.lateMs(createdMs, finishedMs));
      }
      return [
        unsuccessful(verdict),
        { what: "jobs handed over", value: handed.ids.size, limit: load.sent / handedOf[tier], better: "higher" },
        { what: "slowest of them", value: slowestMs, limit: mostMs[tier], better: "lower", unit: "ms" },
        { what: "further runs, against faults", value: verdict.counts.furtherRuns, limit: 2 * count, better: "lower" },
      ];
    });
  },
};

/** Hears what is handed over, and to whom. */
class Handed implements Disposable {
  readonly ids = new Set<string>();
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
      const [, line] = message.split("\n", 2);
      if (line === undefined) return; // a wake-up
      handed.ids.add(line.split(" ", 1)[0]!);
      handed.#heard.resolve(channel.split(":").at(-1)!);
      handed.#heard = Promise.withResolvers();
    });
    try {
      await listener.psubscribe("sy:wake:*");
    } catch (error) {
      listener.disconnect();
      throw error;
    }
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
    throw new Error(`no job is handed over, after ${this.ids.size} of them`);
  }

  [Symbol.dispose](): void {
    this.#listener.disconnect();
  }
}
