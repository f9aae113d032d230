/** grpcurl, unchanged, against a whole cluster: it knows nothing of the service but what reflection tells it. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, test } from "node:test";
import { type Cluster, startCluster } from "../../support/cluster.ts";
import { grpcurl } from "../../support/grpcurl.ts";

const found = await grpcurl();
const skip = "missing" in found && found.missing;
const service = "inference.GRPCInferenceService";
/** Added by grpcurl to a status' number, when a call fails. */
const failed = 64;

let cluster: Cluster;
before(async () => {
  if (!skip) cluster = await startCluster();
});
after(() => cluster?.stop());

interface Ended {
  code: number | null;
  out: string;
  err: string;
}

/** `args` follow the address; `-d @` reads the messages from `input`. */
async function curl(
  args: readonly string[],
  { options = [], input = "" }: { options?: readonly string[]; input?: string } = {},
): Promise<Ended> {
  assert.ok("program" in found);
  const child = spawn(found.program, ["-plaintext", "-max-time", "60", ...options, cluster.grpc, ...args]);
  child.stdin.end(input);
  let [out, err] = ["", ""];
  child.stdout.on("data", (chunk) => (out += chunk));
  child.stderr.on("data", (chunk) => (err += chunk));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, out, err };
}

const ask = (method: string, request: object): Promise<Ended> =>
  curl([`${service}/${method}`], { options: ["-d", JSON.stringify(request)] });

/** A call that succeeds. */
async function answer(method: string, request: object = {}) {
  const { code, err, out } = await ask(method, request);
  assert.equal(code, 0, err);
  return JSON.parse(out);
}

const digit = { name: "image", datatype: "FP32", shape: [1, 64], contents: { fp32_contents: new Array(64).fill(0.5) } };

test("services, methods and messages are described", { skip }, async () => {
  const { out: services } = await curl(["list"]);
  for (const name of [service, "grpc.health.v1.Health"]) assert.ok(services.split("\n").includes(name), services);
  const { out: methods } = await curl(["list", service]);
  for (const name of ["ModelInfer", "ModelStreamInfer", "ModelStatistics", "RepositoryModelLoad"])
    assert.ok(methods.split("\n").includes(`${service}.${name}`), methods);
  const { out: described } = await curl(["describe", `${service}.ModelInfer`]);
  assert.match(described, /rpc ModelInfer \( \.inference\.ModelInferRequest \) returns \( \.inference\.ModelInferResponse \)/);
  const { out: message } = await curl(["describe", "inference.ModelInferRequest"]);
  assert.match(message, /repeated bytes raw_input_contents = 7;/);
  const { code, err } = await curl(["describe", "no.such.Thing"]);
  assert.equal(code, 1);
  assert.match(err, /not found/i);
});

test("the server and a model are asked about in JSON", { skip }, async () => {
  assert.deepEqual(await answer("ServerReady"), { ready: true });
  const { inputs, name } = await answer("ModelMetadata", { name: "digits" });
  assert.deepEqual([name, inputs], ["digits", [{ name: "image", datatype: "FP32", shape: ["-1", "64"] }]]);
  const { config } = await answer("ModelConfig", { name: "digits" });
  assert.deepEqual([config.maxBatchSize, config.input[0].dataType], [64, "TYPE_FP32"]);
  const { models } = await answer("RepositoryIndex");
  assert.deepEqual(models, [{ name: "digits", version: "1", state: "READY" }]);
  const health = await curl(["grpc.health.v1.Health/Check"], { options: ["-d", JSON.stringify({ service })] });
  assert.deepEqual(JSON.parse(health.out), { status: "SERVING" });
});

test("an inference in JSON is answered, and counted", { skip }, async () => {
  const { modelName, id, outputs, rawOutputContents } = await answer("ModelInfer", { model_name: "digits", id: "one", inputs: [digit] });
  assert.deepEqual([modelName, id], ["digits", "one"]);
  assert.deepEqual(
    outputs.map((output: { name: string; shape: string[] }) => [output.name, output.shape]),
    [
      ["probabilities", ["1", "10"]],
      ["label", ["1"]],
    ],
  );
  assert.equal(Buffer.from(rawOutputContents[0], "base64").length, 40);
  const typed = await answer("ModelInfer", { model_name: "digits", inputs: [digit], parameters: { typed_contents: { bool_param: true } } });
  assert.equal(typed.outputs[0].contents.fp32Contents.length, 10);
  const { modelStats } = await answer("ModelStatistics", { name: "digits" });
  assert.equal(modelStats[0].inferenceStats.success.count, "2");
});

test("a stream answers each of the messages that it reads", { skip }, async () => {
  const messages = ["a", "b", "c"].map((id) => JSON.stringify({ model_name: id === "b" ? "nothing" : "digits", id, inputs: [digit] }));
  const { code, err, out } = await curl([`${service}/ModelStreamInfer`], { options: ["-d", "@"], input: messages.join("\n") });
  assert.equal(code, 0, err);
  const answers = JSON.parse(`[${out.replaceAll(/^\}\n\{/gm, "},{")}]`);
  assert.deepEqual(
    answers.map(({ inferResponse }: { inferResponse: { id: string } }) => inferResponse.id),
    ["a", "b", "c"],
  );
  assert.match(answers[1].errorMessage, /Request for unknown model/);
});

test("a failure is its status", { skip }, async () => {
  const cases = [
    ["ModelMetadata", { name: "nothing" }, "NotFound", 5],
    ["ModelInfer", { model_name: "digits", inputs: [] }, "InvalidArgument", 3],
    ["ModelInfer", { model_name: "digits", inputs: [digit], parameters: { sequence_id: { int64_param: 7 } } }, "Unimplemented", 12],
  ] as const;
  for (const [method, request, word, number] of cases) {
    const { code, err } = await ask(method, request);
    assert.match(err, new RegExp(`Code: ${word}`), method);
    assert.equal(code, failed + number, err);
  }
});
