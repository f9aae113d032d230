/** Uploaded versions that are removed, and those that something stands on, through two coordinators whose folder has no model. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { GraphBuilder } from "@switchyard/protocol/onnx";
import { keys } from "@switchyard/protocol/redis";
import { Redis } from "ioredis";
import { startCli } from "../support/batch-items.ts";
import { type Answer, call, floats } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, type Repository } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

let models: Repository;
let cluster: Processes;
let redis: Redis;
before(async () => {
  models = await emptyRepository();
  cluster = await startProcesses({ coordinators: 2, models: models.folder });
  redis = new Redis(cluster.redis.url);
});
after(async () => {
  redis?.disconnect();
  await cluster?.stop();
  await models?.remove();
});

function adder(addend: number): Uint8Array {
  const graph = new GraphBuilder({ name: "adder" });
  graph.input("x", "FP32", ["batch", 2]);
  graph.output("y", "FP32", ["batch", 2]);
  graph.node("Add", ["x", graph.weight("addend", [2], new Float32Array(2).fill(addend))], {}, "y");
  return graph.toBytes();
}

const at = (path: string, coordinator = 0): string => `${cluster.urls[coordinator]}/v1/models/${path}`;
const send = (method: "DELETE" | "GET" | "POST" | "PUT", path: string, body?: Uint8Array | object, coordinator = 0): Promise<Answer> =>
  call(at(path, coordinator), { method, ...(body && { body }) });
const remove = (path: string, coordinator = 0): Promise<Answer> => send("DELETE", path, undefined, coordinator);

async function upload(model: string, versions: readonly number[]): Promise<void> {
  for (const version of versions) {
    const answer = await send("PUT", `${model}/versions/${version}`, adder(10 * version));
    assert.equal(answer.status, 201, `${answer.bytes}`);
  }
  await until(
    "the other coordinator to know them",
    async () => (await send("GET", `${model}/versions/${versions.at(-1)}`, undefined, 1)).status === 200,
  );
}

function infer(model: string, coordinator = 0): Promise<Answer> {
  return call(`${cluster.urls[coordinator]}/v2/models/${model}/infer`, { body: { inputs: [floats("x", [1, 2], [1, 2])] } });
}

/** As `infer`; a coordinator that could not look for two seconds tells to come again. */
function answered(model: string, coordinator = 0): Promise<Answer> {
  return until("an answer", async () => {
    const answer = await infer(model, coordinator);
    return answer.status !== 503 && answer;
  });
}

/** Resolves when its last answer is counted; answers where. */
async function counted(model: string, version = 1): Promise<string> {
  const { tag } = JSON.parse((await redis.hget(keys.models, `${model}@${version}`))!);
  const tally = `${keys.base(tag)}tally`;
  await until("its answer to be counted", async () => (await redis.hexists(tally, "last")) === 1);
  return tally;
}

/** As if a minute had passed since its last answer; further answers may be told after the first one. */
async function removeIdle(model: string, version: number, coordinator = 0): Promise<Answer> {
  const tally = await counted(model, version);
  return until("no answer to be counted any more", async () => {
    await redis.hdel(tally, "last");
    const answer = await remove(`${model}/versions/${version}`, coordinator);
    return (answer.status !== 409 || !/answered a job/.test(answer.json().detail)) && answer;
  });
}

function assertInUse(answer: Answer, why: RegExp): void {
  assert.equal(answer.status, 409, `${answer.bytes}`);
  assert.equal(answer.json().code, "version_in_use");
  assert.match(answer.json().detail, why);
}

test("a version with jobs that wait is not removed until they have ended", async () => {
  await upload("busy", [1]);
  const worker = cluster.workers[0]!;
  worker.signal("SIGSTOP");
  try {
    const job = await call(`${cluster.url}/v1/jobs`, { body: { model: "busy", inputs: [floats("x", [1, 2], [1, 2])] } });
    assert.equal(job.status, 202, `${job.bytes}`);
    assertInUse(await remove("busy/versions/1", 1), /jobs for it wait or run/);
    assert.equal((await call(`${cluster.url}/v1/jobs/${job.json().id}`, { method: "DELETE" })).status, 200);
  } finally {
    worker.signal("SIGCONT");
  }
  await until("it to be removed", async () => (await remove("busy/versions/1")).status === 204);
});

/** Removals take seconds in which nothing is to be done: these are made beside one another, each of a model of its own. */
describe("removals", { concurrency: 4 }, () => {
  test("a version whose removal ended in the middle takes no jobs for some seconds, and then stays: its host never lets it go", async () => {
    await upload("cut", [1]);
    assert.deepEqual((await answered("cut")).json().outputs[0].data, [11, 12]);
    const warm = async (): Promise<string> => JSON.stringify((await call(`${cluster.url}/v1/hosts`)).json().items[0].warm);
    await until("its host to tell that it holds it", async () => (await warm()).includes("cut"));
    const entry = JSON.parse((await redis.hget(keys.uploads, "cut@1"))!);
    // what a coordinator that was killed leaves
    await redis.hset(keys.uploads, "cut@1", JSON.stringify({ ...entry, leavingMs: Date.now() }));
    await redis.hincrby(keys.lifecycleRevisions, "uploads", 1);
    const refused = await until("a refusal", async () => {
      const answer = await infer("cut", 1);
      return answer.status !== 200 && answer;
    });
    assert.equal(refused.status, 503, `${refused.bytes}`);
    assert.ok(Number(refused.headers["retry-after"]) >= 1);
    assert.equal((await send("PUT", "cut/aliases/stable", { version: 1 }, 1)).status, 503);
    assert.equal((await send("PUT", "cut/versions/1", adder(10))).status, 503);
    assert.equal((await remove("cut/versions/1")).json().code, "model_not_ready");
    assert.match(await warm(), /cut/);
    await until("it to stay", async () => (await infer("cut", 1)).status === 200, { withinMs: 60_000, everyMs: 200 });
    assert.match(await warm(), /cut/);
    const { changeId: _change, ...stays } = JSON.parse((await redis.hget(keys.uploads, "cut@1"))!);
    assert.deepEqual(stays, entry);
  });

  test("a removed version is gone from every coordinator, and from the list that hosts read", async () => {
    await upload("grown", [1, 2]);
    assert.deepEqual((await answered("grown")).json().outputs[0].data, [21, 22]);
    assert.equal((await removeIdle("grown", 2)).status, 204);
    const gone = (path: string, coordinator: number): Promise<boolean> =>
      until("it to be gone", async () => (await send("GET", path, undefined, coordinator)).status === 404);
    for (const coordinator of [0, 1]) {
      await gone("grown/versions/2", coordinator);
      assert.deepEqual((await answered("grown", coordinator)).json().outputs[0].data, [11, 12]);
    }
    assert.equal((await removeIdle("grown", 1, 1)).status, 204);
    for (const coordinator of [0, 1]) await gone("grown", coordinator);
    const ofIt = (versions: readonly string[]): string[] => versions.filter((version) => version.startsWith("grown@"));
    assert.deepEqual(ofIt(await redis.hkeys(keys.models)), []);
    const warm = async (): Promise<string[]> => (await call(`${cluster.url}/v1/hosts`)).json().items[0].warm;
    await until("the host to have let them go", async () => ofIt(await warm()).length === 0);
    assert.deepEqual(ofIt(await redis.hkeys(keys.uploads)), []);
  });

  test("the number of a removed version stays taken: the same content may come back, other content may not", async () => {
    await upload("back", [1]);
    assert.equal((await remove("back/versions/1")).status, 204);
    const other = await send("PUT", "back/versions/1", adder(7));
    assert.equal(other.status, 409, `${other.bytes}`);
    assert.equal(other.json().code, "version_exists");
    assert.equal((await send("PUT", "back/versions/1", adder(10))).status, 201);
    assert.deepEqual((await answered("back")).json().outputs[0].data, [11, 12]);
  });

  test("a version that an alias names, in a split or as a shadow as well, is not removed until it names another one", async () => {
    await upload("named", [1, 2, 3]);
    const targets = [{ version: 1 }, { split: { 1: 90, 2: 10 } }, { version: 2, shadow: { version: 1, share: 0.5 } }];
    const words = [/the alias 'stable' names it; let that alias/, /names it in its split;/, /names it as its shadow;/];
    for (const [index, target] of targets.entries()) {
      assert.equal((await send("PUT", "named/aliases/stable", target)).status, 200);
      assertInUse(await remove("named/versions/1", 1), words[index]!);
    }
    assert.equal((await send("PUT", "named/aliases/stable", { version: 3 })).status, 200);
    assert.equal((await remove("named/versions/1", 1)).status, 204);
    assertInUse(await remove("named/versions/3"), /'stable'/);
    // what it stood for before is no use of it, and is no place to go back to
    assert.equal((await remove("named/versions/2")).status, 204);
    assert.equal((await send("POST", "named/aliases/stable/rollback")).status, 404);
  });

  test("a version that is loaded by request is not removed until it is unloaded; another one of that model is", async () => {
    await upload("held", [1, 2]);
    const control = (what: string): Promise<Answer> =>
      call(`${cluster.url}/v2/repository/models/held/${what}`, { method: "POST", body: {} });
    assert.equal((await control("load")).status, 200);
    assertInUse(await remove("held/versions/2"), /model held is loaded by request, in this version; unload it first/);
    assert.equal((await remove("held/versions/1")).status, 204);
    assert.equal((await control("unload")).status, 200);
    assert.equal((await remove("held/versions/2")).status, 204);
  });

  test("an alias that is set while its version is removed either has it or is refused", async () => {
    const race = async (waitMs: number): Promise<string> => {
      const model = `raced-${waitMs}`;
      await upload(model, [1]);
      const removing = remove(`${model}/versions/1`);
      await sleep(waitMs);
      const set = await send("PUT", `${model}/aliases/stable`, { version: 1 }, 1);
      const removed = await removing;
      const named = await send("GET", `${model}/aliases/stable`);
      const isThere = (coordinator: number): Promise<boolean> =>
        send("GET", `${model}/versions/1`, undefined, coordinator).then(({ status }) => status === 200);
      if (set.status === 200) {
        assertInUse(removed, /'stable' names it/);
        assert.equal(named.status, 200);
        await until("it to be there", async () => (await isThere(0)) && isThere(1));
      } else {
        // or this process was held up until all was over
        assert.match(set.json().code, /^(model_not_ready|model_not_found|version_not_found)$/);
        assert.equal(removed.status, 204);
        assert.equal(named.status, 404);
        await until("it to be gone", async () => !(await isThere(0)) && !(await isThere(1)));
      }
      return `${set.status} ${removed.status}`;
    };
    const outcomes = await Promise.all([0, 5, 10, 20, 1_000].map(race));
    for (let again = 1; again <= 5 && !outcomes.includes("503 204"); again++) outcomes.push(await race(1_000 + again));
    assert.ok(outcomes.includes("503 204"), `nothing was raced: ${outcomes}`);
  });

  test("a version that answered a job within the last minute is not removed, and is served all the time", async () => {
    await upload("asked", [1]);
    assert.equal((await answered("asked")).status, 200);
    await counted("asked");
    assertInUse(await remove("asked/versions/1"), /it answered a job within the last 60 s; send no more/);
    for (const coordinator of [0, 1]) assert.equal((await infer("asked", coordinator)).status, 200);
  });

  test("the command line removes a version, and tells why it does not", async () => {
    await upload("typed", [1, 2]);
    assert.equal((await send("PUT", "typed/aliases/stable", { version: 1 })).status, 200);
    const typed = (version: string) => startCli(cluster.url, ["models", "delete", "typed", version]).ended;
    const refused = await typed("1");
    assert.notEqual(refused.code, 0);
    assert.match(refused.err, /Version 1 of model typed is in use: the alias 'stable' names it/);
    const removed = await typed("2");
    assert.deepEqual([removed.code, removed.err.trim()], [0, "typed@2 is removed"]);
    assert.equal((await typed("2")).code, 4);
    assert.equal((await typed("stable")).code, 2);
  });

  test("what was not uploaded, or is not there, is not removed, and the answer says so", async () => {
    await models.add("in-folder", adder(100));
    await until("it to be known", async () => (await send("GET", "in-folder")).status === 200);
    const inFolder = await remove("in-folder/versions/1");
    assert.equal(inFolder.status, 400);
    assert.match(inFolder.json().detail, /lies in the repository's folder: remove it there/);
    assert.equal((await remove("in-folder/versions/2")).status, 404);
    assert.equal((await remove("nobody/versions/1")).status, 404);
    assert.equal((await remove("in-folder/versions/stable")).status, 400);
  });
});
