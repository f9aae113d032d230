/**
 * Entry of a thread that loads one model, keeps it, and runs it for the runner: ONNX Runtime blocks whatever thread it is called on, also
 * while it loads, and a session never leaves its thread. Started by threaded-model.ts.
 */

import { parentPort, workerData } from "node:worker_threads";
import { SwitchyardError, type Tensor } from "@switchyard/protocol";
import { giveBackMemory } from "@switchyard/protocol/garbage";
import { systemClock } from "../clock.ts";
import { loadModel } from "./loaded-model.ts";
import { DamagedFiles } from "./model-files.ts";
import { RunFailure } from "./session.ts";
import { buffersOf } from "./stacking.ts";
import type { FromSession, ThreadLoad, ToSession } from "./threaded-model.ts";

const port = parentPort;
if (!port) throw new Error("session-thread.ts is started by threaded-model.ts, as a worker thread");

function tell(message: FromSession, transfer: ArrayBuffer[] = []): void {
  port!.postMessage(message, transfer);
}

const load = workerData as ThreadLoad;
const loading = loadModel({ ...load, clock: systemClock });

port.on("message", (message: ToSession) => {
  if (message.kind === "release") void release();
  else void run(message);
});

async function release(): Promise<void> {
  await loading.then((model) => model.release()).catch(() => {});
  port!.close();
}

async function run({ id, feeds, wanted }: ToSession & { kind: "run" }): Promise<void> {
  try {
    const { session } = await loading;
    const outputs = [...(await session.run(feeds, wanted)).values()].map(copied);
    const spent = buffersOf(feeds);
    tell({ kind: "ran", id, outputs, spent }, [...buffersOf(outputs), ...spent]);
  } catch (error) {
    const isTransient = error instanceof RunFailure && error.retryable;
    tell({ kind: "run_failed", id, detail: (error as Error).message, isTransient });
  }
}

/** What the runtime answered may lie in memory of its own. */
function copied(tensor: Tensor): Tensor {
  return { ...tensor, bytes: new Uint8Array(tensor.bytes) };
}

loading.then(
  ({ batching, isElsewhere, loadMs, session, sizeBytes, warmUpMs }) => {
    giveBackMemory();
    tell({
      kind: "loaded",
      inputs: [...session.inputs],
      outputs: [...session.outputs],
      batching,
      isElsewhere,
      loadMs,
      sizeBytes,
      warmUpMs: new Map(warmUpMs),
    });
  },
  (error: unknown) => {
    const reason = error instanceof SwitchyardError ? error.message : String(error);
    tell({ kind: "load_failed", reason, isDamaged: error instanceof DamagedFiles });
    port.close();
  },
);
