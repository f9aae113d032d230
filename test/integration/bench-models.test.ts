/** The generated models are real: onnxruntime runs them, and items stacked into one run answer as they do apart. */

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { readGraph } from "@switchyard/protocol/onnx";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { deviceModel } from "../../scripts/bench-models/device.ts";
import { benchModels, generateBenchModels, generateTinyModels } from "../../scripts/generate-bench-models.ts";
import { seededRandom } from "../../scripts/seeded-random.ts";

const folder = mkdtempSync(join(tmpdir(), "bench-models-"));
after(() => rmSync(folder, { recursive: true, force: true }));

function generated(which: (typeof benchModels)[number]): Uint8Array {
  const [model] = generateBenchModels({ folder, seed: 7, which: [which] });
  const bytes = readFileSync(model!.path);
  rmSync(join(folder, which), { recursive: true });
  return bytes;
}

const graphs: [string, () => Uint8Array][] = [
  ...benchModels.map((which): [string, () => Uint8Array] => [which, () => generated(which)]),
  ["device", () => deviceModel(seededRandom(7), 5)],
];

for (const [which, make] of graphs) {
  test(`three items stacked answer as apart in the generated model ${which}`, async () => {
    const bytes = make();
    const { inputs, outputs } = readGraph(bytes).signature;
    const session = await InferenceSession.create(bytes);
    const itemShape = inputs[0]!.shape.slice(1);
    const itemSize = itemShape.reduce((left, right) => left * right, 1);
    const random = seededRandom(3);
    const items = Array.from({ length: 3 }, () => Float32Array.from({ length: itemSize }, () => random.normal()));
    const run = async (batch: Float32Array[]): Promise<Float32Array> => {
      const values = new Float32Array(itemSize * batch.length);
      batch.forEach((item, index) => {
        values.set(item, index * itemSize);
      });
      const answer = await session.run({ [inputs[0]!.name]: new Tensor("float32", values, [batch.length, ...itemShape]) });
      return answer[outputs[0]!.name]!.data as Float32Array;
    };
    const stacked = await run(items);
    const apart: number[] = [];
    for (const item of items) apart.push(...(await run([item])));
    assert.equal(stacked.length, apart.length);
    stacked.forEach((value, index) => {
      assert.ok(Number.isFinite(value) && Math.abs(value - apart[index]!) <= 1e-5 * Math.max(1, Math.abs(value)), `element ${index}`);
    });
    const perItem = stacked.length / 3;
    assert.notDeepEqual(stacked.slice(0, perItem), stacked.slice(perItem, 2 * perItem), "different items must answer differently");
  });
}

test("tiny models are small and all differ, and the same seed writes the same bytes", () => {
  const models = generateTinyModels({ folder, seed: 1, count: 3 });
  const contents = models.map((model) => readFileSync(model.path, "hex"));
  assert.equal(new Set(contents).size, 3);
  for (const model of models) assert.ok(statSync(model.path).size < 1_000);
  rmSync(join(folder, "tiny-0001"), { recursive: true });
  generateTinyModels({ folder, seed: 1, count: 3 });
  assert.equal(readFileSync(models[1]!.path, "hex"), contents[1]);
});
