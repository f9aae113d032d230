import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { Redis } from "ioredis";
import { canFetchDebianPackages } from "../../coordinator/src/embedded/debian-packages.ts";
import { holderOf, tryLock } from "../../coordinator/src/embedded/process-lock.ts";
import { DataFolderInUse, findRedis, startRedis } from "../../coordinator/src/embedded/redis-server.ts";
import { startTestRedis, testRedisBinary } from "../support/redis.ts";

const temporary = await mkdtemp(path.join(tmpdir(), "switchyard-embedded-"));
after(() => rm(temporary, { recursive: true, force: true }));

async function ask<T>(url: string, question: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(url, { retryStrategy: null });
  try {
    return await question(redis);
  } finally {
    redis.disconnect();
  }
}

test("without a redis-server on PATH the distribution's packages are fetched, once for several starts, and run", {
  skip: !canFetchDebianPackages() && "this system has no apt-get",
}, async () => {
  const cacheFolder = path.join(temporary, "cache");
  const find = { pathEnv: path.join(temporary, "no-such-folder"), cacheFolder };
  const [binary, second] = await Promise.all([findRedis(find), findRedis(find)]);
  assert.equal(binary.source, "cache");
  assert.deepEqual(second, binary);
  assert.ok(Number.parseInt(binary.version, 10) >= 7, binary.version);
  assert.equal((await readdir(cacheFolder)).length, 1, "nothing but the unpacked packages stays");
  const server = await startRedis({ dataFolder: path.join(temporary, "fetched"), binary });
  assert.equal(await ask(server.url, (redis) => redis.ping()), "PONG");
  await server.stop();
});

test("a server that was fetched before needs no tools to fetch it; one whose cache is damaged says what to install", async (t) => {
  const cacheFolder = path.join(temporary, "cache");
  if (!(await readdir(cacheFolder).catch(() => undefined))) return t.skip("this system has no apt-get");
  const { PATH } = process.env;
  t.after(() => {
    process.env.PATH = PATH;
  });
  process.env.PATH = path.join(temporary, "no-such-folder");
  assert.equal((await findRedis({ pathEnv: "", cacheFolder })).source, "cache");
  const damaged = path.join(temporary, "damaged");
  const [folder] = await readdir(cacheFolder);
  await mkdir(path.join(damaged, folder!), { recursive: true });
  await assert.rejects(findRedis({ pathEnv: "", cacheFolder: damaged }), /No redis-server .* was found, .*Install redis-server/s);
});

test("the server keeps jobs through a kill: it writes an append-only file, evicts nothing and has a memory limit", async () => {
  const redis = await startTestRedis();
  const settings = await ask(redis.url, async (client) => {
    await client.set("kept", "yes");
    return (await client.config("GET", "appendonly", "appendfsync", "maxmemory-policy", "maxmemory", "bind")) as string[];
  });
  const facts = Object.fromEntries(settings.flatMap((word, index) => (index % 2 === 0 ? [[word, settings[index + 1]]] : [])));
  const { maxmemory, ...others } = facts;
  assert.deepEqual(others, { appendonly: "yes", appendfsync: "everysec", "maxmemory-policy": "noeviction", bind: "127.0.0.1" });
  assert.ok(Number(maxmemory) > 0);
  await redis.kill();
  await redis.restart();
  assert.equal(await ask(redis.url, (client) => client.get("kept")), "yes");
  await redis.stop();
});

test("nobody without the password reads the embedded server", async () => {
  const redis = await startTestRedis();
  await assert.rejects(
    ask(`redis://127.0.0.1:${redis.port}`, (client) => client.get("anything")),
    /NOAUTH/,
  );
  await redis.stop();
});

test("a data folder in use is refused, naming the process that has it", async () => {
  const dataFolder = path.join(temporary, "in-use");
  const binary = await testRedisBinary();
  const server = await startRedis({ dataFolder, binary });
  await assert.rejects(startRedis({ dataFolder, binary }), (error) => error instanceof DataFolderInUse && error.pid === server.pid);
  assert.equal(await ask(server.url, (redis) => redis.ping()), "PONG");
  await server.stop();
  const again = await startRedis({ dataFolder, binary });
  await again.stop();
});

test("a lock whose process is gone is taken over", async () => {
  const file = path.join(temporary, "stale.pid");
  const source = `const { tryLock } = await import(process.argv[1]); tryLock(process.argv[2]); console.log("held"); setInterval(() => {}, 1000);`;
  const module = new URL("../../coordinator/src/embedded/process-lock.ts", import.meta.url).href;
  const child = spawn(process.execPath, ["--input-type=module", "-e", source, module, file], { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout, "data");
  assert.deepEqual(tryLock(file), { heldBy: child.pid });
  child.kill("SIGKILL");
  await once(child, "exit");
  const lock = tryLock(file);
  assert.ok(!("heldBy" in lock));
  assert.equal(holderOf(file), process.pid);
  lock.release();
  assert.equal(holderOf(file), undefined);
});

test("a lock that does not say when its process started is held as long as there is such a process", () => {
  const file = path.join(temporary, "unknown.pid");
  writeFileSync(file, `${process.ppid} \n`);
  assert.equal(holderOf(file), process.ppid);
  assert.deepEqual(tryLock(file), { heldBy: process.ppid });
  for (const text of ["", "0", "nonsense", "999999999"]) {
    writeFileSync(file, `${text} \n`);
    assert.equal(holderOf(file), undefined, text);
  }
});

test("where no Redis of its own can run, the setting that names one is told", async (t) => {
  t.mock.property(process, "platform", "win32");
  await assert.rejects(findRedis({ pathEnv: "", cacheFolder: temporary }), /On Windows .* set SWITCHYARD_REDIS_URL/);
});

test("the server ends when the process that started it is killed", async () => {
  const dataFolder = path.join(temporary, "orphan");
  const source = `const { startRedis } = await import(process.argv[1]);
    await startRedis({ dataFolder: process.argv[2], binary: JSON.parse(process.argv[3]) }); console.log("up"); setInterval(() => {}, 1000);`;
  const module = new URL("../../coordinator/src/embedded/redis-server.ts", import.meta.url).href;
  const arguments_ = ["--input-type=module", "-e", source, module, dataFolder, JSON.stringify(await testRedisBinary())];
  const child = spawn(process.execPath, arguments_, { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout, "data");
  const pid = holderOf(path.join(dataFolder, "redis.pid"));
  assert.ok(pid !== undefined && pid !== child.pid);
  child.kill("SIGKILL");
  const patience = AbortSignal.timeout(30_000);
  while (holderOf(path.join(dataFolder, "redis.pid")) !== undefined) {
    patience.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.ok((await stat(path.join(dataFolder, "appendonlydir"))).isDirectory(), "its data stays");
});

test("a server that cannot start says why", async () => {
  const binary = await testRedisBinary();
  const dataFolder = path.join(temporary, "broken");
  const server = await startRedis({ dataFolder, binary });
  await server.stop();
  await rm(path.join(dataFolder, "appendonlydir", "appendonly.aof.1.base.rdb"));
  await assert.rejects(startRedis({ dataFolder, binary }), /redis-server ended while starting[\s\S]*appendonly/);
});
