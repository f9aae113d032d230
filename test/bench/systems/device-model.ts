/**
 * The models whose runs fill the device: calibrated to 20 ms on one thread of this machine as it is now, whatever the batch. Written again
 * when the machine has become faster or slower since.
 */

import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { deviceModel } from "../../../scripts/bench-models/device.ts";
import { seededRandom } from "../../../scripts/seeded-random.ts";
import { openSession } from "./direct-session.ts";
import type { SystemModel } from "./system.ts";

export const deviceRunMs = 20;
const maxBatchItems = 8;
const itemShape = [64];
const toleratedMs = 1;
const tries = 5;

/** Median of some runs of one item, in milliseconds. */
async function runMs(file: string): Promise<number> {
  const session = await openSession(file, 1);
  const bytes = new Uint8Array(new Float32Array(itemShape[0]!).fill(0.5).buffer);
  const took: number[] = [];
  for (let run = 0; run < 28; run++) {
    const startedMs = performance.now();
    await session.run(bytes, [1, ...itemShape]);
    if (run >= 7) took.push(performance.now() - startedMs);
  }
  await session.release();
  return took.toSorted((left, right) => left - right)[Math.floor(took.length / 2)]!;
}

/** Writes `<repository>/<name>/1/model.onnx` unless what lies there runs for 20 ms already. Models of one repository differ by their weights. */
async function calibrated(repository: string, name: string, seed: number): Promise<SystemModel> {
  const home = path.join(repository, name);
  const file = path.join(home, "1", "model.onnx");
  const mark = path.join(home, "steps.json");
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(path.join(home, "model.yaml"), `max_batch_items: ${maxBatchItems}\n`);
  let steps = knownSteps(mark);
  for (let attempt = 0; attempt < tries; attempt++) {
    if (steps === undefined) {
      steps = 200;
      write(file, deviceModel(seededRandom(seed), steps));
    }
    const took = await runMs(file);
    if (Math.abs(took - deviceRunMs) <= toleratedMs) break;
    steps = Math.max(1, Math.round((steps * deviceRunMs) / took));
    write(file, deviceModel(seededRandom(seed), steps));
  }
  writeFileSync(mark, JSON.stringify({ steps }));
  return { name, repository, path: file, maxBatchItems, itemShape };
}

/** Renamed when whole: a repository scan must not meet half a file. */
function write(file: string, bytes: Uint8Array): void {
  const part = path.join(path.dirname(path.dirname(file)), ".part");
  writeFileSync(part, bytes);
  renameSync(part, file);
}

function knownSteps(mark: string): number | undefined {
  try {
    return (JSON.parse(readFileSync(mark, "utf8")) as { steps: number }).steps;
  } catch {
    return undefined;
  }
}

/** A repository with this one model. */
export const deviceModelIn = (cache: string): Promise<SystemModel> => calibrated(path.join(cache, "device"), "device", 1);

/** A repository with two of them, for two models on one host. */
export async function twoDeviceModelsIn(cache: string): Promise<[SystemModel, SystemModel]> {
  const repository = path.join(cache, "two-devices");
  return [await calibrated(repository, "device-one", 1), await calibrated(repository, "device-two", 2)];
}
