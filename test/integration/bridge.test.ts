/** One cluster in front of another: the second is a server of the Open Inference Protocol like any, and the first runs its models. */

import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import type { HostView, JobView, ModelView } from "@switchyard/protocol";
import { call, floats, jobView } from "../support/calls.ts";
import { fixedPort } from "../support/fixed-port.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { distance, emptyRepository, layersModel, type Repository, rowsOf, slowModel } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const row = [...rowsOf(1)[0]!];
const inputs = [floats("x", [1, 32], row)];

async function addRemote(models: Repository, model: string, more = "", shape = "[-1, 32]"): Promise<void> {
  const folder = path.join(models.folder, model, "1");
  await mkdir(folder, { recursive: true });
  const tensors = (name: string): string => `[{ name: ${name}, datatype: FP32, shape: ${shape} }]`;
  await writeFile(path.join(folder, "remote.yaml"), `framework: other\n${more}inputs: ${tensors("x")}\noutputs: ${tensors("y")}\n`);
}

async function infer(url: string, model: string): Promise<number[]> {
  const answer = await call(`${url}/v2/models/${model}/infer`, { body: { inputs } });
  assert.equal(answer.status, 200, answer.bytes.toString());
  return answer.json().outputs[0].data as number[];
}

const modelOf = async (url: string, model: string): Promise<ModelView> =>
  (await call(`${url}/v1/models/${model}`)).json().items[0] as ModelView;

async function behind(models: Repository, front: Repository, backEnv = {}): Promise<{ back: Processes; front: Processes }> {
  const back = await startProcesses({ models: models.folder, env: backEnv });
  try {
    const env = { SWITCHYARD_BRIDGE: `other=${back.url}`, SWITCHYARD_BRIDGE_TIMEOUT_MS: "15000" };
    return { back, front: await startProcesses({ models: front.folder, workers: 1, env }) };
  } catch (error) {
    await back.stop();
    throw error;
  }
}

describe("models of another server", { concurrency: 2 }, () => {
  describe("a server that is there", { concurrency: 1 }, () => {
    let there: Repository;
    let here: Repository;
    let back: Processes;
    let front: Processes;
    before(async () => {
      [there, here] = await Promise.all([emptyRepository(), emptyRepository()]);
      await there.add("layers", layersModel(2), { settings: "max_batch_items: 8\n" });
      await addRemote(here, "over-there", "model: layers\nversion: '1'\n");
      await here.add("own", slowModel(1));
      await addRemote(here, "layers", "", "[-1, 31]");
      await addRemote(here, "absent");
      await mkdir(path.join(here.folder, "odd", "1"), { recursive: true });
      await writeFile(path.join(here.folder, "odd", "1", "remote.yaml"), "framework: onnx\ninputs: []\nurl: http://elsewhere\n");
      ({ back, front } = await behind(there, here));
    });
    after(async () => {
      await Promise.all([front?.stop(), back?.stop()]);
      await Promise.all([there.remove(), here.remove()]);
    });

    test("a model on another server is run through it: same answers, batched, on the host that has the server and on no other", async () => {
      const plain = await front.addWorker({ SWITCHYARD_BRIDGE: "" });
      const { url } = front;
      assert.ok(distance(await infer(url, "over-there"), await infer(back.url, "layers")) < 1e-6);
      const { batching, inputs: described, state } = await modelOf(url, "over-there");
      assert.deepEqual([state, described], ["ready", [{ name: "x", datatype: "FP32", shape: [-1, 32] }]]);
      assert.equal(batching?.max_items, 8, "no more than the server takes");
      const ids = await Promise.all(
        Array.from({ length: 40 }, async () => {
          const answer = await call(`${url}/v1/jobs`, { body: { model: "over-there", inputs } });
          return (answer.json() as JobView).id;
        }),
      );
      const ended = await Promise.all(ids.map((id) => jobView(url, id, 60)));
      assert.deepEqual([...new Set(ended.map(({ host, state: end }) => `${end} ${host}`))], ["succeeded worker-1"]);
      assert.ok(
        ended.some(({ timings }) => timings!.batch_items > 1),
        "jobs went over together",
      );
      const hosts = (await call(`${url}/v1/hosts`)).json().items as HostView[];
      assert.deepEqual(hosts.map(({ frameworks, id }) => [id, frameworks]).sort(), [
        ["worker-1", ["onnx", "other"]],
        [plain.name, ["onnx"]],
      ]);
    });

    test("a model that is not what remote.yaml says is not served, and everybody can read why", async () => {
      const { url } = front;
      for (const [model, why] of [
        ["layers", /does not keep its signature: the registry has input 'x' FP32 \[-1,31\], the runtime FP32 \[-1,32\]/],
        ["absent", /is not ready \(404\)/],
      ] as const) {
        const answer = await call(`${url}/v2/models/${model}/infer`, {
          body: { inputs: [floats("x", [1, model === "absent" ? 32 : 31], row.slice(0, model === "absent" ? 32 : 31))] },
        });
        assert.equal(answer.status, 503, answer.bytes.toString());
        await until("the reason to be told", async () => why.test((await modelOf(url, model)).reason ?? ""), { show: () => front.log() });
      }
      const { reason, state } = await modelOf(url, "odd");
      assert.equal(state, "failed");
      assert.match(reason ?? "", /1\/remote\.yaml: .*framework: expected another framework than onnx.*inputs: expected at least 1 entries/);
      assert.match(reason ?? "", /url: unknown key; expected one of framework, model, version, inputs, outputs/);
      await call(`${url}/v2/models/own/infer`, { body: { inputs: [floats("x", [1], [1])] } }).then(({ status }) =>
        assert.equal(status, 200),
      );
    });
  });

  test("while the server is away its jobs are tried again, and succeed when it is back within their deadline", async () => {
    await using there = await emptyRepository();
    await using here = await emptyRepository();
    await there.add("layers", layersModel(2), { settings: "max_batch_items: 8\n" });
    await addRemote(here, "layers");
    const address = { SWITCHYARD_HTTP: `127.0.0.1:${await fixedPort()}` }; // where it comes back
    const { back, front } = await behind(there, here, address);
    await using _back = back;
    await using cluster = front;
    const { url } = cluster;
    await infer(url, "layers");
    await back.coordinators[0]!.kill();
    const submit = async (more: object): Promise<string> => {
      const answer = await call(`${url}/v1/jobs`, { body: { model: "layers", inputs, ...more } });
      assert.equal(answer.status, 202, answer.bytes.toString());
      return (answer.json() as JobView).id;
    };
    const once = await submit({ max_attempts: 1 });
    const failed = await jobView(url, once, 60);
    assert.deepEqual([failed.state, failed.error?.code, failed.error?.retryable], ["failed", "run_failed", true], JSON.stringify(failed));
    assert.match(failed.error!.detail, /cannot be reached/);
    const patient = await submit({ max_attempts: 10, timeout_ms: 300_000 });
    await until("the job to be tried", async () => (await jobView(url, patient)).attempt >= 1);
    const again = await startProcesses({
      models: there.folder,
      workers: 0,
      redis: back.redis,
      env: address,
    });
    await using _again = again;
    assert.equal((await jobView(url, patient, 60)).state, "succeeded", JSON.stringify(await jobView(url, patient)));
  });
});
