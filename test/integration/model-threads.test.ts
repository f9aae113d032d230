/** A model on a thread of its own: its load holds up nobody, its answers are those of a model on the caller's thread, and its failures too. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { type ModelVersion, type Tensor, tensor, toTypedArray } from "@switchyard/protocol";
import { readGraph } from "@switchyard/protocol/onnx";
import { systemClock } from "../../worker/src/clock.ts";
import type { LoadedModel } from "../../worker/src/runtime/loaded-model.ts";
import { loadModel } from "../../worker/src/runtime/loaded-model.ts";
import { DamagedFiles } from "../../worker/src/runtime/model-files.ts";
import { RunFailure } from "../../worker/src/runtime/session.ts";
import { endModelThreads, loadModelBeside } from "../../worker/src/runtime/threaded-model.ts";
import { emptyRepository, layersModel, type Repository, rowsOf } from "../support/timed-models.ts";

async function versionIn(models: Repository, model: string): Promise<ModelVersion> {
  const file = `${model}/1/model.onnx`;
  const bytes = await readFile(path.join(models.folder, file));
  const digest = createHash("sha256").update(bytes).digest("hex");
  const { signature } = readGraph(bytes);
  return { model, version: 1, digest, tag: "aaaaaaaaaa", sizeBytes: bytes.length, path: file, signature, config: { max_batch_items: 4 } };
}

/** The longest time that this thread could do nothing else, while `act` ran. */
async function longestStallMs(act: () => Promise<unknown>): Promise<number> {
  let [worst, last] = [0, performance.now()];
  const timer = setInterval(() => {
    const now = performance.now();
    [worst, last] = [Math.max(worst, now - last), now];
  }, 1);
  await act();
  await new Promise((turn) => setTimeout(turn, 5));
  clearInterval(timer);
  return worst;
}

const row = (): Tensor => tensor("x", rowsOf(1)[0]!, [1, 32]);

test("a model that loads on its own thread holds up no other, and answers as one that does not", async (t) => {
  await using models = await emptyRepository();
  await models.add("layers", layersModel(40));
  const version = await versionIn(models, "layers");
  const options = { version, root: models.folder, clock: systemClock, threads: 1, providers: ["cpu"] };
  const loaded: LoadedModel[] = [];
  const here = await longestStallMs(async () => loaded.push(await loadModel(options)));
  let beside = Number.POSITIVE_INFINITY;
  // the machine may hold this thread up, but not in every load
  for (let load = 0; load < 5 && beside >= here / 2; load++) {
    beside = await longestStallMs(async () => loaded.push(await loadModelBeside(options)));
  }
  t.diagnostic(
    `${version.sizeBytes >> 20} MB: the thread stood still for ${here.toFixed(0)} ms at most, beside for ${beside.toFixed(0)} ms`,
  );
  assert.ok(beside < here / 2, `${beside} ms beside, ${here} ms here`);
  const [one, other] = loaded as [LoadedModel, LoadedModel];
  assert.deepEqual([other.session.inputs, other.session.outputs, other.batching], [one.session.inputs, one.session.outputs, one.batching]);
  assert.deepEqual([...other.warmUpMs.keys()], [1, 2, 4]);
  const feed = row();
  const answers = await Promise.all(loaded.map(async ({ session }) => toTypedArray((await session.run([feed], ["y"])).get("y")!)));
  assert.deepEqual(answers[1], answers[0]);
  assert.deepEqual(feed, row(), "the caller's tensors are still its own");
  for (const model of loaded) await model.release();
  await assert.rejects(other.session.run([feed], ["y"]), (error: unknown) => error instanceof RunFailure && error.retryable);
});

test("what a run on the model's thread came to grief of is told as on the caller's", async () => {
  await using models = await emptyRepository();
  await models.add("layers", layersModel(1));
  const version = await versionIn(models, "layers");
  const options = { version, root: models.folder, clock: systemClock, threads: 1, providers: ["cpu"] };
  const model = await loadModelBeside(options);
  const wrong = tensor("x", new Float32Array(31), [1, 31]);
  await assert.rejects(
    model.session.run([wrong], ["y"]),
    (error: unknown) => error instanceof RunFailure && !error.retryable && /31/.test(error.message),
  );
  assert.ok((await model.session.run([row()], ["y"])).get("y"), "it goes on");
  await model.release();
  const changed = { ...version, digest: "0".repeat(64) };
  await assert.rejects(loadModelBeside({ ...options, version: changed }), (error: Error) => {
    return error instanceof DamagedFiles && /has changed/.test(error.message);
  });
});

test("threads are ended when they have come to an end, also in the middle of a load", async () => {
  await using models = await emptyRepository();
  await models.add("layers", layersModel(8));
  const version = await versionIn(models, "layers");
  const loading = loadModelBeside({ version, root: models.folder, clock: systemClock, threads: 1, providers: ["cpu"] });
  await Promise.all([loading.catch(() => {}), endModelThreads()]);
});
