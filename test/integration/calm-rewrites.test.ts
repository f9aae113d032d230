import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { Redis } from "ioredis";
import { systemClock } from "../../coordinator/src/clock.ts";
import { askForRewrite, CalmRewrites, idleOfMachine } from "../../coordinator/src/embedded/calm-rewrites.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { startTestRedis } from "../support/redis.ts";

const megabyte = 1024 * 1024;

/** Looks once a second on a machine of which so many cores are free. */
class Rig {
  readonly clock = new ManualClock();
  asked = 0;
  refusal: Error | undefined;
  cores = 2;
  readonly rewrites: CalmRewrites;
  #idle = 0;

  constructor(folder: string, rewrite: () => Promise<void> = async () => {}) {
    this.rewrites = new CalmRewrites({
      folder,
      rewrite: async () => {
        this.asked++;
        if (this.refusal) throw this.refusal;
        await rewrite();
      },
      clock: this.clock,
      idle: () => ({ cores: this.cores, idleMs: this.#idle }),
      leastBytes: megabyte,
    });
  }

  async look(seconds: number, freeCores: number): Promise<void> {
    for (let at = 0; at < seconds; at++) {
      await this.clock.advance(1_000);
      this.#idle += freeCores * 1_000;
      await this.rewrites.look();
    }
  }
}

/** Sizes of the parts of a server's file. */
async function parts(dataFolder: string): Promise<Record<"base" | "incr", number>> {
  const folder = path.join(dataFolder, "appendonlydir");
  const sizes = { base: 0, incr: 0 };
  for (const name of await readdir(folder)) {
    for (const kind of ["base", "incr"] as const)
      if (name.includes(`.${kind}.`)) sizes[kind] += (await stat(path.join(folder, name)).catch(() => ({ size: 0 }))).size;
  }
  return sizes;
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  for (let waitedMs = 0; !(await holds()); waitedMs += 20) {
    assert.ok(waitedMs < 10_000, "it did not come about within ten seconds");
    await systemClock.sleep(20);
  }
}

/** What was answered may not be in the file yet: while the disk is slow to sync, Redis waits for it before it writes more. */
const written = (dataFolder: string, bytes: number): Promise<void> => until(async () => (await parts(dataFolder)).incr > bytes);

test("a large file is rewritten when a core has been free for three looks, and not again before as much has come", async (t) => {
  const redis = await startTestRedis();
  const client = new Redis(redis.url);
  t.after(async () => {
    client.disconnect();
    await redis.stop();
  });
  const rig = new Rig(redis.dataFolder, () => askForRewrite(redis.url, systemClock));
  await rig.look(5, 2);
  assert.equal(rig.asked, 0, "a small file is left alone");

  for (let at = 0; at < 8; at++) await client.set("same", randomBytes(megabyte / 2));
  await written(redis.dataFolder, 4 * megabyte);
  await rig.look(10, 0.9);
  assert.equal(rig.asked, 0, "it is less than a core");
  rig.cores = 1;
  await rig.look(10, 0.7);
  assert.equal(rig.asked, 0, "it is less than most of the only core");
  const single = new Rig(redis.dataFolder);
  single.cores = 1;
  await single.look(4, 0.9);
  assert.equal(single.asked, 1);
  rig.cores = 2;
  await rig.look(2, 1);
  await rig.look(1, 0.5);
  await rig.look(2, 1);
  assert.equal(rig.asked, 0, "not for three looks in a row");
  await rig.look(1, 1);
  assert.equal(rig.asked, 1);
  await until(async () => {
    const { base, incr } = await parts(redis.dataFolder);
    return base > megabyte / 2 && incr < megabyte / 2;
  });
  assert.equal((await client.getBuffer("same"))?.length, megabyte / 2);

  await rig.look(100, 2);
  assert.equal(rig.asked, 1, "what has come since is less than what the rewrite left");
  for (let at = 0; at < 2; at++) await client.set("same", randomBytes(megabyte / 2));
  await written(redis.dataFolder, megabyte);
  await rig.look(3, 2);
  assert.equal(rig.asked, 2);
  await until(async () => (await parts(redis.dataFolder)).incr < megabyte / 2 && /aof_rewrite_in_progress:0/.test(await client.info()));
});

test("what cannot be rewritten is tried again a minute later, and a folder that is not there is no trouble", async (t) => {
  const redis = await startTestRedis();
  t.after(() => redis.stop());
  const client = new Redis(redis.url);
  for (let at = 0; at < 4; at++) await client.set("same", randomBytes(megabyte / 2));
  await written(redis.dataFolder, 2 * megabyte);
  client.disconnect();
  const rig = new Rig(redis.dataFolder);
  rig.refusal = new Error("the server is away");
  await rig.look(50, 2);
  assert.equal(rig.asked, 1);
  await rig.look(20, 2);
  assert.equal(rig.asked, 2);

  const empty = await mkdtemp(path.join(tmpdir(), "switchyard-calm-"));
  t.after(() => rm(empty, { recursive: true, force: true }));
  const elsewhere = new Rig(path.join(empty, "none"));
  await elsewhere.look(10, 2);
  assert.equal(elsewhere.asked, 0);
});

test("the machine tells how long its cores had nothing to do", async () => {
  const before = idleOfMachine();
  const beganMs = systemClock.monotonicMs();
  await systemClock.sleep(300);
  const { cores, idleMs } = idleOfMachine();
  const tookMs = systemClock.monotonicMs() - beganMs;
  assert.ok(cores >= 1 && before.idleMs > 0);
  assert.ok(idleMs >= before.idleMs && idleMs - before.idleMs <= cores * (tookMs + 50), `${idleMs - before.idleMs} ms of ${cores} cores`);
});

test("a server of ours rewrites by itself from 512 MiB to 2 GiB on, by what the disk has free", async (t) => {
  const redis = await startTestRedis();
  const client = new Redis(redis.url);
  t.after(async () => {
    client.disconnect();
    await redis.stop();
  });
  const [, bytes] = (await client.config("GET", "auto-aof-rewrite-min-size")) as [string, string];
  assert.ok(Number(bytes) >= 512 * megabyte && Number(bytes) <= 2_048 * megabyte, bytes);
});
