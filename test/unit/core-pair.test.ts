import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { describe, test } from "node:test";
import {
  allowedCores,
  CorePair,
  type CorePairPids,
  coresIn,
  type ProcessorTimes,
  systemTimes,
} from "../../coordinator/src/embedded/core-pair.ts";
import { ManualClock } from "../support/manual-clock.ts";

const both = [3, 7] as const;

/** A machine whose processes take what is said, look by look. */
class Rig {
  readonly clock = new ManualClock();
  readonly placed = new Map<number, string>();
  readonly said: string[] = [];
  pids: CorePairPids = { coordinator: 10, redis: 20 };
  refusal: Error | undefined;
  refusesFreeing = false;
  /** Of the coordinator. */
  threads = ["10", "11"];
  binds = 0;
  slow: Promise<void> | undefined;
  readonly #usedMs = new Map<number, number>([10, 20, 11, 21].map((pid) => [pid, 0]));
  readonly gone = new Set<number>();
  readonly pair: CorePair;

  constructor({ isAlways = false } = {}) {
    const times: ProcessorTimes = {
      mainThreadMs: (pid) => (this.gone.has(pid) ? undefined : this.#usedMs.get(pid)),
      threads: (pid) => (pid === this.pids.coordinator ? this.threads : []),
      place: async (pid, { main, others }) => {
        if (this.gone.has(pid)) throw new Error("no such process");
        assert.deepEqual(others, both);
        this.binds++;
        await this.slow;
        if (this.refusal && (main.length === 1 || this.refusesFreeing) && pid === this.pids.redis) throw this.refusal;
        this.placed.set(pid, String(main));
      },
    };
    this.pair = new CorePair({
      cores: both,
      pids: () => this.pids,
      isAlways,
      clock: this.clock,
      times,
      events: { bound: (cores) => this.said.push(JSON.stringify(cores)), failed: (why) => this.said.push(why) },
    });
  }

  /** Seconds in which both take these shares of a core. */
  async pass(seconds: number, coordinator: number, redis: number): Promise<void> {
    for (let at = 0; at < seconds; at++) {
      await this.clock.advance(1_000);
      for (const [pid, share] of [
        [this.pids.coordinator, coordinator],
        [this.pids.redis, redis],
      ] as const)
        if (pid !== undefined) this.#usedMs.set(pid, (this.#usedMs.get(pid) ?? 0) + 1_000 * share);
      await this.pair.look();
    }
  }

  get places(): Record<string, string> {
    return Object.fromEntries(this.placed);
  }
}

describe("core pair", () => {
  test("cores are read as Linux lists them, and a pair is chosen of exactly two", () => {
    assert.deepEqual(coresIn("0-2,5\n"), [0, 1, 2, 5]);
    assert.deepEqual(coresIn("3"), [3]);
    assert.deepEqual(coresIn(""), []);
    assert.deepEqual(CorePair.cores([0, 1]), [0, 1]);
    assert.deepEqual(CorePair.cores([3, 7]), [3, 7]);
    for (const cores of [[], [0], [0, 1, 2], [0, 1, 2, 3]]) assert.equal(CorePair.cores(cores), undefined, String(cores));
  });

  test("both are bound when both are busy for two looks, which is said once, and free when one has been calm for five", async () => {
    const rig = new Rig();
    await rig.pass(2, 0.6, 0.4);
    assert.deepEqual(rig.places, {}, "one look has nothing to compare with, and one is not enough");
    await rig.pass(1, 0.6, 0.4);
    assert.deepEqual(rig.places, { 10: "3", 20: "7" });
    await rig.pass(4, 0.05, 0.4);
    await rig.pass(1, 0.25, 0.15); // less than it takes to be bound, and enough to stay so
    await rig.pass(4, 0.6, 0.05);
    assert.deepEqual(rig.places, { 10: "3", 20: "7" });
    await rig.pass(1, 0.6, 0.05);
    assert.deepEqual(rig.places, { 10: "3,7", 20: "3,7" });
    await rig.pass(2, 0.6, 0.4);
    assert.deepEqual(rig.places, { 10: "3", 20: "7" });
    assert.deepEqual(rig.said, ['{"coordinator":3,"redis":7}']);
  });

  test("nothing is bound where only one of both is busy, as with heavy models or large inputs", async () => {
    for (const [coordinator, redis] of [
      [0.9, 0.1],
      [0.2, 0.9],
      [0.22, 0.07],
    ] as const) {
      const rig = new Rig();
      await rig.pass(20, coordinator, redis);
      assert.deepEqual(rig.places, {});
    }
  });

  test("who wants it always has it without load, too", async () => {
    const rig = new Rig({ isAlways: true });
    await rig.pass(3, 0, 0);
    assert.deepEqual(rig.places, { 10: "3", 20: "7" });
    await rig.pass(10, 0, 0);
    assert.deepEqual(rig.places, { 10: "3", 20: "7" });
  });

  test("threads that a bound process starts are freed at the next look, and one that ends meanwhile is no reason to leave it", async () => {
    const rig = new Rig();
    await rig.pass(3, 0.6, 0.4);
    await rig.pass(5, 0.6, 0.4);
    assert.equal(rig.binds, 2, "the same threads stay where they are");
    rig.threads = ["10", "11", "12"];
    rig.refusal = Object.assign(new Error("taskset: failed to set pid 11's affinity: No such process"), { code: 1 });
    await rig.pass(1, 0.6, 0.4);
    assert.equal(rig.binds, 4);
    rig.refusal = undefined;
    await rig.pass(1, 0.6, 0.4);
    assert.equal(rig.binds, 6, "what failed is tried again");
    rig.threads = ["10", "12"];
    await rig.pass(5, 0.6, 0.4);
    assert.equal(rig.binds, 6, "one that ends changes nothing");
    assert.deepEqual(rig.places, { 10: "3", 20: "7" });
    for (let second = 0; second < 5; second++) {
      rig.threads = [...rig.threads, String(second)];
      await rig.pass(1, 0.05, 0.4);
    }
    assert.deepEqual(rig.places, { 10: "3,7", 20: "3,7" }, "a calm one is free all the same");
    assert.equal(rig.said.length, 1);
  });

  test("when one of a pair is started again the other one is free until both are busy", async () => {
    const rig = new Rig();
    await rig.pass(3, 0.6, 0.4);
    rig.gone.add(20);
    rig.pids = { coordinator: 10, redis: undefined };
    await rig.pass(1, 0.6, 0);
    assert.deepEqual(rig.places, { 10: "3,7", 20: "7" });
    rig.pids = { coordinator: 10, redis: 21 };
    await rig.pass(2, 0.6, 0.4);
    assert.deepEqual(rig.places, { 10: "3,7", 20: "7" });
    await rig.pass(1, 0.6, 0.4);
    assert.deepEqual(rig.places, { 10: "3", 20: "7", 21: "7" });
  });

  test("where it cannot be done neither is bound, which is said once and not tried again", async () => {
    for (const [refusal, said] of [
      [Object.assign(new Error("spawn taskset ENOENT"), { code: "ENOENT" }), "there is no taskset"],
      [Object.assign(new Error("taskset: failed to set pid 20's affinity: Operation not permitted"), { code: 1 }), "it is not allowed"],
    ] as const) {
      const rig = new Rig();
      rig.refusal = refusal;
      await rig.pass(10, 0.6, 0.4);
      rig.refusal = undefined;
      await rig.pass(10, 0.6, 0.4);
      assert.deepEqual(rig.places, { 10: "3,7", 20: "3,7" });
      assert.deepEqual(rig.said, [said]);
    }
  });

  test("what fails for a moment is tried again, binding and freeing", async () => {
    const rig = new Rig();
    rig.refusal = Object.assign(new Error("spawn EAGAIN"), { code: "EAGAIN" });
    await rig.pass(3, 0.6, 0.4);
    assert.deepEqual(rig.places, { 10: "3,7", 20: "3,7" });
    rig.refusal = undefined;
    await rig.pass(2, 0.6, 0.4);
    assert.deepEqual(rig.places, { 10: "3", 20: "7" });
    rig.refusal = Object.assign(new Error("spawn EAGAIN"), { code: "EAGAIN" });
    rig.refusesFreeing = true;
    await rig.pass(6, 0, 0);
    assert.deepEqual(rig.places, { 10: "3,7", 20: "7" });
    rig.refusal = undefined;
    await rig.pass(1, 0, 0);
    assert.deepEqual(rig.places, { 10: "3,7", 20: "3,7" });
  });

  test("looks do not overlap, and what goes wrong in one ends them, and nothing else", async () => {
    const rig = new Rig();
    await rig.pass(2, 0.6, 0.4);
    const slow = Promise.withResolvers<void>();
    rig.slow = slow.promise;
    const binding = rig.pass(1, 0.6, 0.4);
    for (let second = 0; second < 6; second++) {
      await rig.clock.advance(1_000);
      await rig.pair.look(); // would find both calm
    }
    slow.resolve();
    await binding;
    assert.deepEqual(rig.places, { 10: "3", 20: "7" });
    assert.equal(rig.binds, 2);
    const broken = new CorePair({
      cores: both,
      pids: () => {
        throw new Error("odd");
      },
      clock: rig.clock,
      events: { failed: (why) => rig.said.push(why) },
    });
    await broken.look();
    await broken.look();
    assert.equal(rig.said.at(-1), "odd");
    assert.equal(rig.said.length, 2);
  });

  const linux = { skip: process.platform !== "linux" && "reads /proc" };
  test("a main thread's time is told, whatever its process is called, and none of a process that is not there", linux, async () => {
    const began = process.cpuUsage();
    const before = systemTimes.mainThreadMs(process.pid)!;
    for (const end = performance.now() + 300; performance.now() < end; );
    const { user, system } = process.cpuUsage(began);
    const ms = systemTimes.mainThreadMs(process.pid)! - before;
    assert.ok(ms >= 20 && ms <= (user + system) / 1_000 + 30, `${ms} of ${(user + system) / 1_000} ms`);

    const odd = spawn(process.execPath, ["-e", 'process.title = "a) (b 1 2"; for (;;);']);
    await once(odd, "spawn");
    for (const late = performance.now() + 30_000; (systemTimes.mainThreadMs(odd.pid!) ?? 0) < 100; ) {
      assert.ok(performance.now() < late, `${systemTimes.mainThreadMs(odd.pid!)} ms`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    odd.kill("SIGKILL");
    await once(odd, "exit");
    assert.equal(systemTimes.mainThreadMs(odd.pid!), undefined);
    assert.ok(allowedCores().length > 0);
  });

  const cores = allowedCores().slice(0, 2);
  const canPlace = process.platform === "linux" && cores.length === 2 && spawnSync("taskset", ["--version"]).status === 0;
  const onTwoCores = { skip: !canPlace && "needs two cores, and taskset" };
  test("a process is placed with its main thread on its core and all others on both, wherever they were", onTwoCores, async (t) => {
    const [first, second] = cores as [number, number];
    const program = ["-e", "require('node:fs').readFile('/', () => console.log('begun')); setInterval(() => {}, 1000)"];
    const child = spawn("taskset", ["-c", String(second), process.execPath, ...program], { stdio: ["ignore", "pipe", "inherit"] });
    t.after(() => child.kill("SIGKILL"));
    await once(child.stdout, "data");
    const pid = child.pid!;
    const placed = (): Record<string, number> => {
      const counts: Record<string, number> = {};
      for (const thread of readdirSync(`/proc/${pid}/task`)) {
        const status = readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8");
        const at = `${thread === String(pid) ? "main" : "others"} ${String(coresIn(/^Cpus_allowed_list:\s*(\S+)/m.exec(status)![1]!))}`;
        counts[at] = (counts[at] ?? 0) + 1;
      }
      return counts;
    };
    const { [`others ${second}`]: others = 0, ...rest } = placed();
    assert.deepEqual(rest, { [`main ${second}`]: 1 });
    assert.ok(others >= 4 && systemTimes.threads(pid).length === others + 1, String(systemTimes.threads(pid)));
    await systemTimes.place(pid, { main: [first], others: cores });
    assert.deepEqual(placed(), { [`main ${first}`]: 1, [`others ${cores}`]: others });
    await systemTimes.place(pid, { main: cores, others: cores });
    assert.deepEqual(placed(), { [`main ${cores}`]: 1, [`others ${cores}`]: others });
    child.kill("SIGKILL");
    await once(child, "exit");
    assert.deepEqual(systemTimes.threads(pid), []);
    await assert.rejects(systemTimes.place(pid, { main: [first], others: cores }));
  });
});
