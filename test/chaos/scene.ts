/**
 * One scene of a recipe: a cluster of real processes, clients at work, hosts whose devices keep a log, and eyes on the store. A recipe
 * breaks things in it; in the end the checker judges what all of them saw.
 */

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { keys, queueTag } from "@switchyard/protocol/redis";
import { Redis } from "ioredis";
import { type Tenant, writeKeys } from "../bench/systems/switchyard.ts";
import { call } from "../support/calls.ts";
import { type OneProcess, type Processes, startProcesses, type WorkerProcess } from "../support/processes.ts";
import { Pulse } from "../support/pulse.ts";
import { auditQueue } from "../support/queue-audit.ts";
import { startTestRedis } from "../support/redis.ts";
import { emptyRepository } from "../support/timed-models.ts";
import { until } from "../support/until.ts";
import { type Expected, type History, judge, type StoreAtEnd, type Verdict } from "./checker.ts";
import type { DeviceSettings } from "./device.ts";
import { answerTo, deviceGraph, deviceModelName } from "./device-model.ts";
import { Balancer } from "./faults/balancer.ts";
import { FaultProxy } from "./faults/proxy.ts";
import type { Sample } from "./growth.ts";
import { type Execution, Ledger } from "./ledger.ts";
import { Load, type LoadPlan } from "./load.ts";
import type { Check, Course, RecipeContext } from "./recipe.ts";
import { Watch } from "./watch.ts";

export interface SceneOptions {
  hosts: number;
  coordinators?: number;
  /** Largest batch. */
  batch?: number;
  device?: Partial<Omit<DeviceSettings, "log" | "host" | "heldWhile">>;
  /** Further lines of the model's model.yaml. */
  settings?: string;
  /** Whether each process reaches Redis through a proxy of its own. */
  proxied?: boolean;
  /** Whether clients reach the coordinators through one balancer. */
  balanced?: boolean;
  env?: Record<string, string>;
  /** Whether coordinators and hosts share one process: for faults of which none has to die. */
  inOneProcess?: boolean;
  /** Instead of the day for which it is known that there was a job. */
  dayMs?: number;
  /** Whether processes tell how much of their memory is alive. */
  memory?: boolean;
  /** With keys of their own; default: no keys, so one tenant. */
  tenants?: readonly Tenant[];
  /** A store that the recipe has started, and a client that follows it; default: a server of the scene's own. */
  store?: { url: string; redis: Redis };
}

const deviceProgram = new URL("./device.ts", import.meta.url).href;
const mutationProgram = new URL("./mutation.ts", import.meta.url).href;
const memoryProgram = new URL("./memory-log.ts", import.meta.url).href;
const shortDayProgram = new URL("./short-day.ts", import.meta.url).href;
const cleanWithinMs = 15_000;
/** To read all that a queue holds, of tens of thousands of jobs. */
const auditMs = 30_000;
const holdName = "hold";

interface SceneParts {
  cluster: Processes;
  redis: Redis;
  tag: string;
  folder: string;
  proxies: ReadonlyMap<string, FaultProxy>;
  balancer: Balancer | undefined;
  watch: Watch;
  pulse: Pulse;
  /** What ends with the scene, in the order in which it was made. */
  made: AsyncDisposableStack;
  say: RecipeContext["say"];
}

export class Scene implements AsyncDisposable {
  readonly ledger = new Ledger();
  readonly pulse: Pulse;
  readonly cluster: Processes;
  readonly redis: Redis;
  readonly watch: Watch;
  readonly tag: string;
  readonly say: (line: string) => void;
  /** By process name. */
  readonly proxies: ReadonlyMap<string, FaultProxy>;
  readonly #folder: string;
  readonly #balancer: Balancer | undefined;
  readonly #made: AsyncDisposableStack;
  readonly #loads: Load[] = [];
  #supervision: { isOver: boolean; done: Promise<unknown> } | undefined;
  /** How often a host that had ended by itself was started again. */
  restarts = 0;

  private constructor(parts: SceneParts) {
    this.cluster = parts.cluster;
    this.redis = parts.redis;
    this.tag = parts.tag;
    this.say = parts.say;
    this.proxies = parts.proxies;
    this.#folder = parts.folder;
    this.#balancer = parts.balancer;
    this.#made = parts.made;
    this.watch = parts.watch;
    this.pulse = parts.pulse;
  }

  /** Resolves when every host holds the model. */
  static async open({ mutation, say, tier }: RecipeContext, options: SceneOptions): Promise<Scene> {
    await using made = new AsyncDisposableStack();
    const folder = await mkdtemp(path.join(tmpdir(), "switchyard-chaos-"));
    made.defer(() => rm(folder, { recursive: true, force: true }));
    const models = made.use(await emptyRepository());
    await models.add(deviceModelName, deviceGraph(), { settings: `max_batch_items: ${options.batch ?? 4}\n${options.settings ?? ""}` });
    const server = options.store === undefined ? await startTestRedis() : undefined;
    if (server) made.defer(() => server.stop());
    const storeUrl = server?.url ?? options.store!.url;
    const proxies = new Map<string, FaultProxy>();
    if (options.proxied && server) {
      const names = [...namesOf("coordinator", options.coordinators ?? 1), ...namesOf("worker", options.hosts)];
      for (const name of names) proxies.set(name, made.use(await FaultProxy.open({ host: "127.0.0.1", port: server.port, isRedis: true })));
    }
    const heldWhile = path.join(folder, holdName);
    const envOf = (name: string): Record<string, string> => {
      const proxy = proxies.get(name);
      let url = storeUrl;
      if (proxy) url = url.replace(/:\d+(?=\/?$)/, `:${proxy.port}`);
      const changed = [
        ...(mutation ? [mutationProgram] : []),
        ...(options.dayMs ? [shortDayProgram] : []),
        ...(options.memory ? [memoryProgram] : []),
      ];
      const common = {
        SWITCHYARD_REDIS_URL: url,
        NODE_OPTIONS: optionsOf(changed),
        ...(mutation && { CHAOS_MUTATION: mutation }),
        ...(options.dayMs && { CHAOS_DAY_MS: String(options.dayMs) }),
        ...(options.memory && { CHAOS_MEMORY: path.join(folder, `${name}.memory`) }),
      };
      if (!name.startsWith("worker")) return common;
      const device: DeviceSettings = {
        log: path.join(folder, `${name}.jsonl`),
        host: name,
        heldWhile,
        minMs: 20,
        maxMs: 80,
        ...options.device,
      };
      // with cores to spare, hosts claim ahead
      const threads = { SWITCHYARD_THREADS: "1" };
      return { ...common, ...threads, NODE_OPTIONS: optionsOf([...changed, deviceProgram]), CHAOS_DEVICE: JSON.stringify(device) };
    };
    const access = options.tenants && (await writeKeys(path.join(folder, "keys.yaml"), options.tenants));
    const cluster = made.use(
      await startProcesses({
        coordinators: options.coordinators ?? 1,
        workers: options.hosts,
        models: models.folder,
        inOneProcess: options.inOneProcess ?? false,
        ...(server && { redis: server }),
        envOf,
        env: { SWITCHYARD_REDIS_URL: storeUrl, ...(access && { SWITCHYARD_API_KEYS: access.file }), ...options.env },
        ...(access && { apiKey: access.operator }),
      }),
    );
    // how they end when they are asked to is shown elsewhere
    made.defer(async () => void (await Promise.all([...cluster.coordinators, ...cluster.workers].map((one) => one.kill()))));
    const patient = { maxRetriesPerRequest: null, retryStrategy: () => 100, commandTimeout: 1_000 };
    const redis = options.store?.redis ?? new Redis(storeUrl, patient);
    redis.on("error", () => {}); // it is broken on purpose
    made.defer(() => redis.disconnect());
    // beside other tests the disk is busy, and a Redis that waits for it stands still for two seconds at a time
    if (tier === "smoke" && server) await redis.config("SET", "appendfsync", "no");
    const headers: Record<string, string> = access ? { authorization: `Bearer ${access.operator}` } : {};
    const listed = await call(`${cluster.url}/v1/models/${deviceModelName}`, { headers });
    const { items } = listed.json() as { items: { digest: string }[] };
    const tag = queueTag(deviceModelName, items[0]!.digest);
    const balancer = options.balanced ? made.use(await Balancer.open(() => cluster.urls)) : undefined;
    const watch = new Watch({ redis, base: keys.base(tag), workers: cluster.workers });
    watch.start();
    made.defer(() => watch.stop());
    const pulse = made.use(new Pulse());
    return new Scene({ cluster, redis, tag, folder, proxies, say, balancer, watch, pulse, made: made.move() });
  }

  /** Clients that send when they are told to. */
  clients(plan: LoadPlan): Load {
    const load = new Load(plan, {
      urls: () => (this.#balancer ? [this.#balancer.url] : this.cluster.urls),
      ledger: this.ledger,
      redis: this.redis,
    });
    this.#loads.push(load);
    return load;
  }

  /** Clients begin; resolves when answers flow. */
  async begin(plan: LoadPlan): Promise<Load> {
    const load = this.clients(plan);
    load.start();
    await until("answers to flow", async () => load.answers > 5, { withinMs: 30_000, show: () => this.cluster.log() });
    return load;
  }

  fault(what: string): void {
    this.ledger.fault(what);
    this.say(`  ${what}`);
  }

  /** Kills a host, starts it again after a pause, and says how soon what it had in hand was back. */
  async killHost(
    worker: WorkerProcess,
    pauseMs: number,
  ): Promise<{ respawned: Promise<void>; back: Promise<{ jobs: number; backMs: number }> }> {
    const { incarnation } = worker;
    await worker.kill();
    const killedMs = Date.now();
    const jobs = await this.inHand(incarnation);
    this.fault(`${worker.name} killed with ${jobs} jobs in hand`);
    const back = until(`what ${worker.name} had in hand to be back`, async () => (await this.inHand(incarnation)) === 0, {
      withinMs: 20_000,
    }).then(() => ({ jobs, backMs: Date.now() - killedMs - this.pulse.lateMs(killedMs, Date.now()) }));
    back.catch(() => {}); // looked at in the end
    const respawned = sleep(pauseMs).then(() => worker.respawn());
    respawned.catch(() => {}); // looked at by whoever waits for it
    return { respawned, back };
  }

  /** One that has jobs in hand, looked for from this one on: where one host can do it all, the others may be left without for long. */
  async busyHost(from = 0): Promise<WorkerProcess> {
    const { workers } = this.cluster;
    const looked = workers.map((_, at) => workers[(from + at) % workers.length]!);
    return await until(
      "a host to have jobs in hand",
      async () => {
        for (const worker of looked) if (worker.runs && (await this.inHand(worker.incarnation)) > 0) return worker;
        return false;
      },
      { everyMs: 5, show: () => this.cluster.log() },
    );
  }

  /** How many jobs a host has claimed and not committed. */
  async inHand(incarnation: string): Promise<number> {
    const claim = (await this.redis.hget(`${keys.base(this.tag)}claims`, incarnation)) ?? "";
    return [...claim.matchAll(/ [\w-]+=\d+/g)].length;
  }

  /** From now on no run of any host ends, however quick the hosts are and however slow the clients, until they are let go. */
  holdRuns(): void {
    writeFileSync(path.join(this.#folder, holdName), "");
  }

  letRunsGo(): void {
    rmSync(path.join(this.#folder, holdName));
  }

  /** How many jobs wait to be claimed. */
  async waiting(): Promise<number> {
    const base = keys.base(this.tag);
    const flows = await this.redis.hkeys(`${base}flows`);
    const counts = await Promise.all(flows.map((flow) => this.redis.zcard(`${base}order:${flow}`)));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /** Ends the load, waits until nothing is open, looks at everything once more, and judges; `checks` are what the recipe asks besides. */
  async course(expected: Expected, checks: (verdict: Verdict) => Check[]): Promise<Course> {
    await Promise.all(this.#loads.map((load) => load.end()));
    const store = await this.#storeAtEnd();
    for (const load of this.#loads) await load.identify();
    await this.#lookAtBare(store); // at once: their minute passes
    for (const load of this.#loads) await load.lookAgain();
    await this.watch.stop();
    const history: History = {
      events: this.ledger.events,
      executions: this.executions(),
      store,
      stalls: this.watch.stalls,
      answerTo: (number) => answerTo(number),
    };
    const verdict = judge(history, expected);
    return { verdict, expected, ledger: this.ledger, checks: checks(verdict) };
  }

  async #lookAtBare(store: StoreAtEnd): Promise<void> {
    for (const load of this.#loads) {
      const known = new Set(this.ledger.events.flatMap((event) => (event.kind === "ack" ? [event.id] : [])));
      const explained = new Set(await load.lookAtBare(store.listed.filter((id) => !known.has(id))));
      store.listed = store.listed.filter((id) => !explained.has(id));
    }
  }

  executions(): Execution[] {
    return this.cluster.workers.flatMap(({ name }) => {
      const lines = readLines(path.join(this.#folder, `${name}.jsonl`));
      return lines.map((line) => JSON.parse(line) as Execution);
    });
  }

  /** How much memory was alive in each thread of a process, by what it told. */
  memoryOf({ name }: OneProcess): Sample[] {
    const lines = readLines(path.join(this.#folder, `${name}.memory`));
    return lines.map((line) => {
      const { atMs, bytes, thread } = JSON.parse(line) as { atMs: number; bytes: number; thread: number };
      return { atMs, values: { [`live MB of ${name}, thread ${thread}`]: bytes / 1024 ** 2 } };
    });
  }

  /** Nothing may be left open; that has a moment to come true. */
  async #storeAtEnd(): Promise<StoreAtEnd> {
    const endMs = performance.now() + cleanWithinMs;
    await using made = new AsyncDisposableStack();
    const redis = this.redis.duplicate({ commandTimeout: auditMs });
    made.defer(() => redis.disconnect());
    for (;;) {
      const [atMs, audit] = [Date.now(), await auditQueue(redis, this.tag)];
      const open = [...audit.jobs].filter(([, { state }]) => state === "queued" || state === "running");
      const waiting = Object.values(audit.order).flat();
      const claimed = audit.claims.flatMap(({ jobs }) => jobs);
      const faults = [
        ...open.map(([id, { state }]) => `job ${id} is still ${state}`),
        ...waiting.filter((id) => !audit.jobs.has(id)).map((id) => `${id} waits without a record`),
        ...claimed.map(({ id }) => `job ${id} is still claimed`),
        ...audit.due.filter((id) => !audit.jobs.has(id)).map((id) => `${id} is due without a record`),
        ...audit.immortal.map((name) => `${name} has ended and will never go`),
      ];
      if (faults.length === 0 || performance.now() > endMs) return { listed: [...audit.jobs.keys()], atMs, faults };
      await sleep(200);
    }
  }

  /** SIGTERM; the exit code, nothing where it does not end in time. */
  async stop(one: OneProcess, withinMs = 45_000): Promise<number | null | undefined> {
    one.signal("SIGTERM");
    const end = await Promise.race([one.exited, sleep(withinMs, undefined, { ref: false })]);
    return end?.code;
  }

  /** From now on a host that ends is started again, as whoever runs it would. */
  supervise(pauseMs = 250): void {
    const supervision = { isOver: false, done: Promise.resolve() as Promise<unknown> };
    const keep = async (worker: WorkerProcess): Promise<void> => {
      while (!supervision.isOver) {
        await sleep(50);
        if (worker.runs || supervision.isOver) continue;
        await sleep(pauseMs);
        this.restarts++;
        await worker.respawn();
      }
    };
    supervision.done = Promise.allSettled(this.cluster.workers.map(keep));
    this.#supervision = supervision;
  }

  async endSupervision(): Promise<void> {
    if (this.#supervision) this.#supervision.isOver = true;
    await this.#supervision?.done;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#loads.map((load) => load.abandon()));
    await this.endSupervision();
    await this.#made[Symbol.asyncDispose]();
  }
}

const namesOf = (kind: string, count: number): string[] => Array.from({ length: count }, (_, index) => `${kind}-${index + 1}`);

const optionsOf = (programs: readonly string[]): string => programs.map((program) => `--import=${program}`).join(" ");

function readLines(file: string): string[] {
  try {
    return readFileSync(file, "utf8").split("\n").filter(Boolean);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return []; // a host that ran nothing
    throw error;
  }
}
