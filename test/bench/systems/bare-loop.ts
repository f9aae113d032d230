/** A cell of the bare onnxruntime loop: the ceiling that a model which fills the machine can reach. */

import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type Noise, noiseOf, round } from "../cell.ts";
import { readMachine, useBetween } from "../machine.ts";
import type { FromLoop } from "./bare-loop-process.ts";
import type { SystemModel } from "./system.ts";

export interface LoopCell {
  items: number;
  jobsPerSecond: number;
  cpuUsPerJob: number;
  noise: Noise;
  attempts: number;
}

/** Threads as the worker has them. */
export function measureLoop(
  model: SystemModel,
  plan: { items: number; threads: number; warmSeconds: number; seconds: number; env?: Record<string, string> },
): Promise<LoopCell> {
  const { env = {}, items, threads, warmSeconds, seconds } = plan;
  const child = fork(
    fileURLToPath(new URL("./bare-loop-process.ts", import.meta.url)),
    [model.path, threads, items, model.itemShape.join("x"), warmSeconds, seconds].map(String),
    { execArgv: [], env: { ...process.env, ...env } },
  );
  const endIt = (): void => void child.kill("SIGKILL");
  process.once("exit", endIt);
  const own = new Set([child.pid!, process.pid]);
  let before = readMachine(own);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", () => process.off("exit", endIt));
    child.once("exit", (code) => reject(new Error(`the bare loop ended with ${code}`)));
    child.on("message", (message: FromLoop) => {
      if (message.kind === "warm") {
        before = readMachine(own);
        return;
      }
      const use = useBetween(before, readMachine(own));
      const { jobs, seconds: took } = message.result;
      const cpuUsPerJob = round((use.cpuUs.get(child.pid!) ?? 0) / jobs, 0);
      resolve({ items, jobsPerSecond: jobs / took, cpuUsPerJob, noise: noiseOf(use), attempts: 1 });
    });
  });
}
