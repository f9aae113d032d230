/** Entry of the bare onnxruntime loop: runs as fast as one process can, with nothing around. Told what to do by arguments, answers by messages. */

import { openSession } from "./direct-session.ts";

export interface LoopResult {
  jobs: number;
  seconds: number;
}

export type FromLoop = { kind: "warm" } | { kind: "done"; result: LoopResult };

const [path, threads, items, itemShape, warmSeconds, seconds] = process.argv.slice(2) as [string, string, string, string, string, string];
const session = await openSession(path, Number(threads));
const shape = [Number(items), ...itemShape.split("x").map(Number)];
const elements = shape.reduce((left, right) => left * right, 1);
const bytes = new Uint8Array(Float32Array.from({ length: elements }, (_, index) => Math.sin(index)).buffer);

async function loop(limitSeconds: number): Promise<LoopResult> {
  const startedMs = performance.now();
  let jobs = 0;
  let nowMs = startedMs;
  while (nowMs - startedMs < limitSeconds * 1000) {
    await session.run(bytes, shape);
    jobs += Number(items);
    nowMs = performance.now();
  }
  return { jobs, seconds: (nowMs - startedMs) / 1000 };
}

function tell(message: FromLoop): Promise<void> {
  return new Promise((resolve) => process.send!(message, () => resolve()));
}

await loop(Number(warmSeconds));
await tell({ kind: "warm" });
await tell({ kind: "done", result: await loop(Number(seconds)) });
process.exit(0);
