/** The model repository of a running cluster: what is broken disturbs nothing, what is new is served, and thousands of models are no trouble. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Datatype, type ModelView, type Tensor, tensor } from "@switchyard/protocol";
import { GraphBuilder } from "@switchyard/protocol/onnx";
import { keys } from "@switchyard/protocol/redis";
import { Redis } from "ioredis";
import { generateTinyModels } from "../../scripts/generate-bench-models.ts";
import { adder as adderOf } from "../support/adder-models.ts";
import { binaryOutputs, binaryRequest, call, floats } from "../support/calls.ts";
import { type OneProcess, type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, type Repository } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

/** The repository is looked at each 5 s; a change may need a second look when it is very young. */
const seenWithinMs = 30_000;

const samples: Record<Datatype, Tensor> = {
  BOOL: tensor("x", [true, false], [1, 2]),
  UINT8: tensor("x", Uint8Array.of(0, 255), [1, 2]),
  UINT16: tensor("x", Uint16Array.of(1, 65_535), [1, 2]),
  UINT32: tensor("x", Uint32Array.of(1, 4_294_967_295), [1, 2]),
  UINT64: tensor("x", BigUint64Array.of(1n, 2n ** 64n - 1n), [1, 2]),
  INT8: tensor("x", Int8Array.of(-128, 127), [1, 2]),
  INT16: tensor("x", Int16Array.of(-32_768, 5), [1, 2]),
  INT32: tensor("x", Int32Array.of(-2_147_483_648, 5), [1, 2]),
  INT64: tensor("x", BigInt64Array.of(-(2n ** 63n), 5n), [1, 2]),
  FP16: tensor("x", Uint16Array.of(0x3c00, 0xc000), [1, 2], "FP16"),
  FP32: tensor("x", Float32Array.of(1.5, -2.25), [1, 2]),
  FP64: tensor("x", Float64Array.of(Math.PI, -1e300), [1, 2]),
  BYTES: tensor("x", ["grüße", ""], [1, 2]),
};

function passThrough(type: Datatype): GraphBuilder {
  const graph = new GraphBuilder({ name: "pass" });
  graph.input("x", type, ["batch", 2]);
  graph.output("y", type, ["batch", 2]);
  graph.node("Identity", ["x"], {}, "y");
  return graph;
}

const adder = (addend: number): GraphBuilder => adderOf(addend, 2);

/** Resident bytes and machine time of a process, from the system. */
function usageOf({ pid }: OneProcess): { residentMb: number; cpuMs: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return { residentMb: Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024, cpuMs: (Number(stat[11]) + Number(stat[12])) * 10 };
}

async function idleUsage(processes: readonly OneProcess[], idleMs: number): Promise<string> {
  await sleep(2_000); // what came before is over
  const before = processes.map(usageOf);
  await sleep(idleMs);
  const lines = processes.map((one, at) => {
    const { residentMb, cpuMs } = usageOf(one);
    return `${one.name} ${residentMb.toFixed(0)} MB and ${((100 * (cpuMs - before[at]!.cpuMs)) / idleMs).toFixed(1)} % of a core`;
  });
  return lines.join(", ");
}

async function serveMany(count: number, idleMs: number) {
  await using models = await emptyRepository();
  generateTinyModels({ folder: models.folder, seed: 1, count });
  const startMs = performance.now();
  await using cluster = await startProcesses({ models: models.folder });
  const readyMs = performance.now() - startMs;
  const processes = [cluster.coordinators[0]!, cluster.workers[0]!];
  const idle = idleMs > 0 ? `; when idle ${await idleUsage(processes, idleMs)}` : "";
  const took: number[] = [];
  let next = 0;
  const client = async (): Promise<void> => {
    while (next < count) {
      const model = `tiny-${String(next++).padStart(4, "0")}`;
      const answer = await call(`${cluster.url}/v2/models/${model}/infer`, { body: { inputs: [floats("input", [1, 4], [0, 0, 0, 0])] } });
      assert.equal(answer.status, 200, `${model}: ${answer.bytes}`);
      took.push(answer.tookMs);
    }
  };
  const askedMs = performance.now();
  await Promise.all(Array.from({ length: 16 }, client));
  const allMs = performance.now() - askedMs;
  took.sort((a, b) => a - b);
  const after = idleMs > 0 ? `; idle again ${await idleUsage(processes, idleMs)}` : "";
  const text =
    `${count} models ready in ${readyMs.toFixed(0)} ms, each answered once in ${allMs.toFixed(0)} ms, ` +
    `first answers ${took[Math.floor(count / 2)]!.toFixed(0)} ms (median) and ${took.at(-1)!.toFixed(0)} ms (worst)${idle}${after}`;
  return { readyMs, text };
}

test("with 150 models one worker is ready at once, and each model answers its first request", async (t) => {
  const { readyMs, text } = await serveMany(150, 0);
  t.diagnostic(text);
  assert.ok(readyMs < 20_000, text);
});

test("with 2,000 models one worker is ready within a minute, and each model answers its first request", {
  skip: process.env.SWITCHYARD_TEST_LONG === undefined && "takes minutes: set SWITCHYARD_TEST_LONG=1",
  timeout: 900_000,
}, async (t) => {
  const { readyMs, text } = await serveMany(2_000, 10_000);
  t.diagnostic(text);
  assert.ok(readyMs < 60_000, text);
});

/** Beside one another: they wait for the next look at the folder. */
describe("the repository of a running cluster", { concurrency: 2 }, () => {
  describe("a repository in which much is wrong", { concurrency: 1 }, () => {
    let models: Repository;
    let cluster: Processes;
    before(async () => {
      models = await emptyRepository();
      for (const datatype of Object.keys(samples) as Datatype[]) await models.add(`pass-${datatype}`, passThrough(datatype));
      await models.add("adder", adder(1));
      await models.add("tuned", adder(1), { settings: "max_batch_items: 4\n" });
      await models.add("garbage", "this is no graph");
      await models.add("cut", adder(2).toBytes().subarray(0, 60));
      await models.add("misspelt", adder(3), { settings: "max_batch_itmes: 8\n" });
      await models.add("mistyped", adder(3), { settings: "max_batch_items: many\n" });
      await models.add("no-yaml", adder(3), { settings: "a: [1\n" });
      await mkdir(path.join(models.folder, "empty", "1"), { recursive: true });
      await mkdir(path.join(models.folder, "bad name!", "1"), { recursive: true });
      cluster = await startProcesses({ models: models.folder });
    });
    after(async () => {
      await cluster?.stop();
      await models?.remove();
    });

    const view = async (model: string, version?: number): Promise<ModelView[]> => {
      const answer = await call(`${cluster.url}/v1/models/${model}`);
      if (answer.status === 404) return [];
      const { items } = answer.json() as { items: ModelView[] };
      return version === undefined ? items : items.filter((one) => one.version === version);
    };
    const add = async (version?: number): Promise<number> => {
      const at = version === undefined ? "" : `/versions/${version}`;
      const answer = await call(`${cluster.url}/v2/models/adder${at}/infer`, { body: { inputs: [floats("x", [1, 2], [1, 2])] } });
      assert.equal(answer.status, 200, answer.bytes.toString());
      return answer.json().outputs[0].data[0];
    };

    test("a tensor of every datatype goes in and comes out unchanged, as bytes", async () => {
      for (const [datatype, sample] of Object.entries(samples)) {
        const answer = await call(`${cluster.url}/v2/models/pass-${datatype}/infer`, binaryRequest(sample));
        assert.equal(answer.status, 200, `${datatype}: ${answer.bytes}`);
        assert.deepEqual([...binaryOutputs(answer).get("y")!], [...sample.bytes], datatype);
      }
    });

    test("broken models are listed as failed with their reason, refused when asked for, and disturb nothing", async () => {
      const reasons: Record<string, RegExp> = {
        garbage: /onnx/i,
        cut: /onnx/i,
        misspelt: /model\.yaml.*max_batch_itmes/s,
        mistyped: /model\.yaml.*max_batch_items.*many/s,
        "no-yaml": /model\.yaml/,
      };
      for (const [model, reason] of Object.entries(reasons)) {
        const [failed] = await until(`${model} to be listed`, async () => {
          const items = await view(model);
          return items.length > 0 && items;
        });
        assert.equal(failed!.state, "failed", model);
        assert.match(failed!.reason ?? "", reason, model);
        const asked = await call(`${cluster.url}/v2/models/${model}/infer`, { body: { inputs: [floats("x", [1, 2], [1, 2])] } });
        assert.deepEqual([asked.status, asked.headers["x-switchyard-error"]], [503, "model_failed"], model);
        assert.equal(asked.headers["retry-after"], undefined, "trying again does not help");
        assert.equal(typeof asked.json().error, "string");
      }
      assert.equal(await add(), 2);
      const { items } = (await call(`${cluster.url}/v1/models`)).json() as { items: ModelView[] };
      assert.ok(items.every(({ model, state }) => state !== "failed" || Object.hasOwn(reasons, model)));
    });

    describe("that changes while the cluster runs", { concurrency: 2 }, () => {
      test("settings that appear while the cluster runs are taken over", async () => {
        assert.equal((await view("tuned"))[0]!.config?.max_batch_items, 4);
        await writeFile(path.join(models.folder, "tuned", "model.yaml"), "max_batch_items: 2\n");
        await until(
          "the new settings",
          async () => (await call(`${cluster.url}/v1/models/tuned`)).json().items[0].config.max_batch_items === 2,
          {
            withinMs: seenWithinMs,
            everyMs: 100,
          },
        );
        const answer = await call(`${cluster.url}/v2/models/tuned/infer`, { body: { inputs: [floats("x", [3, 2], [1, 2, 3, 4, 5, 6])] } });
        assert.equal(answer.status, 400, answer.bytes.toString());
        assert.match(answer.json().error, /at most 2/);
      });

      describe("a model in new versions", { concurrency: 1 }, () => {
        test("a version that appears is served, and is the default from then on", async () => {
          assert.equal(await add(), 2);
          await models.add("adder", adder(10), { version: 2 });
          await until("version 2", async () => (await view("adder", 2)).length === 1, { withinMs: seenWithinMs, everyMs: 100 });
          assert.equal(await add(), 11);
          assert.equal(await add(1), 2);
        });

        test("other content under a published version is refused, and told", async () => {
          await models.add("adder", adder(100), { version: 2 });
          const failed = await until(
            "the change to be seen",
            async () => {
              const [version] = await view("adder", 2);
              return version?.state === "failed" && version;
            },
            { withinMs: seenWithinMs, everyMs: 100 },
          );
          assert.match(failed.reason ?? "", /content changed.*new version number/);
          assert.equal(await add(), 2, "the highest version that is not failed");
        });
      });
    });
  });

  test("after a store that lost all its data, models and hosts are known again by themselves", async () => {
    await using models = await emptyRepository();
    await models.add("adder", adder(1), { settings: "max_batch_items: 4\n" });
    await using cluster = await startProcesses({ models: models.folder });
    const redis = new Redis(cluster.redis.url);
    await redis.flushall();
    await until("the host to register again", async () => (await redis.zcard(keys.hosts)) === 1);
    await until("the models to be published again", async () => (await redis.hlen(keys.models)) === 1, { withinMs: seenWithinMs });
    redis.disconnect();
    const ask = { inputs: [floats("x", [1, 2], [1, 2])], parameters: { timeout: 1_000_000 } };
    await until("inference to work again", async () => (await call(`${cluster.url}/v2/models/adder/infer`, { body: ask })).status === 200, {
      show: () => cluster.log(),
    });
    await until("the host to be listed", async () => (await call(`${cluster.url}/v1/hosts`)).json().items.length === 1);
  });
});
