/** MLServer, unchanged, behind a worker: a server that was written by others, and that speaks JSON only. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { call, floats } from "../../support/calls.ts";
import { startProcesses } from "../../support/processes.ts";
import { pythonPackages } from "../../support/python-packages.ts";
import { until } from "../../support/until.ts";

const packages = await pythonPackages("mlserver", { withinMs: 600_000 });

const program = `
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Double(MLModel):
    async def load(self) -> bool:
        return True

    async def predict(self, payload):
        x = NumpyCodec.decode_input(payload.inputs[0])
        if (x > 1e6).any():
            raise ValueError("x is too large")
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", 2 * x.astype(np.float32))])
`;
const tensors = (name: string) => [{ name, datatype: "FP32", shape: [-1, 4] }];

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

async function startMlserver(context: TestContext, python: string, folder: string): Promise<string> {
  const [http_port, grpc_port, metrics_port] = await freePorts(3);
  await mkdir(path.join(folder, "double"));
  const settings = { name: "double", implementation: "model.Double", inputs: tensors("x"), outputs: tensors("y") };
  await writeFile(path.join(folder, "double", "model.py"), program);
  await writeFile(path.join(folder, "double", "model-settings.json"), JSON.stringify(settings));
  await writeFile(
    path.join(folder, "settings.json"),
    JSON.stringify({ host: "127.0.0.1", http_port, grpc_port, metrics_port, parallel_workers: 0 }),
  );
  const env = { ...process.env, PYTHONPATH: path.join(folder, "double"), PYTHONDONTWRITEBYTECODE: "1" };
  const child = spawn(python, ["-m", "mlserver.cli.main", "start", folder], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (said += String(chunk)));
  const ended = new Promise((resolve) => child.once("exit", resolve));
  context.after(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  const url = `http://127.0.0.1:${http_port}`;
  await until("MLServer to be ready", async () => (await call(`${url}/v2/models/double/ready`).catch(() => undefined))?.status === 200, {
    withinMs: 60_000,
    everyMs: 200,
    show: () => said,
  });
  return url;
}

test("models of MLServer are run through Switchyard", { skip: "missing" in packages && packages.missing }, async (context) => {
  if ("missing" in packages) return;
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-mlserver-"));
  context.after(() => rm(folder, { recursive: true, force: true }));
  const url = await startMlserver(context, packages.python, folder);
  const models = path.join(folder, "repository");
  await mkdir(path.join(models, "double", "1"), { recursive: true });
  const entry = JSON.stringify({ framework: "sklearn", inputs: tensors("x"), outputs: tensors("y") }); // YAML, too
  await writeFile(path.join(models, "double", "1", "remote.yaml"), entry);
  await using cluster = await startProcesses({ models, env: { SWITCHYARD_BRIDGE: `sklearn=${url}` } });
  const ask = (...data: number[]) =>
    call(`${cluster.url}/v2/models/double/infer`, { body: { inputs: [floats("x", [data.length / 4, 4], data)] } });
  const answer = await ask(1, 2, 3, 4, 5, 6, 7, 8);
  assert.equal(answer.status, 200, `${answer.bytes}\n${cluster.log()}`);
  const [output] = answer.json().outputs;
  assert.deepEqual([output.name, output.datatype, output.shape, output.data], ["y", "FP32", [2, 4], [2, 4, 6, 8, 10, 12, 14, 16]]);
  const { batching } = (await call(`${cluster.url}/v1/models/double`)).json().items[0];
  assert.equal(batching.max_items, 32, batching.reason);
  const [good, bad] = await Promise.all([ask(1, 1, 1, 1), ask(1e7, 1, 1, 1)]);
  assert.equal(good.status, 200, "a bad neighbour in its batch does it no harm");
  assert.equal(bad.status, 500);
  assert.match(bad.bytes.toString(), /x is too large|500/);
});
