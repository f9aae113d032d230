/** Registries of two coordinators on a real Redis: what each makes of what the other wrote, and when. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import type { ModelVersion } from "@switchyard/protocol";
import { keys, queueTag, type RedisCommand } from "@switchyard/protocol/redis";
import { RedisAliases } from "../../coordinator/src/adapters/redis-aliases.ts";
import { RedisConnection } from "../../coordinator/src/adapters/redis-connection.ts";
import { RedisModelStates } from "../../coordinator/src/adapters/redis-model-states.ts";
import { RedisModels } from "../../coordinator/src/adapters/redis-models.ts";
import { RedisUploads } from "../../coordinator/src/adapters/redis-uploads.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import type { HostDirectory } from "../../coordinator/src/ports/host-registry.ts";
import { knownForMs } from "../../coordinator/src/ports/model-registry.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";

/** Notes the commands. */
class NotedConnection extends RedisConnection {
  readonly sent: RedisCommand[] = [];

  override sendAll(commands: readonly RedisCommand[]): ReturnType<RedisConnection["sendAll"]> {
    this.sent.push(...commands);
    return super.sendAll(commands);
  }
}

const noHosts = { generation: () => 0, snapshots: () => [], able: () => [], missing: () => [] } as unknown as HostDirectory;

let server: TestRedis;
let redis: NotedConnection;
let laterMs = 0;
before(async () => {
  server = await startTestRedis();
  redis = new NotedConnection(server.url, "registry", { ...systemClock, nowMs: () => Date.now() + laterMs });
  await redis.open();
});
after(async () => {
  await redis?.close();
  await server?.stop();
});

function registry(): RedisModels {
  return new RedisModels(redis, noHosts, {
    uploads: new RedisUploads(redis),
    aliases: new RedisAliases(redis),
    states: new RedisModelStates(redis),
    chance: () => 0,
  });
}

function versionOf(model: string, version: number): ModelVersion {
  const digest = `${model}-${version}`;
  const signature = { inputs: [], outputs: [], maxBatchItems: 1 } as unknown as ModelVersion["signature"];
  return {
    model,
    version,
    digest,
    tag: queueTag(model, digest),
    sizeBytes: 1,
    path: `${model}/${version}/model.onnx`,
    signature,
    config: {},
  };
}

function setAlias(model: string, alias: string, version: number): Promise<unknown> {
  const made = { target: { version }, previous: [], updatedMs: 0 };
  return new RedisAliases(redis).change({ model, alias }, () => made);
}

/** Looks while a look takes long: what a coordinator saw two seconds ago it does not rely on, and a busy disk holds a store up for that long. */
async function look(models: RedisModels): Promise<void> {
  for (let startedMs = performance.now(), tookMs = Infinity; tookMs > 500; startedMs = performance.now()) {
    await models.look();
    tookMs = performance.now() - startedMs;
  }
}

const numberOf = (models: RedisModels, model: string, alias?: string): number => models.resolve(model, alias).version.version;

test("what was written and never told is seen half a minute later", async () => {
  const models = registry();
  await models.publish([]);
  const entry = { target: { version: 1 }, previous: [], updatedMs: 0 };
  await redis.sendAll([["hset", keys.aliases, "cut/stable", JSON.stringify(entry)]]);
  await models.look();
  assert.equal(models.aliases("cut"), undefined);
  laterMs = 31_000;
  await models.look();
  assert.deepEqual(models.aliases("cut")?.get("stable"), entry);
});

test("of two changes of an alias that come to the same at the same moment one is refused", async () => {
  await setAlias("twice", "stable", 3);
  const answers = await Promise.allSettled([setAlias("twice", "stable", 2), setAlias("twice", "stable", 2)]);
  const refused = answers.filter((answer) => answer.status === "rejected");
  assert.deepEqual(
    refused.map(({ reason }) => reason.code),
    ["changed_meanwhile"],
  );
});

test("an alias stands for what it did until this coordinator knows the version that another one gave it", async () => {
  const [one, two] = [1, 2].map((version) => versionOf("followed", version)) as [ModelVersion, ModelVersion];
  const quick = registry();
  const slow = registry();
  await setAlias("followed", "stable", 1);
  for (const models of [quick, slow]) await models.publish([one]);
  await quick.publish([one, two]);
  await setAlias("followed", "stable", 2);
  await setAlias("followed", "default", 1);
  for (const models of [quick, slow]) await models.look();
  assert.deepEqual([numberOf(quick, "followed", "stable"), numberOf(slow, "followed", "stable")], [2, 1]);
  await setAlias("followed", "default", 2);
  await slow.look();
  assert.equal(numberOf(slow, "followed"), 1);
  await slow.publish([one, two]);
  assert.deepEqual([numberOf(slow, "followed", "stable"), numberOf(slow, "followed")], [2, 2]);
});

test("jobs of a version that was replaced or removed are still told to be its model's", async () => {
  const models = registry();
  const [old, replaced] = [versionOf("renewed", 1), { ...versionOf("renewed", 1), tag: queueTag("renewed", "other") }];
  const jobOf = ({ tag }: ModelVersion): string => `${tag}-01`;
  await models.publish([old]);
  await models.publish([replaced]);
  assert.deepEqual([models.modelOf(jobOf(old)), models.modelOf(jobOf(replaced))], ["renewed", "renewed"]);
  await models.publish([]);
  assert.deepEqual([models.modelOf(jobOf(replaced)), models.has("renewed")], ["renewed", false]);
  assert.equal(models.modelOf(jobOf(versionOf("never", 1))), undefined);
  await models.publish([old]);
  assert.deepEqual([models.modelOf(jobOf(old)), models.has("renewed")], ["renewed", true]);
});

test("a coordinator that takes over a version and its alias refuses nobody meanwhile", async () => {
  const models = registry();
  const folder = [versionOf("watched", 1)];
  await models.publish(folder);
  await setAlias("watched", "stable", 1);
  await models.look();
  const { config: _config, path: _path, tag: _tag, ...facts } = versionOf("watched", 2);
  await new RedisUploads(redis).add({ ...facts, files: [{ name: "model.onnx", sha256: "0".repeat(64), sizeBytes: 1 }] });
  await setAlias("watched", "stable", 2);
  const seen = new Set<number>();
  let isOver = false;
  const looking = models.look().finally(() => {
    isOver = true;
  });
  while (!isOver) {
    seen.add(numberOf(models, "watched", "stable"));
    await setImmediate();
  }
  await looking;
  assert.deepEqual([...seen], [1]);
  assert.equal(numberOf(models, "watched", "stable"), 2);
});

test("a version that somebody removes takes no jobs, is nobody's newest, and hosts hear nothing of it", async () => {
  const models = registry();
  await models.publish([]);
  const uploads = new RedisUploads(redis);
  const versions = [1, 2, 3].map((version) => ({ ...versionOf("left", version), ...(version === 3 && { digest: "left-2" }) }));
  for (const { config: _config, path: _path, tag: _tag, ...facts } of versions) {
    await uploads.add({ ...facts, files: [{ name: "model.onnx", sha256: "0".repeat(64), sizeBytes: 1 }] });
  }
  await look(models);
  const published = (): Promise<unknown[]> =>
    redis.sendAll([
      ["hgetall", keys.models],
      ["get", keys.modelsRevision],
    ]);
  const before = await published();
  const mark = (version: number, leavingMs?: number): Promise<unknown> =>
    uploads.change({ model: "left", version }, (found) => ({ ...found!, leavingMs }) as typeof found);
  const [one, two] = [1, 2].map((version) => models.resolve("left", version).version.tag) as [string, string];
  assert.deepEqual([numberOf(models, "left"), models.mayTake(one), models.mayTake(two)], [3, true, true]);
  await mark(3, 5);
  await look(models);
  assert.deepEqual([models.resolve("left", 3).state, numberOf(models, "left")], ["leaving", 2]);
  assert.ok(models.mayTake(two), "version 2 has the same content");
  assert.equal(models.byTag(two)?.version.version, 2);
  await mark(2, 6);
  await look(models);
  assert.deepEqual([numberOf(models, "left"), models.mayTake(one), models.mayTake(two)], [1, true, false]);
  assert.deepEqual(
    models.leaving().map(({ leavingMs, version }) => [version, leavingMs]),
    [
      [2, 6],
      [3, 5],
    ],
  );
  assert.deepEqual(await published(), before);
  for (const version of [2, 3]) await mark(version);
  await look(models);
  assert.deepEqual([numberOf(models, "left"), models.mayTake(two), models.leaving()], [3, true, []]);
});

test("a coordinator that could not look for two seconds takes no jobs for uploaded versions until it has", async () => {
  const models = registry();
  await models.publish([versionOf("lying", 1)]);
  const { config: _config, path: _path, tag: _tag, ...facts } = versionOf("sent", 1);
  await new RedisUploads(redis).add({ ...facts, files: [{ name: "model.onnx", sha256: "0".repeat(64), sizeBytes: 1 }] });
  await look(models);
  const tags = ["lying", "sent"].map((model) => models.resolve(model).version.tag);
  const taken = (): boolean[] => tags.map((tag) => models.mayTake(tag));
  assert.deepEqual(taken(), [true, true]);
  laterMs += knownForMs + 1;
  assert.deepEqual(taken(), [true, false]);
  await look(models);
  assert.deepEqual(taken(), [true, true]);
});

test("what a coordinator of the release before has written is seen at once, and it sees what this one writes", async () => {
  const models = registry();
  await models.publish([versionOf("mixed", 1), versionOf("mixed", 2)]);
  await setAlias("mixed", "stable", 1);
  await models.look();
  const counted = async (): Promise<number> => Number((await redis.sendAll([["get", keys.lifecycleRevision]]))[0]);
  const before = await counted();
  const entry = { target: { version: 2 }, previous: [], updatedMs: 0 };
  // it knows one counter
  await redis.sendAll([
    ["hset", keys.aliases, "mixed/stable", JSON.stringify(entry)],
    ["incr", keys.lifecycleRevision],
  ]);
  await models.look();
  assert.equal(numberOf(models, "mixed", "stable"), 2);
  redis.sent.length = 0;
  await models.look();
  assert.equal(redis.sent.length, 2, JSON.stringify(redis.sent)); // counters: nothing is read again
  await setAlias("mixed", "stable", 1);
  assert.equal(await counted(), before + 2);
  const uploads = new RedisUploads(redis);
  await uploads.setConfig("mixed", undefined);
  assert.equal(await counted(), before + 3);
});

test("an alias that changes costs no look at the versions, and a version only itself", async () => {
  const models = registry();
  const folder = Array.from({ length: 500 }, (_, at) => versionOf("many", at + 1));
  await models.publish(folder);
  await models.look();
  redis.sent.length = 0;
  await setAlias("many", "stable", 7);
  redis.sent.length = 0;
  await models.look();
  assert.equal(numberOf(models, "many", "stable"), 7);
  assert.deepEqual(
    redis.sent.map(([name, key]) => [name, key]),
    [
      ["hgetall", keys.lifecycleRevisions],
      ["get", keys.lifecycleRevision],
      ["hgetall", keys.aliases],
    ],
  );
  await models.publish([...folder, versionOf("many", 501)]);
  redis.sent.length = 0;
  await models.publish([...folder, versionOf("many", 501), versionOf("many", 502)]);
  const bytes = JSON.stringify(redis.sent).length;
  assert.ok(bytes < 2_000, `${bytes} bytes`);
  assert.ok(!redis.sent.some(([, key]) => key === keys.uploads || key === keys.aliases), JSON.stringify(redis.sent));
});
