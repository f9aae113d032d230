/**
 * A model on a thread of its own, so that its load stalls no other model of the runner, and its runs leave the runner's thread free. They cross to that thread and
 * back in some 0.1 ms; what was laid in the memory that travels is not copied.
 */

import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { type ModelVersion, SwitchyardError, type Tensor, type TensorSignature } from "@switchyard/protocol";
import type { Batching, LoadedModel, LoadModelOptions } from "./loaded-model.ts";
import { DamagedFiles } from "./model-files.ts";
import { RunFailure, type Session } from "./session.ts";
import { buffersOf } from "./stacking.ts";
import { TravellingMemory } from "./travelling-memory.ts";

export interface ThreadLoad extends Omit<LoadModelOptions, "clock"> {
  version: ModelVersion;
}

export type ToSession = { kind: "run"; id: number; feeds: readonly Tensor[]; wanted: readonly string[] } | { kind: "release" };

interface ToldLoaded {
  kind: "loaded";
  inputs: TensorSignature[];
  outputs: TensorSignature[];
  batching: Batching;
  isElsewhere: boolean;
  loadMs: number;
  sizeBytes: number;
  warmUpMs: Map<number, number>;
}

/** `spent`: the memory that the feeds came in, for others. */
type ToldRun =
  | { kind: "ran"; id: number; outputs: Tensor[]; spent: ArrayBuffer[] }
  | { kind: "run_failed"; id: number; detail: string; isTransient: boolean };

export type FromSession = ToldLoaded | { kind: "load_failed"; reason: string; isDamaged: boolean } | ToldRun;

/** Where runs take all cores, whatever is done beside them only makes them longer. */
export function hasCoresToSpare(threads: number): boolean {
  return threads < availableParallelism();
}

const live = new Set<ModelThread>();

/** As `loadModel`, on a thread of its own. */
export async function loadModelBeside(options: LoadModelOptions): Promise<LoadedModel> {
  const { clock, ...load } = options;
  const thread = new ModelThread(load);
  const { batching, inputs, isElsewhere, loadMs, outputs, sizeBytes, warmUpMs } = await thread.loaded;
  const session: Session = { inputs, outputs, run: (feeds, wanted) => thread.run(feeds, wanted), release: () => thread.release() };
  const release = (): Promise<void> => thread.release();
  return {
    version: options.version,
    session,
    batching,
    sizeBytes,
    loadMs,
    warmUpMs,
    clock,
    scratch: thread.memory,
    isElsewhere,
    isBeside: isElsewhere || hasCoresToSpare(options.threads),
    release,
  };
}

/** Ends every such thread, those that are still loading too, when they have come to an end: one that is cut off takes the process with it. */
export async function endModelThreads(): Promise<void> {
  await Promise.all([...live].map((thread) => thread.release()));
}

class ModelThread {
  readonly #thread: Worker;
  readonly #runs = new Map<number, PromiseWithResolvers<Map<string, Tensor>>>();
  readonly #ended: Promise<void>;
  readonly loaded: Promise<ToldLoaded>;
  readonly memory = new TravellingMemory();
  #lastRun = 0;

  constructor(load: ThreadLoad) {
    const loaded = Promise.withResolvers<ToldLoaded>();
    this.loaded = loaded.promise;
    this.#thread = new Worker(new URL("./session-thread.ts", import.meta.url), { workerData: load });
    live.add(this);
    this.#thread.on("message", (message: FromSession) => {
      if (message.kind === "loaded") loaded.resolve(message);
      else if (message.kind === "load_failed")
        loaded.reject(message.isDamaged ? new DamagedFiles(message.reason) : notReady(message.reason));
      else this.#settle(message);
    });
    // a fault of ours: the host ends and starts anew
    this.#thread.on("error", (error) => {
      throw error;
    });
    this.#ended = new Promise((resolve) => {
      this.#thread.once("exit", () => {
        live.delete(this);
        loaded.reject(notReady("the model's thread ended before it was loaded"));
        for (const { reject } of this.#runs.values())
          reject(new RunFailure("The model was unloaded before the run", { isTransient: true }));
        resolve();
      });
    });
  }

  #settle(message: ToldRun): void {
    const run = this.#runs.get(message.id);
    this.#runs.delete(message.id);
    if (message.kind === "ran") this.memory.back(message.spent);
    if (message.kind === "ran") run?.resolve(new Map(message.outputs.map((output) => [output.name, output])));
    else run?.reject(new RunFailure(message.detail, { isTransient: message.isTransient }));
  }

  run(feeds: readonly Tensor[], wanted: readonly string[]): Promise<Map<string, Tensor>> {
    if (!live.has(this)) return Promise.reject(new RunFailure("The model was unloaded before the run", { isTransient: true }));
    const run = Promise.withResolvers<Map<string, Tensor>>();
    this.#lastRun += 1;
    this.#runs.set(this.#lastRun, run);
    // what was not laid in the memory that travels is copied: the caller's bytes are views on memory that it will use again
    const sent = feeds.map((feed) => (this.memory.owns(feed.bytes) ? feed : { ...feed, bytes: new Uint8Array(feed.bytes) }));
    this.#send({ kind: "run", id: this.#lastRun, feeds: sent, wanted }, buffersOf(sent));
    return run.promise;
  }

  release(): Promise<void> {
    this.#send({ kind: "release" });
    return this.#ended;
  }

  #send(message: ToSession, transfer: ArrayBuffer[] = []): void {
    this.#thread.postMessage(message, transfer);
  }
}

function notReady(reason: string): SwitchyardError {
  return new SwitchyardError("model_not_ready", reason);
}
