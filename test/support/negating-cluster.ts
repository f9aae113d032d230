/** A cluster of one coordinator and one worker that share a folder, and a model that negates its input: what is large can be made, sent and checked. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { GraphBuilder } from "@switchyard/protocol/onnx";
import { Redis } from "ioredis";
import { type Processes, startProcesses } from "./processes.ts";
import { emptyRepository } from "./timed-models.ts";

export interface NegatingCluster {
  cluster: Processes;
  /** The repository. */
  models: string;
  /** SWITCHYARD_DATA of all processes. */
  folder: string;
  redis: Redis;
  close(): Promise<void>;
}

/** The model `negative`: `x` FP32 of that shape → `y`, of the same. */
export async function startNegatingCluster(shape: number[]): Promise<NegatingCluster> {
  const models = await emptyRepository();
  const graph = new GraphBuilder({ name: "negative" });
  graph.input("x", "FP32", shape);
  graph.output("y", "FP32", shape);
  graph.node("Neg", ["x"], {}, "y");
  await models.add("negative", graph);
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-negating-"));
  const cluster = await startProcesses({ models: models.folder, env: { SWITCHYARD_DATA: folder } });
  const redis = new Redis(cluster.redis.url);
  const close = async (): Promise<void> => {
    redis.disconnect();
    await cluster.stop();
    await models.remove();
    await rm(folder, { recursive: true, force: true });
  };
  return { cluster, models: models.folder, folder, redis, close };
}
