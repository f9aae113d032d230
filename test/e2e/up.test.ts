import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { allowedCores, coresIn } from "../../coordinator/src/embedded/core-pair.ts";
import { holderOf } from "../../coordinator/src/embedded/process-lock.ts";
import { GrpcClient } from "../support/grpc-client.ts";
import { openSession, postMessage } from "../support/mcp-sessions.ts";
import { testRedisCache } from "../support/redis.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const temporary = await mkdtemp(path.join(tmpdir(), "switchyard-up-"));
const running = new Set<Up>();
after(async () => {
  for (const up of running) up.process.kill("SIGKILL");
  await rm(temporary, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
});

interface Up {
  process: ChildProcess;
  exited: Promise<[code: number | null, signal: NodeJS.Signals | null]>;
  /** Resolves with the match when the output has it; rejects when the process ends before. */
  says(pattern: RegExp): Promise<RegExpExecArray>;
  output(): string;
}

/** `cores`: which ones it may use. */
function startUp(data: string, flags: readonly string[] = [], cores?: readonly number[]): Up {
  const free = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--cache", testRedisCache];
  // two addresses for the command line, which would be nonsense to a worker
  const env = { ...process.env, SWITCHYARD_URL: "http://127.0.0.1:1,http://127.0.0.1:2" };
  const command = [process.execPath, "coordinator/src/embedded/up.ts", ...free, "--data", data, ...flags];
  const [program, ...args] = cores === undefined ? command : ["taskset", "-c", cores.join(","), ...command];
  const child = spawn(program!, args, { cwd: root, env });
  let output = "";
  const news = new Set<() => void>();
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      output += chunk;
      for (const tell of news) tell();
    });
  }
  const exited = once(child, "close") as Up["exited"];
  const up: Up = {
    process: child,
    exited,
    output: () => output,
    says(pattern) {
      return new Promise((resolve, reject) => {
        const look = (): void => {
          const match = pattern.exec(output);
          if (!match) return;
          news.delete(look);
          resolve(match);
        };
        news.add(look);
        look();
        void exited.then(() => reject(new Error(`ended without saying ${pattern}:\n${output}`)));
      });
    },
  };
  running.add(up);
  void exited.then(() => running.delete(up));
  return up;
}

/** Ids of the live processes that work on this data folder. Redis writes its title over its environment, so its lock names it. */
function processesOf(data: string): number[] {
  const redis = holderOf(path.join(data, "redis", "redis.pid"));
  const others = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const mentions = (file: string): boolean => readFileSync(`/proc/${pid}/${file}`, "utf8").includes(data);
        return pid !== process.pid && (mentions("environ") || mentions("cmdline"));
      } catch {
        return false;
      }
    });
  return redis === undefined ? others : [...others, redis];
}

interface Cores {
  pid: number;
  /** Of the main thread. */
  main: number[];
  /** Of each other one. */
  others: number[][];
}

/** Which cores the processes of a data folder may use. */
function coresOf(data: string): Record<"coordinator" | "redis" | "worker", Cores> {
  const none: Cores = { pid: 0, main: [], others: [] };
  const roles = { coordinator: /coordinator\/src\/main/, worker: /worker\/src\/main/, redis: /(redis|valkey)-server/ };
  const found: Partial<Record<keyof typeof roles, Cores>> = {};
  const orGone = (file: string): string => {
    try {
      return readFileSync(file, "utf8");
    } catch {
      return "";
    }
  };
  for (const pid of processesOf(data)) {
    const command = orGone(`/proc/${pid}/cmdline`);
    const role = (Object.keys(roles) as (keyof typeof roles)[]).find((name) => roles[name].test(command));
    if (role === undefined) continue;
    const cores = (task: string): number[] =>
      coresIn(/^Cpus_allowed_list:\s*(\S+)/m.exec(orGone(`/proc/${pid}/task/${task}/status`))?.[1] ?? "");
    const tasks = existsSync(`/proc/${pid}/task`) ? readdirSync(`/proc/${pid}/task`).filter((task) => task !== String(pid)) : [];
    found[role] = { pid, main: cores(String(pid)), others: tasks.map(cores).filter((list) => list.length > 0) };
  }
  return { coordinator: none, redis: none, worker: none, ...found };
}

async function eventually(holds: () => Promise<boolean> | boolean, what: string, withinMs = 30_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!(await holds())) {
    if (performance.now() > end) assert.fail(`not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function incarnations(url: string): Promise<string[]> {
  const { items } = (await (await fetch(`${url}/v1/hosts`)).json()) as { items: { incarnation: string }[] };
  return items.map(({ incarnation }) => incarnation);
}

/** Each request on a connection of its own. */
const fresh = { connection: "close" };

const onLinux = { skip: process.platform !== "linux" && "reads /proc" };

/** Each on a data folder of its own. */
describe("switchyard up", { concurrency: 2 }, () => {
  test("up is ready when its address is printed, refuses a second up on its data, and leaves nothing after Ctrl-C", onLinux, async () => {
    const data = path.join(temporary, "orderly");
    const up = startUp(data);
    const [, url = ""] = await up.says(/ready at (http:\S+)/);
    assert.equal((await fetch(`${url}/readyz`)).status, 200);
    await up.says(/npx switchyard infer digits --image/); // said after it, maybe a moment later

    const second = startUp(data);
    assert.deepEqual(await second.exited, [1, null]);
    assert.match(second.output(), new RegExp(`in use by process ${up.process.pid}\\b`));
    assert.equal((await fetch(`${url}/readyz`)).status, 200, "the first one is undisturbed");

    assert.ok(processesOf(data).length >= 4);
    up.process.kill("SIGINT");
    up.process.kill("SIGINT"); // terminal and npm both deliver a Ctrl-C
    assert.deepEqual(await up.exited, [0, null]);
    assert.deepEqual(processesOf(data), []);
    assert.match(await readFile(path.join(data, "logs", "redis.log"), "utf8"), /ready to exit/, "Redis was asked, not killed");
  });

  test("a worker that is killed comes back by itself", onLinux, async () => {
    const data = path.join(temporary, "revived");
    const up = startUp(data);
    const [, url = ""] = await up.says(/ready at (http:\S+)/);
    const before = await incarnations(url);
    assert.equal(before.length, 1);
    const workers = processesOf(data).filter((pid) => pid !== up.process.pid);
    const worker = workers.find((pid) => readFileSync(`/proc/${pid}/environ`, "utf8").includes("SWITCHYARD_WORKER_INDEX=1"));
    assert.ok(worker !== undefined);
    process.kill(worker, "SIGKILL");
    await up.says(/worker-1: it was ended by SIGKILL; starting it again in 0\.25 s/);
    await eventually(async () => (await incarnations(url)).some((name) => !before.includes(name)), "a new incarnation is registered");
    up.process.kill("SIGTERM");
    assert.deepEqual(await up.exited, [0, null]);
  });

  test("several coordinators answer at one address, and go on while one of them is started again", onLinux, async () => {
    const data = path.join(temporary, "shared");
    const up = startUp(data, ["--coordinators", "2"]);
    const [, url = ""] = await up.says(/ready at (http:\S+)/);
    const [, grpc = ""] = await up.says(/gRPC: (\S+)/);
    const inputs = [{ name: "image", shape: [1, 64], datatype: "FP32", data: Array(64).fill(0) }];
    const infer = async (): Promise<void> => {
      const answer = await fetch(`${url}/v2/models/digits/infer`, { method: "POST", body: JSON.stringify({ inputs }), headers: fresh });
      assert.equal(answer.status, 200, await answer.text());
    };
    const metricsOf = (name: string): string => {
      const lines = readFileSync(path.join(data, "logs", `${name}.log`), "utf8").matchAll(/"listening".*"metrics":"([^"]+)"/g);
      return [...lines].at(-1)![1]!;
    };
    const names = ["coordinator", "coordinator-2"];
    const inferences = async (name: string): Promise<number> => {
      const text = await (await fetch(`${metricsOf(name)}/metrics`)).text();
      return Number(/^switchyard_http_request_seconds_count\{route="[^"]*infer".* (\d+)$/m.exec(text)?.[1] ?? 0);
    };
    await eventually(async () => {
      await infer();
      return (await Promise.all(names.map(inferences))).every((count) => count > 0);
    }, "both have run a job");

    const session = await openSession({ url }, fresh);
    const asked = async (): Promise<number> => {
      const pages = await Promise.all(names.map(async (name) => (await fetch(`${metricsOf(name)}/metrics`)).text()));
      const counts = pages.flatMap((page) => [...page.matchAll(/^switchyard_http_request_seconds_count\{route="\/mcp".* (\d+)$/gm)]);
      return counts.reduce((sum, [, count]) => sum + Number(count), 0);
    };
    let sent = 1;
    await eventually(async () => {
      const answer = await postMessage({ url }, { id: 1, method: "tools/list" }, session);
      assert.equal(answer.status, 200, `wherever its requests come to: ${await answer.text()}`);
      sent += 1;
      return (await asked()) > sent;
    }, "one came to the other coordinator, and was handed on");
    using client = new GrpcClient(grpc);
    assert.equal((await client.call("ServerReady", {})).message.ready, true);

    const [, port = ""] = /:(\d+)$/.exec(metricsOf("coordinator-2")) ?? [];
    const second = processesOf(data).find((pid) =>
      readFileSync(`/proc/${pid}/environ`, "utf8").includes(`SWITCHYARD_METRICS=127.0.0.1:${port}\0`),
    );
    process.kill(second!, "SIGKILL");
    await up.says(/coordinator-2: it was ended by SIGKILL; starting it again in 0\.25 s/);
    await infer();
    await eventually(async () => {
      await infer();
      return (await inferences("coordinator-2").catch(() => 0)) > 0;
    }, "the new one has run a job");
    up.process.kill("SIGTERM");
    assert.deepEqual(await up.exited, [0, null]);
    assert.deepEqual(processesOf(data), []);
  });

  const twoCores = allowedCores().slice(0, 2);
  const hasTwoCores = process.platform === "linux" && twoCores.length === 2 && spawnSync("taskset", ["--version"]).status === 0;
  const onTwoCores = { skip: !hasTwoCores && "needs two cores, and taskset" };
  test("on two cores coordinator and Redis keep to one each, after a restart, too", onTwoCores, async () => {
    const [first, second] = twoCores as [number, number];
    const data = path.join(temporary, "bound");
    const up = startUp(data, ["--bind-cores", "always"], twoCores); // at once; under load is the unit tests'
    await up.says(/ready at (http:\S+)/);
    await up.says(new RegExp(`From now on the coordinator keeps to core ${first}, and its Redis to core ${second}`));
    const areBound = (): boolean => {
      const { coordinator, redis } = coresOf(data);
      return String([coordinator.main, redis.main]) === String([first, second]);
    };
    await eventually(areBound, "each keeps to its core");
    const { coordinator } = coresOf(data);
    // where the machine is slow the coordinator starts some of its threads after that: they are freed at the next look
    const others = (): number[][] => {
      const { coordinator, redis, worker } = coresOf(data);
      return [...coordinator.others, ...redis.others, worker.main, ...worker.others];
    };
    await eventually(() => others().every((cores) => String(cores) === String(twoCores)), "all other threads may use both cores");
    assert.ok(coresOf(data).coordinator.others.length > 4);

    process.kill(coordinator.pid, "SIGKILL");
    await up.says(/coordinator: it was ended by SIGKILL; starting it again/);
    await eventually(() => areBound() && coresOf(data).coordinator.pid !== coordinator.pid, "the new coordinator keeps to its core");
    up.process.kill("SIGTERM");
    assert.deepEqual(await up.exited, [0, null]);
  });

  test("nothing outlives an up that is killed without warning", onLinux, async () => {
    const data = path.join(temporary, "killed");
    const up = startUp(data);
    await up.says(/ready at/);
    up.process.kill("SIGKILL");
    await up.exited;
    await eventually(async () => processesOf(data).length === 0, "all processes of the killed up have ended");
    assert.match(await readFile(path.join(data, "logs", "redis.log"), "utf8"), /ready to exit/, "Redis saved its data");
  });

  test("a taken port is told with the flag that changes it", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const { port } = taken.address() as { port: number };
    const up = startUp(path.join(temporary, "taken"), ["--http", `127.0.0.1:${port}`]);
    assert.deepEqual(await up.exited, [1, null]);
    assert.match(up.output(), new RegExp(`127\\.0\\.0\\.1:${port} is taken by another process; choose another address with --http`));
    taken.close();
  });

  test("further coordinators that cannot have an address for their metrics are told of before anything starts", async () => {
    const flags = ["--coordinators", "2", "--workers", "3", "--http", "127.0.0.1:65534", "--metrics", "127.0.0.1:65530"];
    const own = startUp(path.join(temporary, "own"), flags);
    assert.deepEqual(await own.exited, [1, null]);
    assert.match(own.output(), /127\.0\.0\.1:65534 is another of its addresses; choose another address with --metrics/);
    const beyond = startUp(path.join(temporary, "beyond"), ["--coordinators", "2", "--workers", "9", "--metrics", "127.0.0.1:65530"]);
    assert.deepEqual(await beyond.exited, [1, null]);
    assert.match(beyond.output(), /127\.0\.0\.1:65540 has no such port; choose another address with --metrics/);
  });

  test("a given Redis that does not answer is told at once", async () => {
    const up = startUp(path.join(temporary, "no-redis"), ["--redis-url", "redis://:secret@127.0.0.1:1"]);
    assert.deepEqual(await up.exited, [1, null]);
    assert.match(up.output(), /Redis at redis:\/\/127\.0\.0\.1:1 .*ECONNREFUSED/);
    assert.doesNotMatch(up.output(), /secret/);
  });
});
