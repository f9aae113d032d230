/**
 * The only file that knows onnxruntime-node. It loads graphs and runs them on tensors of the protocol, without copies where the
 * bytes lie aligned. A run blocks the thread it is called on, although the binding answers with a promise: call it on a runner only.
 */

import {
  alignedView,
  type Datatype,
  decodeBytesStrings,
  elementBytes,
  encodeBytesElements,
  SwitchyardError,
  type Tensor,
  type TensorSignature,
} from "@switchyard/protocol";
import { GraphBuilder } from "@switchyard/protocol/onnx";
import { env, InferenceSession, listSupportedBackends, Tensor as RuntimeTensor } from "onnxruntime-node";
import { cleanRuntimeText, tellsOfMemory } from "./runtime-text.ts";
import { RunFailure, type Session } from "./session.ts";

// Every failure is thrown and reported by the caller; the runtime's own lines on stderr would only tell it twice, with paths.
env.logLevel = "fatal";
const quiet = 4;

export interface LoadOptions {
  /** The ONNX file; its external weights lie beside it. */
  path: string;
  /** The file's content where it was read already and has no external weights: loaded instead of the path. */
  bytes?: Uint8Array;
  /** Execution providers, best first; each must be usable, none is left out silently. */
  providers: readonly string[];
  /** Threads within one operator. */
  threads: number;
}

/** Throws `model_not_ready` when the runtime cannot load the graph or a tensor has a type that cannot be carried. */
export async function loadSession(options: LoadOptions): Promise<Session> {
  const sessionOptions: InferenceSession.SessionOptions = {
    executionProviders: [...options.providers],
    graphOptimizationLevel: "all",
    executionMode: "sequential",
    intraOpNumThreads: options.threads,
    interOpNumThreads: 1,
    logSeverityLevel: quiet,
    // Threads that spin while they wait for the next run were seen to burn 10 ms of a core after each run, which Redis and the
    // coordinator on the same machine need; runs of heavy models are no slower without.
    extra: { session: { intra_op: { allow_spinning: "0" }, dynamic_block_base: "4" } },
  };
  let session: InferenceSession;
  try {
    const { bytes } = options;
    session = await (bytes ? InferenceSession.create(bytes, sessionOptions) : InferenceSession.create(options.path, sessionOptions));
  } catch (error) {
    throw notReady(cleanRuntimeText(textOf(error).replaceAll(options.path, "the model file")));
  }
  try {
    return new RuntimeSession(session);
  } catch (error) {
    await session.release();
    throw error;
  }
}

let usable: Promise<string[]> | undefined;

/** The providers that can really load a model on this machine, `cpu` last. Found once, by loading a graph of one node with each. */
export function supportedProviders(): Promise<string[]> {
  usable ??= probeProviders();
  return usable;
}

async function probeProviders(): Promise<string[]> {
  const graph = new GraphBuilder({ name: "probe" });
  graph.input("x", "FP32", [1]);
  graph.output("y", "FP32", [1]);
  graph.node("Abs", ["x"], {}, "y");
  const bytes = graph.toBytes();
  const found: string[] = [];
  for (const { name } of listSupportedBackends()) {
    // WebGPU is compiled in everywhere, also where only a software renderer answers: it must be asked for by name.
    if (name === "cpu" || name === "webgpu") continue;
    try {
      await (await loadSession({ path: "probe", bytes, providers: [name], threads: 1 })).release();
      found.push(name);
    } catch {
      // Not on this machine.
    }
  }
  return [...found, "cpu"];
}

type NumericType = Exclude<Datatype, "BYTES">;
type ArrayMaker = new (buffer: ArrayBuffer, byteOffset: number, length: number) => ArrayBufferView;

const carriers: Record<NumericType, { type: RuntimeTensor.Type; array: ArrayMaker }> = {
  BOOL: { type: "bool", array: Uint8Array },
  UINT8: { type: "uint8", array: Uint8Array },
  UINT16: { type: "uint16", array: Uint16Array },
  UINT32: { type: "uint32", array: Uint32Array },
  UINT64: { type: "uint64", array: BigUint64Array },
  INT8: { type: "int8", array: Int8Array },
  INT16: { type: "int16", array: Int16Array },
  INT32: { type: "int32", array: Int32Array },
  INT64: { type: "int64", array: BigInt64Array },
  FP16: { type: "float16", array: Uint16Array },
  FP32: { type: "float32", array: Float32Array },
  FP64: { type: "float64", array: Float64Array },
};

const datatypes = new Map<string, Datatype>([
  ["string", "BYTES"],
  ...Object.entries(carriers).map(([datatype, { type }]): [string, Datatype] => [type, datatype as NumericType]),
]);

class RuntimeSession implements Session {
  readonly inputs: readonly TensorSignature[];
  readonly outputs: readonly TensorSignature[];
  readonly #session: InferenceSession;
  #isReleased = false;

  constructor(session: InferenceSession) {
    this.#session = session;
    this.inputs = session.inputMetadata.map((value) => signatureOf("input", value));
    this.outputs = session.outputMetadata.map((value) => signatureOf("output", value));
  }

  async run(feeds: readonly Tensor[], wanted: readonly string[]): Promise<Map<string, Tensor>> {
    // Touching freed memory would end the process.
    if (this.#isReleased) throw new RunFailure("The model was unloaded before the run", { isTransient: true });
    const fed: Record<string, RuntimeTensor> = Object.create(null);
    for (const feed of feeds) fed[feed.name] = toRuntime(feed);
    let results: InferenceSession.OnnxValueMapType;
    try {
      results = await this.#session.run(fed, wanted, { logSeverityLevel: quiet });
    } catch (error) {
      const text = textOf(error);
      throw new RunFailure(cleanRuntimeText(text), { isTransient: tellsOfMemory(text) });
    }
    const outputs = new Map<string, Tensor>();
    for (const name of wanted) outputs.set(name, fromRuntime(name, results[name]!));
    return outputs;
  }

  async release(): Promise<void> {
    if (this.#isReleased) return;
    this.#isReleased = true;
    await this.#session.release();
  }
}

function signatureOf(kind: "input" | "output", value: InferenceSession.ValueMetadata): TensorSignature {
  const datatype = value.isTensor ? datatypes.get(value.type) : undefined;
  if (!value.isTensor || datatype === undefined) {
    const why = value.isTensor ? `has type ${value.type}` : "is no tensor";
    throw notReady(`${kind} ${JSON.stringify(value.name)} ${why}, which cannot be carried`);
  }
  return { name: value.name, datatype, shape: value.shape.map((axis) => (typeof axis === "number" ? axis : -1)) };
}

function toRuntime(source: Tensor): RuntimeTensor {
  const { datatype, shape } = source;
  try {
    if (datatype === "BYTES") return new RuntimeTensor("string", stringsOf(source), shape);
    const { type, array } = carriers[datatype];
    const width = elementBytes[datatype];
    const bytes = alignedView(source.bytes, width);
    const data = new array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength / width);
    const made = new RuntimeTensor(type as "float32", data as Float32Array, shape);
    // The package turns half words into a Float16Array, of which its native half reads nothing ("not enough space").
    if (datatype === "FP16") (made as unknown as { cpuData: ArrayBufferView }).cpuData = data;
    return made;
  } catch (error) {
    throw new RunFailure(`Input '${source.name}': ${textOf(error)}`, { isTransient: tellsOfMemory(textOf(error)) });
  }
}

/** The runtime ends a string at its first zero byte; a cut text would give a wrong answer, so it is refused. */
function stringsOf(source: Tensor): string[] {
  const strings = decodeBytesStrings(source.bytes);
  const cut = strings.findIndex((text) => text.includes("\0"));
  if (cut !== -1) throw new Error(`BYTES element ${cut} holds a zero byte, which the runtime cannot carry`);
  return strings;
}

function fromRuntime(name: string, value: InferenceSession.OnnxValueMapType[string]): Tensor {
  const datatype = datatypes.get(value.type);
  if (datatype === undefined)
    throw new RunFailure(`Output '${name}' has type ${value.type}, which cannot be carried`, { isTransient: false });
  const shape = [...value.dims];
  if (datatype === "BYTES") return { name, datatype, shape, bytes: encodeBytesElements(value.data as string[]) };
  const data = value.data as ArrayBufferView;
  return { name, datatype, shape, bytes: new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength) };
}

function notReady(detail: string): SwitchyardError {
  return new SwitchyardError("model_not_ready", detail);
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
