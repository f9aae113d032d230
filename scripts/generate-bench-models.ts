/**
 * Writes the models that benches and load tests run, with seeded random weights, as a model repository.
 * Usage: node scripts/generate-bench-models.ts <folder> [--seed 1] [--which mlp,average,transformer,resnet50,tiny] [--tiny-count 2000]
 * What a former call with the same seed has written stays. The folder belongs into a cache: resnet50 takes 100 MB.
 */

import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { resnet50Model } from "./bench-models/resnet50.ts";
import { averageModel, mlpModel, tinyModel } from "./bench-models/small-models.ts";
import { transformerModel } from "./bench-models/transformer.ts";
import { type SeededRandom, seededRandom } from "./seeded-random.ts";

interface Recipe {
  build: (random: SeededRandom) => Uint8Array;
  maxBatchItems: number;
}

const recipes = {
  mlp: { build: mlpModel, maxBatchItems: 64 },
  average: { build: averageModel, maxBatchItems: 8 },
  transformer: { build: transformerModel, maxBatchItems: 16 },
  resnet50: { build: resnet50Model, maxBatchItems: 8 },
  tiny: { build: tinyModel, maxBatchItems: 64 },
} as const satisfies Record<string, Recipe>;

export type BenchModel = keyof typeof recipes;
export const benchModels = Object.keys(recipes) as BenchModel[];

export interface GeneratedModel {
  model: string;
  /** Path of the ONNX file. */
  path: string;
  maxBatchItems: number;
}

/** Raise when a recipe changes, so that caches are written again. */
const edition = 1;

/** Writes `<folder>/<model>/1/model.onnx` and `<folder>/<model>/model.yaml` for each of `which` (all by default). */
export function generateBenchModels(of: { folder: string; seed: number; which?: readonly BenchModel[] }): GeneratedModel[] {
  return (of.which ?? benchModels).map((model) => generate(of.folder, model, recipes[model], of.seed));
}

/** Writes `count` tiny models that all differ: `tiny-0000`, `tiny-0001` and so on. */
export function generateTinyModels(of: { folder: string; seed: number; count: number }): GeneratedModel[] {
  return Array.from({ length: of.count }, (_, index) =>
    generate(of.folder, `tiny-${String(index).padStart(4, "0")}`, recipes.tiny, of.seed + index),
  );
}

function generate(folder: string, model: string, { build, maxBatchItems }: Recipe, seed: number): GeneratedModel {
  const home = join(folder, model);
  const path = join(home, "1", "model.onnx");
  const mark = join(home, "generated.json");
  const content = `${JSON.stringify({ edition, seed })}\n`;
  if (readIfThere(mark) !== content) {
    mkdirSync(join(home, "1"), { recursive: true });
    // Renamed when whole, so that a repository scan never meets half a file.
    writeFileSync(`${path}.part`, build(seededRandom(seed)));
    renameSync(`${path}.part`, path);
    writeFileSync(join(home, "model.yaml"), `max_batch_items: ${maxBatchItems}\n`);
    writeFileSync(mark, content);
  }
  return { model, path, maxBatchItems };
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { seed: { type: "string", default: "1" }, which: { type: "string" }, "tiny-count": { type: "string", default: "0" } },
  });
  const [folder] = positionals;
  const which = values.which?.split(",").filter((name) => name !== "");
  const unknown = which?.filter((name) => !Object.hasOwn(recipes, name)) ?? [];
  if (folder === undefined || unknown.length > 0) {
    process.stderr.write(
      folder === undefined ? "name the folder to write to\n" : `expected ${benchModels.join(", ")}; got ${unknown.join(", ")}\n`,
    );
    process.exit(2);
  }
  const seed = Number(values.seed);
  const models = generateBenchModels({ folder, seed, ...(which ? { which: which as BenchModel[] } : {}) });
  models.push(...generateTinyModels({ folder, seed, count: Number(values["tiny-count"]) }));
  process.stdout.write(`${models.length} models in ${folder}\n`);
}
