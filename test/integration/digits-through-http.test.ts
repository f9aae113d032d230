/** The example model through the whole path, door to door, against what it does on its own. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { binaryInference, binaryOutputs, call } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";

const data = (name: string) => JSON.parse(readFileSync(new URL(`../data/digits/${name}.json`, import.meta.url), "utf8"));
const accuracy: { accuracy: number; correct: number; heldOut: number } = data("accuracy");
const heldOut: { images: string[]; labels: string } = data("held-out");
const pixels = heldOut.images.map((image) => Float32Array.from(image, (pixel) => Number.parseInt(pixel, 17)));
const callsAtOnce = 32;

let cluster: Processes;
before(async () => {
  cluster = await startProcesses();
});
after(() => cluster.stop());

async function asJson(image: Float32Array): Promise<number> {
  const inputs = [{ name: "image", datatype: "FP32", shape: [1, 64], data: [...image] }];
  const answer = await call(`${cluster.url}/v2/models/digits/infer`, { body: { inputs } });
  assert.equal(answer.status, 200, answer.bytes.toString());
  const { outputs } = answer.json() as { outputs: { name: string; data: number[] }[] };
  return outputs.find(({ name }) => name === "label")!.data[0]!;
}

async function asBinary(image: Float32Array): Promise<number> {
  const answer = await call(`${cluster.url}/v2/models/digits/infer`, binaryInference("image", [1, 64], image));
  assert.equal(answer.status, 200, answer.bytes.toString());
  return Number(binaryOutputs(answer).get("label")!.readBigInt64LE());
}

test("all held-out digits through HTTP, JSON and binary mixed, are named as well as by the ONNX file itself", async () => {
  const labels: number[] = [];
  let next = 0;
  const client = async (): Promise<void> => {
    while (next < pixels.length) {
      const index = next++;
      labels[index] = await (index % 2 === 0 ? asJson : asBinary)(pixels[index]!);
    }
  };
  await Promise.all(Array.from({ length: callsAtOnce }, client));
  assert.equal(labels.length, accuracy.heldOut);
  const correct = labels.filter((label, index) => label === Number(heldOut.labels[index])).length;
  assert.equal(correct, accuracy.correct);
  assert.equal(correct / labels.length, accuracy.accuracy);
});
