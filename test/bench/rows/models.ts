/** The generated models that rows run, each in a repository of its own, so that a host loads nothing else. */

import { mkdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { type BenchModel, generateBenchModels } from "../../../scripts/generate-bench-models.ts";
import type { SystemModel } from "../systems/system.ts";

export const modelCache = fileURLToPath(new URL("../../../.cache/bench-models", import.meta.url));

function benchModel(which: BenchModel, itemShape: readonly number[]): SystemModel {
  const repository = path.join(modelCache, which);
  mkdirSync(repository, { recursive: true });
  const [made] = generateBenchModels({ folder: repository, seed: 1, which: [which] });
  return { name: which, repository, path: made!.path, maxBatchItems: made!.maxBatchItems, itemShape };
}

export const mlp = (): SystemModel => benchModel("mlp", [784]);
export const average = (): SystemModel => benchModel("average", [1, 65_536]);
export const resnet = (): SystemModel => benchModel("resnet50", [3, 224, 224]);
