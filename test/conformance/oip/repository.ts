/** The models that foreign clients are checked against: digits, one identity per tensor type, a slow one, a broken one, and further ones if named. */

import { cp, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { Datatype } from "@switchyard/protocol";
import { GraphBuilder } from "@switchyard/protocol/onnx";
import { modelFolder } from "../../support/onnx-models.ts";
import { slowModelOf } from "../../support/timed-models.ts";

const exampleModels = fileURLToPath(new URL("../../../models", import.meta.url));
/** Words of numpy. */
const identities: Record<string, Datatype> = {
  bool: "BOOL",
  uint8: "UINT8",
  uint16: "UINT16",
  uint32: "UINT32",
  uint64: "UINT64",
  int8: "INT8",
  int16: "INT16",
  int32: "INT32",
  int64: "INT64",
  float16: "FP16",
  float32: "FP32",
  float64: "FP64",
  text: "BYTES",
};

export interface CheckedModels {
  root: string;
  names: string[];
  remove(): Promise<void>;
}

/** `x` and `y` of the same type, both [-1,-1]. */
function identity(datatype: Datatype): GraphBuilder {
  const graph = new GraphBuilder({ name: "identity" });
  graph.input("x", datatype, ["rows", "columns"]);
  graph.output("y", datatype, ["rows", "columns"]);
  graph.node("Identity", ["x"], {}, "y");
  return graph;
}

export async function checkedModels(): Promise<CheckedModels> {
  const { root, add, remove } = await modelFolder();
  await cp(path.join(exampleModels, "digits"), path.join(root, "digits"), { recursive: true });
  for (const [word, datatype] of Object.entries(identities)) await add(`identity-${word}`, identity(datatype));
  await add("slow", await slowModelOf(400));
  await mkdir(path.join(root, "broken", "1"), { recursive: true });
  await writeFile(path.join(root, "broken", "1", "model.onnx"), "this is no graph");
  const further = process.env.SWITCHYARD_TEST_MODELS;
  if (further !== undefined) {
    const triton = path.join(further, "triton");
    for (const name of await readdir(triton).catch(() => [])) await cp(path.join(triton, name), path.join(root, name), { recursive: true });
    await rm(path.join(root, "simple_sequence"), { recursive: true, force: true }); // wants a server that keeps its state between calls
  }
  return { root, names: await readdir(root), remove };
}
