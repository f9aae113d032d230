/** Models loaded and run by the real runtime, as a host does it. */

import assert from "node:assert/strict";
import { existsSync, renameSync } from "node:fs";
import { glob, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, describe, test } from "node:test";
import { type Datatype, type ModelConfig, SwitchyardError, type Tensor, tensor, toStrings, toTypedArray } from "@switchyard/protocol";
import { GraphBuilder } from "@switchyard/protocol/onnx";
import { systemClock } from "../../worker/src/clock.ts";
import { type BatchResult, runBatch } from "../../worker/src/runtime/batch-run.ts";
import { type LoadedModel, loadModel } from "../../worker/src/runtime/loaded-model.ts";
import { loadSession, supportedProviders } from "../../worker/src/runtime/onnx-runtime.ts";
import { modelFolder, perceptron, readTensorProto, versionOf } from "../support/onnx-models.ts";

const folder = await modelFolder();
after(() => folder.remove());

const host = { clock: systemClock, threads: 1, providers: ["cpu"] };
let count = 0;

async function load(graph: GraphBuilder | Uint8Array, config: ModelConfig = {}): Promise<LoadedModel> {
  count += 1;
  return loadModel({ ...host, root: folder.root, version: await folder.add(`model${count}`, graph, config) });
}

function outputsOf(result: BatchResult | undefined): Tensor[] {
  assert.ok(result && "outputs" in result, result && "error" in result ? result.error.message : "no result");
  return result.outputs;
}

function errorOf(result: BatchResult | undefined): SwitchyardError {
  assert.ok(result && "error" in result, "the job should have failed");
  return result.error;
}

function passThrough(type: Datatype, op = "Identity"): GraphBuilder {
  const graph = new GraphBuilder({ name: "pass" });
  graph.input("x", type, ["batch", 2]);
  graph.output("y", type, ["batch", 2]);
  graph.node(op, ["x"], {}, "y");
  return graph;
}

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

describe("datatypes", () => {
  for (const [datatype, sample] of Object.entries(samples) as [Datatype, Tensor][]) {
    test(`a ${datatype} tensor comes through the runtime unchanged, alone, stacked and at an odd address`, async () => {
      const model = await load(passThrough(datatype));
      assert.equal(model.batching.maxItems, 32, model.batching.reason);
      const odd = Buffer.alloc(sample.bytes.length + 1);
      odd.set(sample.bytes, 1);
      const inputs = [[sample], [{ ...sample, bytes: odd.subarray(1) }]];
      const alone = await runBatch({ model, jobs: [{ inputs: inputs[1]!, items: 1 }] });
      const stacked = await runBatch({ model, jobs: inputs.map((input) => ({ inputs: input, items: 1 })) });
      assert.equal(stacked.runs, 1);
      for (const result of [...alone.results, ...stacked.results]) {
        const [y] = outputsOf(result);
        assert.deepEqual({ ...y!, bytes: [...y!.bytes] }, { ...sample, name: "y", bytes: [...sample.bytes] });
      }
      await model.release();
    });
  }

  test("a string with a zero byte is refused instead of being cut", async () => {
    const model = await load(passThrough("BYTES"));
    const { results } = await runBatch({ model, jobs: [{ inputs: [tensor("x", ["a\0b", "c"], [1, 2])], items: 1 }] });
    assert.match(errorOf(results[0]).message, /BYTES element 0 holds a zero byte/);
    await model.release();
  });

  test("shared memory is read as it is", async () => {
    const model = await load(passThrough("FP32"));
    const shared = new Uint8Array(new SharedArrayBuffer(8));
    shared.set(samples.FP32.bytes);
    const { results } = await runBatch({ model, jobs: [{ inputs: [{ ...samples.FP32, bytes: shared }], items: 1 }] });
    assert.deepEqual(toTypedArray(outputsOf(results[0])[0]!), Float32Array.of(1.5, -2.25));
    await model.release();
  });
});

describe("deciding on threads", { skip: existsSync("/proc/self/task") ? false : "counts threads in /proc" }, () => {
  /** Threads that a model keeps, beside the ones that were there before. */
  async function threadsOf(graph: GraphBuilder, clock = systemClock): Promise<number> {
    const own = async (): Promise<number> => (await readdir("/proc/self/task")).length;
    const before = await own();
    count += 1;
    const model = await loadModel({ ...host, clock, threads: 3, root: folder.root, version: await folder.add(`model${count}`, graph) });
    const kept = (await own()) - before;
    const inputs = [tensor("x", new Float32Array(64), [1, 64])];
    for (const result of (await runBatch({ model, jobs: [{ inputs, items: 1 }] })).results) outputsOf(result);
    await model.release();
    return kept;
  }
  const wide = (axis: number | string, layers: number): GraphBuilder => {
    const graph = new GraphBuilder({ name: "wide" });
    graph.input("x", "FP32", ["batch", axis]);
    graph.output("y", "FP32", ["batch", axis]);
    let last = "x";
    for (let layer = 1; layer <= layers; layer++) last = graph.node("Tanh", [last], {}, layer === layers ? "y" : undefined);
    return graph;
  };

  test("a model of light runs keeps one thread", async () => {
    // microseconds, whatever keeps this process from its core meanwhile
    const clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() / 1_000 };
    assert.equal(await threadsOf(perceptron([64, 8, 4]), clock), 0);
  });

  test("a model whose full batches take long, or whose inputs may be of any size, keeps those it was given", async () => {
    assert.equal(await threadsOf(wide(64, 2_000)), 2);
    assert.equal(await threadsOf(wide("length", 1)), 2);
  });
});

describe("deciding on batches", () => {
  test("a perceptron is batched because stacked items answer as they do apart", async () => {
    const model = await load(perceptron([16, 8, 4]));
    assert.equal(model.batching.maxItems, 32);
    assert.match(model.batching.reason, /32 is the default/);
    assert.deepEqual([...model.warmUpMs.keys()], [1, 2, 4, 8, 16, 32]);
    await model.release();
  });

  for (const [op, attributes] of [
    ["CumSum", {}],
    ["Softmax", { axis: { int: 0 } }],
  ] as const) {
    test(`a model that runs ${op} along its first axis is never batched`, async () => {
      const graph = new GraphBuilder({ name: "time" });
      graph.input("x", "FP32", ["t", 4]);
      graph.output("y", "FP32", ["t", 4]);
      const axis = op === "CumSum" ? [graph.weight("axis", [], BigInt64Array.of(0n))] : [];
      graph.node(op, ["x", ...axis], attributes, "y");
      const model = await load(graph);
      assert.equal(model.batching.maxItems, 1);
      assert.match(model.batching.reason, /stacked items answer otherwise than apart: output 'y' has .* stacked, .* apart/);
      await model.release();
    });
  }

  test("a model that folds its first axis is run item by item even if model.yaml promises batches", async () => {
    const graph = new GraphBuilder({ name: "mean" });
    graph.input("x", "FP32", ["t", 4]);
    graph.output("y", "FP32", [1, 4]);
    graph.node("ReduceMean", ["x"], { axes: { ints: [0] }, keepdims: { int: 1 } }, "y");
    const model = await load(graph, { max_batch_items: 8 });
    assert.equal(model.batching.maxItems, 1);
    assert.match(model.batching.reason, /max_batch_items: 8, but output 'y' has shape \[1,4\] after a run of 2 items/);
    await model.release();
  });

  test("a model whose first axis is fixed says so", async () => {
    const graph = new GraphBuilder({ name: "fixed" });
    graph.input("x", "FP32", [1, 4]);
    graph.output("y", "FP32", [1, 4]);
    graph.node("Abs", ["x"], {}, "y");
    const model = await load(graph);
    assert.deepEqual(model.batching, { maxItems: 1, reason: "input 'x' [1,4] has no dynamic first axis" });
    await model.release();
  });

  test("a square of nodes is not taken for a batch", async () => {
    const graph = new GraphBuilder({ name: "square" });
    graph.input("x", "FP32", ["n", "n"]);
    graph.output("y", "FP32", ["n", "n"]);
    graph.node("Abs", ["x"], {}, "y");
    const model = await load(graph);
    assert.equal(model.batching.maxItems, 1);
    assert.match(model.batching.reason, /first axis of 'x' \(n\) is one of its other axes too/);
    await model.release();
  });

  test("model.yaml's max_batch_items is kept", async () => {
    const model = await load(perceptron([16, 4]), { max_batch_items: 5 });
    assert.deepEqual(model.batching, { maxItems: 5, reason: "model.yaml says max_batch_items: 5" });
    assert.deepEqual([...model.warmUpMs.keys()], [1, 2, 4, 5]);
    await model.release();
  });

  test("a model that no random input satisfies is loaded all the same, without batches", async () => {
    const model = await load(picker(1));
    assert.equal(model.batching.maxItems, 1);
    assert.match(model.batching.reason, /random inputs do not run \(.*out of data bounds/);
    assert.equal(model.warmUpMs.size, 0);
    const { results } = await runBatch({ model, jobs: [{ inputs: [tensor("i", [0n], [1, 1])], items: 1 }] });
    assert.equal(outputsOf(results[0])[0]!.bytes.length, 4);
    await model.release();
  });
});

/** Answers table[i] for `i` INT64 [-1, 1]; an index of `rows` or more fails the run. */
function picker(rows: number): GraphBuilder {
  const graph = new GraphBuilder({ name: "picker" });
  graph.input("i", "INT64", ["batch", 1]);
  graph.output("y", "FP32", ["batch", 1]);
  // Without the offset a table of one row would be picked by the zeros among random indices.
  const table = graph.weight(
    "table",
    [rows],
    Float32Array.from({ length: rows }, (_, index) => index * 10),
  );
  const index = rows === 1 ? graph.node("Mul", ["i", graph.weight("three", [], BigInt64Array.of(3n))]) : "i";
  graph.node("Gather", [table, index], {}, "y");
  return graph;
}

describe("failures", () => {
  test("one bad item fails alone, not retryable, in as few runs as halving needs", async () => {
    const model = await load(picker(16));
    const jobs = Array.from({ length: 8 }, (_, index) => ({
      inputs: [tensor("i", [index === 5 ? 99n : BigInt(index)], [1, 1])],
      items: 1,
    }));
    const { results, runs } = await runBatch({ model, jobs });
    for (const [index, result] of results.entries()) {
      if (index === 5) continue;
      assert.deepEqual([...toTypedArray(outputsOf(result)[0]!)], [index * 10]);
    }
    const error = errorOf(results[5]);
    assert.equal(error.code, "run_failed");
    assert.equal(error.retryable, false);
    assert.match(error.message, /idx=99 must be within the inclusive range/);
    assert.equal(runs, 7);
    await model.release();
  });

  test("running out of memory is worth a retry and tells no paths", async () => {
    const graph = new GraphBuilder({ name: "huge" });
    graph.input("shape", "INT64", [2]);
    graph.output("y", "FP32", [-1, -1]);
    graph.node("ConstantOfShape", ["shape"], {}, "y");
    const model = await load(graph);
    const { results } = await runBatch({ model, jobs: [{ inputs: [tensor("shape", [2n ** 21n, 2n ** 21n])], items: 1 }] });
    const error = errorOf(results[0]);
    assert.equal(error.retryable, true);
    assert.match(error.message, /Failed to allocate memory/);
    assert.doesNotMatch(error.message, /\/onnxruntime|\.cc:/);
    await model.release();
  });

  test("an output that the model does not have fails only the job that asked for it", async () => {
    const model = await load(perceptron([4, 2]));
    const inputs = [tensor("x", Float32Array.of(1, 2, 3, 4), [1, 4])];
    const { results } = await runBatch({
      model,
      jobs: [
        { inputs, items: 1, outputs: ["z"] },
        { inputs, items: 1 },
      ],
    });
    assert.match(errorOf(results[0]).message, /no output 'z'; it has y/);
    outputsOf(results[1]);
    await model.release();
  });

  test("a file whose content is not the registry's is not served", async () => {
    const version = await folder.add("swapped", perceptron([4, 2]));
    await writeFile(path.join(folder.root, version.path), perceptron([4, 3]).toBytes());
    await assert.rejects(loadModel({ ...host, root: folder.root, version }), {
      code: "model_not_ready",
      message: /has changed: its SHA-256 is/,
    });
  });

  test("a signature that the graph does not keep is not served", async () => {
    const version = await folder.add("mismatched", perceptron([4, 2]));
    version.signature.inputs[0]!.datatype = "INT64";
    await assert.rejects(loadModel({ ...host, root: folder.root, version }), {
      message: /input 'x' INT64 \[-1,4\], the runtime FP32 \[-1,4\]/,
    });
  });

  test("an operator that the runtime lacks and a missing file are told without paths", async () => {
    await assert.rejects(load(passThrough("FP32", "NoSuchOperator")), { code: "model_not_ready", message: /NoSuchOperator/ });
    const version = { ...(await folder.add("gone", perceptron([4, 2]))), path: "gone/2/model.onnx" };
    await assert.rejects(loadModel({ ...host, root: folder.root, version }), { message: "gone/2/model.onnx cannot be read (ENOENT)" });
  });

  test("sequences and types that cannot be carried are named", async () => {
    const graph = new GraphBuilder({ name: "sequence" });
    graph.input("x", "FP32", ["batch", 2]);
    graph.output("s", "FP32", ["batch", 2], "sequence");
    graph.node("SequenceConstruct", ["x"], {}, "s");
    const options = { path: "model.onnx", providers: ["cpu"], threads: 1 };
    await assert.rejects(loadSession({ ...options, bytes: graph.toBytes() }), {
      code: "model_not_ready",
      message: `output "s" is no tensor, which cannot be carried`,
    });
    const words = new GraphBuilder({ name: "words" });
    words.input("x", 16, [1]);
    words.output("y", 16, [1]);
    words.node("Identity", ["x"], {}, "y");
    await assert.rejects(loadSession({ ...options, bytes: words.toBytes() }), { code: "model_not_ready", message: /data type: 16/ });
  });

  test("a released model refuses runs instead of ending the process", async () => {
    const model = await load(perceptron([4, 2]));
    await model.release();
    const { results } = await runBatch({ model, jobs: [{ inputs: [tensor("x", new Float32Array(4), [1, 4])], items: 1 }] });
    assert.equal(errorOf(results[0]).retryable, true);
  });
});

test("external weights are part of the digest and are found beside the graph", async () => {
  const graph = new GraphBuilder({ name: "external" });
  graph.input("x", "FP32", ["batch", 2]);
  graph.output("y", "FP32", ["batch", 2]);
  graph.node(
    "Mul",
    ["x", graph.externalWeight("w", { datatype: "FP32", dims: [2], location: "weights.bin", offset: 0, length: 8 })],
    {},
    "y",
  );
  const version = await folder.add("external", graph);
  const weights = new Uint8Array(Float32Array.of(2, 3).buffer);
  await writeFile(path.join(folder.root, "external/1/weights.bin"), weights);
  await assert.rejects(loadModel({ ...host, root: folder.root, version }), /has changed/);
  const { createHash } = await import("node:crypto");
  version.digest = createHash("sha256").update(graph.toBytes()).update(weights).digest("hex");
  const model = await loadModel({ ...host, root: folder.root, version });
  const { results } = await runBatch({ model, jobs: [{ inputs: [tensor("x", Float32Array.of(1, 1), [1, 2])], items: 1 }] });
  assert.deepEqual([...toTypedArray(outputsOf(results[0])[0]!)], [2, 3]);
  await model.release();
});

test("a file that goes while its model warms up costs only the cheaper session", async () => {
  const version = await folder.add("going", perceptron([64, 8, 4]));
  const file = path.join(folder.root, "going/1/model.onnx");
  let asked = 0;
  const clock = {
    ...systemClock,
    monotonicMs: () => {
      if (++asked === 4) renameSync(file, `${file}.away`); // loaded, not yet warm
      return systemClock.monotonicMs();
    },
  };
  const model = await loadModel({ root: folder.root, version, clock, threads: 2, providers: ["cpu"] });
  assert.ok(asked >= 4 && !existsSync(file));
  assert.ok(model.warmUpMs.size > 0);
  await model.release();
});

test("the cpu is always a provider", async () => {
  assert.equal((await supportedProviders()).at(-1), "cpu");
});

test("the digits model is batched", async () => {
  const root = path.resolve(import.meta.dirname, "../../models");
  const model = await loadModel({ ...host, root, version: await versionOf(root, "digits/1/model.onnx") });
  assert.equal(model.batching.maxItems, 32, model.batching.reason);
  await model.release();
});

const extra = process.env.SWITCHYARD_TEST_MODELS;
const casesFolder = path.join(extra ?? "", "onnx-cases");
const skip = extra === undefined ? "SWITCHYARD_TEST_MODELS is unset" : !existsSync(casesFolder) && `${casesFolder} does not exist`;

test("every recorded case gives its recorded outputs, or says which type cannot be carried", { skip }, async () => {
  let ran = 0;
  const refused: string[] = [];
  for await (const file of glob("**/model.onnx", { cwd: casesFolder })) {
    const folderOfCase = path.join(casesFolder, path.dirname(file));
    let model: LoadedModel;
    try {
      model = await loadModel({ ...host, root: casesFolder, version: await versionOf(casesFolder, file) });
    } catch (error) {
      assert.ok(error instanceof SwitchyardError && error.code === "model_not_ready", `${file}: ${error}`);
      refused.push(`${path.basename(path.dirname(file))}: ${error.message}`);
      continue;
    }
    for await (const set of glob("test_data_set_*", { cwd: folderOfCase })) {
      const inputs = await recorded(path.join(folderOfCase, set), "input", model.session.inputs);
      const expected = await recorded(path.join(folderOfCase, set), "output", model.session.outputs);
      const { results } = await runBatch({ model, jobs: [{ inputs, items: 1 }] });
      for (const [index, output] of outputsOf(results[0]).entries()) assertClose(output, expected[index]!, file);
      ran += 1;
    }
    await model.release();
  }
  assert.ok(ran >= 70, `only ${ran} cases ran; refused: ${refused.join("\n")}`);
  // Operators older than the runtime supports, or that it lacks; a locale that this machine lacks.
  for (const reason of refused) assert.match(reason, /Could not find an implementation|is not a registered|construct locale/);
});

async function recorded(set: string, kind: "input" | "output", signature: readonly { name: string }[]): Promise<Tensor[]> {
  return Promise.all(
    signature.map(async ({ name }, index) => {
      const read = readTensorProto(await readFile(path.join(set, `${kind}_${index}.pb`)));
      assert.ok(read, `${set}: ${kind} ${index} is no tensor`);
      return { ...read, name };
    }),
  );
}

function assertClose(actual: Tensor, expected: Tensor, file: string): void {
  assert.deepEqual([actual.datatype, actual.shape], [expected.datatype, expected.shape], file);
  if (actual.datatype === "BYTES") {
    assert.deepEqual(toStrings(actual), toStrings(expected), file);
    return;
  }
  const left = toTypedArray(actual);
  const right = toTypedArray(expected);
  for (let index = 0; index < right.length; index += 1) {
    const [a, b] = [Number(left[index]), Number(right[index])];
    assert.ok(Object.is(a, b) || Math.abs(a - b) <= 1e-4 + 1e-3 * Math.abs(b), `${file}: element ${index} is ${a}, expected ${b}`);
  }
}
