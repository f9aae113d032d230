/**
 * Redis in its other forms, for real and on loopback: with TLS and users, a master with a replica and sentinels, a cluster. Every server is
 * a process of its own in a temporary folder, and ends with the test or with the test's process.
 */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Redis } from "ioredis";
import { createLifeline, freePort, type RedisBinary } from "../../coordinator/src/embedded/redis-server.ts";
import { testRedisBinary } from "./redis.ts";
import { until } from "./until.ts";

export interface RedisNodeProcess {
  readonly name: string;
  readonly port: number;
  readonly pid: number;
  readonly folder: string;
  log(): string;
  signal(signal: NodeJS.Signals): void;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
}

/** Everything that one test started. */
export class RedisFarm implements AsyncDisposable {
  readonly folder: string;
  readonly #binary: RedisBinary;
  readonly #nodes: { node: RedisNodeProcess; end: () => Promise<void> }[] = [];

  private constructor(folder: string, binary: RedisBinary) {
    this.folder = folder;
    this.#binary = binary;
  }

  /** Of redis-server, or of the program that is given. */
  static async open(binary?: RedisBinary): Promise<RedisFarm> {
    return new RedisFarm(await mkdtemp(path.join(tmpdir(), "switchyard-farm-")), binary ?? (await testRedisBinary()));
  }

  get version(): string {
    return `${this.#binary.kind} ${this.#binary.version}`;
  }

  /** Resolves when it accepts connections. `lines` come after what every server of ours is told. */
  async start(name: string, lines: (port: number) => readonly string[], kind: "server" | "sentinel" = "server"): Promise<RedisNodeProcess> {
    const port = await freePort();
    const folder = await mkdtemp(path.join(this.folder, `${name}-`));
    const data = ["maxmemory 512mb", "maxmemory-policy noeviction", "appendonly yes", "appendfsync everysec", 'save ""'];
    const own = ["bind 127.0.0.1", "daemonize no", `dir "${folder}"`, 'logfile ""', ...(kind === "server" ? data : [])];
    const file = path.join(folder, "redis.conf");
    await writeFile(file, [...own, ...lines(port), ""].join("\n"), { mode: 0o600 });
    const { libraryPath } = this.#binary;
    const env = libraryPath === undefined ? process.env : { ...process.env, LD_LIBRARY_PATH: libraryPath };
    const args = kind === "sentinel" ? [file, "--sentinel"] : [file];
    const child = spawn(this.#binary.path, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    const lifeline = createLifeline();
    if (child.pid !== undefined) lifeline.guard(child.pid);
    const exited = exitOf(child);
    void exited.then(() => lifeline.close());
    const output: string[] = [];
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => output.push(String(chunk)));
    let ended = false;
    void exited.then(() => {
      ended = true;
    });
    const node: RedisNodeProcess = {
      name,
      port,
      pid: child.pid ?? 0,
      folder,
      log: () => output.join(""),
      signal: (signal) => void child.kill(signal),
      async kill() {
        child.kill("SIGKILL");
        await exited;
      },
    };
    this.#nodes.push({ node, end: node.kill });
    const ready = kind === "sentinel" ? /Sentinel ID is|\+monitor/ : /Ready to accept connections/;
    await until(`${name} to start`, async () => {
      if (ended) throw new Error(`${name} ended while starting:\n${node.log()}`);
      return ready.test(node.log());
    });
    return node;
  }

  logs(): string {
    return this.#nodes.map(({ node }) => `--- ${node.name} (${node.port})\n${node.log().split("\n").slice(-15).join("\n")}`).join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#nodes.map(({ end }) => end()));
    await rm(this.folder, { recursive: true, force: true });
  }
}

function exitOf(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    child.once("error", () => resolve());
    child.once("exit", () => resolve());
  });
}

/** A client that asks one server once. */
export async function ask<T>(port: number, question: (redis: Redis) => Promise<T>, options: object = {}): Promise<T> {
  const redis = new Redis({ host: "127.0.0.1", port, retryStrategy: null, ...options });
  redis.on("error", () => {}); // the question fails with it
  try {
    return await question(redis);
  } finally {
    redis.disconnect();
  }
}

export interface Certificates {
  ca: string;
  /** Of the server on 127.0.0.1. */
  server: { cert: string; key: string };
  client: { cert: string; key: string };
}

const openssl = ["/usr/bin/openssl", "/usr/local/bin/openssl", "/opt/homebrew/bin/openssl"].find((file) => existsSync(file));

/** Why there can be no certificates on this machine. */
export const noCertificates: string | false = openssl === undefined ? "openssl is not installed: no certificates can be made" : false;

/** An authority and two certificates that it signed, in files of this folder. */
export async function makeCertificates(folder: string): Promise<Certificates> {
  const file = (name: string): string => path.join(folder, name);
  const run = (...args: string[]): void => void execFileSync(openssl as string, args, { stdio: ["ignore", "ignore", "pipe"] });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  run("req", "-x509", ...key, "-keyout", file("ca.key"), "-out", file("ca.pem"), "-days", "2", "-subj", "/CN=test authority");
  for (const name of ["server", "client"]) {
    const extensions = file(`${name}.ext`);
    await writeFile(extensions, "subjectAltName=IP:127.0.0.1,DNS:localhost\n");
    run("req", ...key, "-keyout", file(`${name}.key`), "-out", file(`${name}.csr`), "-subj", `/CN=${name}`);
    const signing = ["-CA", file("ca.pem"), "-CAkey", file("ca.key"), "-CAcreateserial", "-days", "2", "-extfile", extensions];
    run("x509", "-req", "-in", file(`${name}.csr`), "-out", file(`${name}.pem`), ...signing);
  }
  const pair = (name: string) => ({ cert: file(`${name}.pem`), key: file(`${name}.key`) });
  return { ca: file("ca.pem"), server: pair("server"), client: pair("client") };
}

/** TLS with certificates on both sides, and users; `admin`, who may do everything, is for the test and the servers themselves. */
export interface Secured {
  certificates: Certificates;
  /** Lines of an ACL file, beside admin's. */
  users: string;
  /** Lines of the sentinels' own, beside admin's. */
  sentinelUsers?: string;
}

const admin = "user default off\nuser admin on >admin-secret ~* &* +@all";

/** How a server listens. */
async function doorOf(farm: RedisFarm, secured: Secured | undefined): Promise<(port: number) => string[]> {
  if (!secured) return (port) => [`port ${port}`];
  const { ca, server } = secured.certificates;
  const tls = [`tls-cert-file ${server.cert}`, `tls-key-file ${server.key}`, `tls-ca-cert-file ${ca}`, "tls-auth-clients yes"];
  const aclFile = path.join(farm.folder, "users.acl");
  await writeFile(aclFile, `${admin}\n${secured.users}\n`);
  return (port) => ["port 0", `tls-port ${port}`, ...tls, "tls-replication yes", `aclfile ${aclFile}`];
}

/** How this test asks it. */
export function keysFor(secured: Secured | undefined): object {
  if (!secured) return {};
  const { ca, client } = secured.certificates;
  const tls = { ca: readFileSync(ca), cert: readFileSync(client.cert), key: readFileSync(client.key) };
  return { tls, username: "admin", password: "admin-secret" };
}

export interface SentinelSet {
  /** redis+sentinel://… */
  url: string;
  master: RedisNodeProcess;
  replica: RedisNodeProcess;
  sentinels: RedisNodeProcess[];
}

/** One master, one replica, three sentinels that count a master as gone after `downAfterMs`. */
export async function startSentinels(farm: RedisFarm, how: { downAfterMs: number; secured?: Secured }): Promise<SentinelSet> {
  const { downAfterMs, secured } = how;
  const door = await doorOf(farm, secured);
  const secret = secured ? ["masteruser admin", "masterauth admin-secret"] : ["requirepass hunter2", "masterauth hunter2"];
  // a master that waits for a busy disk, for two seconds at times, would be taken for gone
  const data = (port: number): string[] => [...door(port), ...secret, "repl-diskless-sync-delay 0", "appendfsync no"];
  const master = await farm.start("master", data);
  const replica = await farm.start("replica", (port) => [...data(port), `replicaof 127.0.0.1 ${master.port}`]);
  const linked = secured ? keysFor(secured) : { password: "hunter2" };
  const sentinelSecret = secured
    ? [
        ...admin.split("\n"),
        ...(secured.sentinelUsers?.split("\n") ?? []),
        "sentinel sentinel-user admin",
        "sentinel sentinel-pass admin-secret",
        "sentinel auth-user yard admin",
        "sentinel auth-pass yard admin-secret",
      ]
    : ["sentinel auth-pass yard hunter2"];
  await until("the replica to be in step", async () =>
    ask(replica.port, async (redis) => /master_link_status:up/.test(await redis.info("replication")), linked),
  );
  const sentinels = await Promise.all(
    [1, 2, 3].map((number) =>
      farm.start(
        `sentinel-${number}`,
        (port) => [
          ...door(port).filter((line) => !line.startsWith("aclfile")),
          `sentinel monitor yard 127.0.0.1 ${master.port} 2`,
          ...sentinelSecret,
          `sentinel down-after-milliseconds yard ${downAfterMs}`,
          "sentinel failover-timeout yard 2500",
          "sentinel parallel-syncs yard 1",
        ],
        "sentinel",
      ),
    ),
  );
  for (const sentinel of sentinels) {
    await until(`${sentinel.name} to know the others`, async () =>
      ask(
        sentinel.port,
        async (redis) => {
          const info = await redis.info("sentinel");
          return /name=yard,status=ok,.*slaves=1,sentinels=3/.test(info);
        },
        keysFor(secured),
      ),
    );
  }
  const hosts = sentinels.map(({ port }) => `127.0.0.1:${port}`).join(",");
  return { url: secured ? `rediss+sentinel://${hosts}/yard` : `redis+sentinel://:hunter2@${hosts}/yard`, master, replica, sentinels };
}

export interface RedisClusterSet {
  /** redis+cluster://… */
  url: string;
  /** The masters, in the order of their slots. */
  nodes: RedisNodeProcess[];
  /** One for each master, in the same order. */
  replicas: RedisNodeProcess[];
}

/** Three masters that share the slots evenly; without replicas, slots of one that is gone stay away. */
export async function startRedisCluster(
  farm: RedisFarm,
  { withReplicas = false, secured }: { withReplicas?: boolean; secured?: Secured } = {},
): Promise<RedisClusterSet> {
  const door = await doorOf(farm, secured);
  const asked = keysFor(secured);
  const masters = 3;
  const all: (RedisNodeProcess & { bus: number; id: string })[] = [];
  for (let at = 0; at < (withReplicas ? 2 : 1) * masters; at++) {
    const bus = await freePort();
    const settings = [
      "cluster-enabled yes",
      `cluster-port ${bus}`,
      "cluster-node-timeout 2000",
      "repl-diskless-sync-delay 0",
      ...(withReplicas ? ["appendfsync no"] : []), // one that waits for a busy disk would be taken for gone
      ...(secured ? ["tls-cluster yes"] : []),
    ];
    const part = withReplicas ? "yes" : "no";
    const node = await farm.start(`node-${at + 1}`, (port) => [...door(port), ...settings, `cluster-require-full-coverage ${part}`]);
    const id = await ask(node.port, async (redis) => String(await redis.call("CLUSTER", "MYID")), asked);
    all.push(Object.assign(node, { bus, id }));
  }
  const nodes = all.slice(0, masters);
  const replicas = all.slice(masters);
  const share = Math.ceil(16_384 / masters);
  const [first] = all as [(typeof all)[0]];
  for (const [at, { port }] of all.entries()) {
    const range = [at * share, Math.min(16_383, (at + 1) * share - 1)] as const;
    if (at < masters) await ask(port, (redis) => redis.call("CLUSTER", "ADDSLOTSRANGE", ...range), asked);
    if (at > 0) await ask(port, (redis) => redis.call("CLUSTER", "MEET", "127.0.0.1", first.port, first.bus), asked);
  }
  for (const [at, { port }] of replicas.entries()) {
    await until("a replica to know its master", async () =>
      ask(port, (redis) => redis.call("CLUSTER", "REPLICATE", nodes[at]!.id), asked).then(
        () => true,
        () => false,
      ),
    );
  }
  for (const { name, port } of all) {
    await until(`${name} to see the whole cluster`, async () =>
      ask(
        port,
        async (redis) => {
          const info = String(await redis.call("CLUSTER", "INFO"));
          const known = `cluster_known_nodes:${all.length}\r`;
          const isWhole = ["cluster_state:ok", `cluster_size:${masters}`, "cluster_slots_ok:16384", known].every((text) =>
            info.includes(text),
          );
          return isWhole && (replicas.every((node) => node.port !== port) || /master_link_status:up/.test(await redis.info("replication")));
        },
        asked,
      ),
    );
  }
  return { url: `redis${secured ? "s" : ""}+cluster://${nodes.map(({ port }) => `127.0.0.1:${port}`).join(",")}`, nodes, replicas };
}
