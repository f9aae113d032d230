/**
 * A cluster of single processes for tests that kill, freeze and replace them: a Redis, coordinators and workers of its own, on free ports.
 * Nothing supervises them here, so that a test decides what dies and what comes back. Everything ends with the test, and with its process.
 */

import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { ProgramStart } from "./one-process.ts";
import { startTestRedis, type TestRedis } from "./redis.ts";
import { until } from "./until.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const mains = {
  coordinator: path.join(root, "coordinator/src/main.ts"),
  worker: path.join(root, "worker/src/main.ts"),
  together: path.join(root, "test/support/one-process.ts"),
} as const;
const exampleModels = path.join(root, "models");
const startMs = 60_000;

export interface ProcessesOptions {
  /** Default 1. */
  coordinators?: number;
  /** Default 1. */
  workers?: number;
  /** Model repository; default: the example models. */
  models?: string;
  /** Further variables of every process. */
  env?: Record<string, string>;
  /** Further variables by name, such as `worker-2`. */
  envOf?: (name: string) => Record<string, string>;
  /** Further variables of the workers alone. */
  workerEnv?: Record<string, string>;
  /** All coordinators and workers run in one process: what is done to one is done to all, and none can be added. */
  inOneProcess?: boolean;
  /** With which its hosts are asked for, where the coordinators take keys. */
  apiKey?: string;
  /** Default true; see startTestRedis. */
  redisPersists?: boolean;
  /** Default: a new one, stopped at the end. With an address of another form in `env`, none is started or needed. */
  redis?: TestRedis;
}

export interface OneProcess {
  readonly name: string;
  readonly pid: number;
  /** Whether its process exists. */
  readonly runs: boolean;
  /** Resolves with exit code and signal. */
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>;
  signal(signal: NodeJS.Signals): void;
  /** Starts it again, under the same name; resolves when it is ready. */
  respawn(): Promise<void>;
  log(): string;
}

export interface CoordinatorProcess extends OneProcess {
  readonly url: string;
  /** host:port of its gRPC. */
  readonly grpc: string;
}

export interface WorkerProcess extends OneProcess {
  /** As it registered, which is its name unless it chose for itself. */
  readonly hostId: string;
  /** Of this start, as it registered. */
  readonly incarnation: string;
}

export interface Processes extends AsyncDisposable {
  /** Of the first coordinator. */
  readonly url: string;
  readonly urls: string[];
  readonly coordinators: CoordinatorProcess[];
  readonly workers: WorkerProcess[];
  readonly redis: TestRedis;
  addWorker(env?: Record<string, string>): Promise<WorkerProcess>;
  log(): string;
  /** Ends all of them in order, as SIGTERM does. */
  drain(): Promise<void>;
  /** Ends all of them at once: how they end when they are asked to is for tests of that. */
  stop(): Promise<void>;
}

/** Stands where the test keeps the store's servers itself. */
const noRedis = { url: "" } as TestRedis;

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** Resolves when every coordinator is ready and every worker has registered. */
export async function startProcesses(options: ProcessesOptions = {}): Promise<Processes> {
  const isElsewhere = options.env?.SWITCHYARD_REDIS_URL !== undefined;
  const redis = options.redis ?? (isElsewhere ? noRedis : await startTestRedis({ persists: options.redisPersists ?? true }));
  const models = options.models ?? exampleModels;
  const common = { SWITCHYARD_REDIS_URL: redis.url, SWITCHYARD_MODELS: models, SWITCHYARD_METRICS: "127.0.0.1:0", ...options.env };
  const envOf = (name: string): Record<string, string> => ({
    ...common,
    ...(name.startsWith("worker") && options.workerEnv),
    ...options.envOf?.(name),
  });
  const named = <Process>(kind: string, count: number, make: (name: string, env: Record<string, string>) => Process): Process[] =>
    Array.from({ length: count }, (_, index) => `${kind}-${index + 1}`).map((name) => make(name, envOf(name)));
  const counts = { coordinators: options.coordinators ?? 1, workers: options.workers ?? 1 };
  const together = options.inOneProcess ? new Together(counts, envOf) : undefined;
  const coordinators = together?.coordinators ?? named("coordinator", counts.coordinators, (name, env) => new Coordinator(name, env));
  const workers = together?.workers ?? named("worker", counts.workers, (name, env) => new WorkerOne(name, env));
  const all = (): Started[] => (together ? [together] : [...coordinators, ...workers].filter((one) => one instanceof Started));
  const drain = async (): Promise<void> => void (await Promise.all(all().map((one) => one.stopWithin(8_000))));
  const stop = async (): Promise<void> => {
    // servers of tools that a coordinator started are ended by it
    if (options.env?.SWITCHYARD_MCP_SERVERS !== undefined) await drain();
    await Promise.all(all().map((one) => one.kill()));
    if (!options.redis && !isElsewhere) await redis.stop();
  };
  const log = (): string =>
    all()
      .map((one) => `--- ${one.name}\n${one.log()}`)
      .join("\n");
  try {
    await Promise.all(all().map((one) => one.respawn()));
    const ids = workers.map(({ hostId }) => hostId);
    for (const coordinator of coordinators) await untilHosts(coordinator, ids, options.apiKey);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    get url() {
      return coordinators[0]!.url;
    },
    get urls() {
      return coordinators.map(({ url }) => url);
    },
    coordinators,
    workers,
    redis,
    async addWorker(more = {}) {
      if (together) throw new Error("a cluster in one process takes no further workers");
      const name = `worker-${workers.length + 1}`;
      const worker = new WorkerOne(name, { ...envOf(name), ...more });
      workers.push(worker);
      await worker.respawn();
      for (const coordinator of coordinators) await untilHosts(coordinator, [worker.hostId], options.apiKey);
      return worker;
    },
    log,
    drain,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** A coordinator's view of hosts is a snapshot: what a test relies on must be in it. One that a test has ended is not asked. */
async function untilHosts(coordinator: CoordinatorProcess, ids: readonly string[], apiKey: string | undefined): Promise<void> {
  if (ids.length === 0) return; // nor one whose keys the test has yet to make
  const headers: Record<string, string> = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
  await until(`${ids.join(", ")} to be listed by ${coordinator.name}`, async () => {
    // on a busy machine an answer may stop half-way, or be a refusal while the store stands still
    const listed = await fetch(`${coordinator.url}/v1/hosts`, { headers, signal: AbortSignal.timeout(2_000) })
      .then(async (answer) => (await answer.json()) as { items?: { id: string; state: string }[] })
      .catch(() => undefined);
    if (listed === undefined) return !coordinator.runs;
    const ready = new Set(listed.items?.filter(({ state }) => state === "ready").map(({ id }) => id));
    return ids.every((id) => ready.has(id));
  });
}

abstract class Started implements OneProcess {
  readonly name: string;
  readonly #program: keyof typeof mains;
  readonly #env: Record<string, string>;
  readonly #log: string[] = [];
  #child: ChildProcess | undefined;
  #exited: OneProcess["exited"] = Promise.resolve({ code: null, signal: null });

  constructor(program: keyof typeof mains, name: string, env: Record<string, string>) {
    this.#program = program;
    this.name = name;
    this.#env = env;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get runs(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get exited(): OneProcess["exited"] {
    return this.#exited;
  }

  log(): string {
    return this.#log.join("");
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.#exited;
  }

  async stop(): Promise<number | null> {
    this.signal("SIGTERM");
    return (await this.#exited).code;
  }

  /** A process that a test froze or broke must not keep the test. */
  async stopWithin(ms: number): Promise<void> {
    const late = setTimeout(() => this.signal("SIGKILL"), ms);
    this.signal("SIGCONT");
    await this.stop();
    clearTimeout(late);
  }

  async respawn(): Promise<void> {
    const mark = this.#log.length;
    // descriptor 3: the process ends itself when this one is gone
    const env = { ...process.env, ...this.#env, SWITCHYARD_PARENT_PIPE: "3" };
    const child = spawn(process.execPath, [mains[this.#program]], { cwd: root, env, stdio: ["ignore", "pipe", "pipe", "pipe"] });
    this.#child = child;
    running.add(child);
    this.#exited = new Promise((resolve) => child.once("exit", (code, signal) => resolve({ code, signal })));
    let ended = false;
    void this.#exited.then(() => running.delete(child));
    child.once("close", () => {
      ended = true; // and all that it said has been read
    });
    child.stdio[3]?.on("error", () => {});
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk: Buffer) => this.#log.push(String(chunk)));
    await until(
      `${this.name} to start`,
      async () => {
        const text = this.#log.slice(mark).join("");
        if (!ended) return await this.started(text);
        // one that was ready may have met its end before this process looked again
        if (await this.started(text).catch(() => false)) return true;
        throw new Error(`${this.name} ended before it was ready:\n${text}`);
      },
      { withinMs: startMs, show: () => this.log() },
    );
  }

  /** Whether what it said since its start means that it is there. */
  protected abstract started(log: string): Promise<boolean>;
}

async function isReady({ url }: { url: string }): Promise<boolean> {
  const answer = await fetch(`${url}/readyz`);
  await answer.arrayBuffer();
  return answer.ok;
}

const anyCoordinatorPort = { SWITCHYARD_HTTP: "127.0.0.1:0", SWITCHYARD_GRPC: "127.0.0.1:0" };
const oneThread = (name: string): Record<string, string> => ({ SWITCHYARD_HOST_ID: name, SWITCHYARD_THREADS: "1" });

class Coordinator extends Started implements CoordinatorProcess {
  url = "";
  grpc = "";

  constructor(name: string, env: Record<string, string>) {
    super("coordinator", name, { ...anyCoordinatorPort, ...env });
  }

  protected async started(log: string): Promise<boolean> {
    const [, url, grpc = ""] = /"listening".*?"url":"(http:\/\/[^"]+)"(?:.*?"grpc":"([^"]+)")?/.exec(log) ?? [];
    if (url === undefined) return false;
    this.url = url;
    this.grpc = grpc;
    return await isReady({ url });
  }
}

class WorkerOne extends Started implements WorkerProcess {
  hostId = "";
  incarnation = "";

  constructor(name: string, env: Record<string, string>) {
    super("worker", name, { ...oneThread(name), ...env });
  }

  protected async started(log: string): Promise<boolean> {
    const [, hostId, incarnation] = /"registered".*?"host":"([^"]+)".*?"incarnation":"([^"]+)"/.exec(log) ?? [];
    if (hostId === undefined || incarnation === undefined) return false;
    this.hostId = hostId;
    this.incarnation = incarnation;
    return true;
  }
}

/** All in one process. */
class Together extends Started {
  readonly coordinators: (CoordinatorProcess & { url: string; grpc: string })[];
  readonly workers: (WorkerProcess & { hostId: string; incarnation: string })[];

  constructor(counts: { coordinators: number; workers: number }, envOf: (name: string) => Record<string, string>) {
    const named = (program: ProgramStart["program"], count: number, own: (name: string) => Record<string, string>): ProgramStart[] =>
      Array.from({ length: count }, (_, index) => `${program}-${index + 1}`).map((name) => ({
        program,
        name,
        env: { ...own(name), ...envOf(name) },
      }));
    const coordinators = named("coordinator", counts.coordinators, () => anyCoordinatorPort);
    const workers = named("worker", counts.workers, oneThread);
    const starts = [...coordinators, ...workers];
    // what is loaded before the programs is loaded once, with what a worker needs
    super("together", "together", { ...starts.at(-1)!.env, SWITCHYARD_TEST_PROGRAMS: JSON.stringify(starts) });
    this.coordinators = coordinators.map(({ name }) => Object.assign(new Shared(name, this), { url: "", grpc: "" }));
    this.workers = workers.map(({ name }) => Object.assign(new Shared(name, this), { hostId: name, incarnation: "" }));
  }

  protected async started(log: string): Promise<boolean> {
    const listening = [...log.matchAll(/"listening".*?"url":"(http:\/\/[^"]+)"(?:.*?"grpc":"([^"]+)")?/g)];
    const registered = [...log.matchAll(/"registered".*?"incarnation":"([^"]+)"/g)];
    if (listening.length < this.coordinators.length || registered.length < this.workers.length) return false;
    for (const [at, [, url = "", grpc = ""]] of listening.entries()) Object.assign(this.coordinators[at]!, { url, grpc });
    for (const [at, [, incarnation]] of registered.entries()) Object.assign(this.workers[at]!, { incarnation });
    return (await Promise.all(this.coordinators.map(isReady))).every(Boolean);
  }
}

/** One of those that share a process. */
class Shared implements OneProcess {
  readonly name: string;
  readonly #process: OneProcess;

  constructor(name: string, process: OneProcess) {
    this.name = name;
    this.#process = process;
  }

  get pid(): number {
    return this.#process.pid;
  }

  get runs(): boolean {
    return this.#process.runs;
  }

  get exited(): OneProcess["exited"] {
    return this.#process.exited;
  }

  kill = (): Promise<void> => this.#process.kill();
  stop = (): Promise<number | null> => this.#process.stop();
  signal = (): never => this.#alone();
  respawn = (): never => this.#alone();
  log = (): string => this.#process.log();

  #alone(): never {
    throw new Error(`${this.name} shares its process: it can be ended with all of them only`);
  }
}
