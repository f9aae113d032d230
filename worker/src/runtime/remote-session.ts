/**
 * A model that another server of the Open Inference Protocol holds, run over HTTP as if it were loaded here: the runtime beside
 * onnx-runtime.ts. Tensors travel as raw bytes where the server says that it knows the binary extension, else as JSON. What the server
 * says of itself and answers is believed only as far as it keeps the signature.
 */

import {
  decodeInferResponse,
  encodeInferRequest,
  isDatatype,
  type RemoteModel,
  SwitchyardError,
  type Tensor,
  type TensorSignature,
} from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import { RunFailure, type Session } from "./session.ts";

export interface RemoteOptions {
  /** http://host:port, with a path where the server stands behind one. */
  url: string;
  remote: RemoteModel;
  /** For one run. */
  timeoutMs: number;
  clock: Pick<Clock, "after">;
}

const askMs = 10_000;
const longestText = 300;
const longestDescription = 1024 * 1024;
/** Of one run. */
const longestAnswer = 64 * 1024 * 1024;
/** What another try, here or on another host, may end otherwise: the server is away, busy, or does not have the model now. */
const passing = new Set([404, 408, 425, 429, 502, 503, 504]);

/** Throws `model_not_ready` when the server is away, is not ready, or describes the model in words that nobody here knows. */
export async function openRemote({ url, remote, timeoutMs, clock }: RemoteOptions): Promise<Session> {
  const base = url.replace(/\/+$/, "");
  const at = `${base}/v2/models/${encodeURIComponent(remote.model)}${remote.version === undefined ? "" : `/versions/${encodeURIComponent(remote.version)}`}`;
  const what = `the server's model ${remote.model}`;
  const ready = await ask(`${at}/ready`, what, clock);
  if (!ready.ok) throw notReady(`${what} is not ready (${ready.status})`);
  const metadata = (await jsonOf(at, what, clock)) as { inputs?: unknown; outputs?: unknown };
  const server = (await jsonOf(`${base}/v2`, "the server", clock)) as { extensions?: unknown };
  const binary = Array.isArray(server.extensions) && server.extensions.includes("binary_tensor_data");
  const [inputs, outputs] = [signaturesOf(metadata.inputs, `inputs of ${what}`), signaturesOf(metadata.outputs, `outputs of ${what}`)];
  return new RemoteSession({ at, binary, timeoutMs, clock, inputs, outputs });
}

/** Runs `call`, whose signal aborts after `ms`. */
async function within<Result>(ms: number, clock: RemoteOptions["clock"], call: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
  const late = new AbortController();
  const cancel = clock.after(ms, () => late.abort(new Error(`no answer within ${ms} ms`)));
  try {
    return await call(late.signal);
  } finally {
    cancel();
  }
}

/** `what` stands for the address in errors, which callers may read. */
async function ask(url: string, what: string, clock: RemoteOptions["clock"]): Promise<{ ok: boolean; status: number; text: string }> {
  try {
    return await within(askMs, clock, async (signal) => {
      const answer = await fetch(url, { redirect: "error", signal });
      return { ok: answer.ok, status: answer.status, text: Buffer.from(await bounded(answer, longestDescription)).toString() };
    });
  } catch (error) {
    throw notReady(`${what} does not answer: ${whyOf(error)}`);
  }
}

/** The body, as far as it is no longer than it may be. */
async function bounded(answer: Response, mostBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of answer.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > mostBytes) throw new RunFailure(`The server answered more than ${mostBytes} bytes`, { isTransient: false });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function jsonOf(url: string, what: string, clock: RemoteOptions["clock"]): Promise<object> {
  const answer = await ask(url, what, clock);
  if (!answer.ok) throw notReady(`${what} answers ${answer.status}`);
  try {
    return Object(JSON.parse(answer.text)) as object;
  } catch {
    throw notReady(`${what} answers something else than JSON`);
  }
}

function signaturesOf(told: unknown, what: string): TensorSignature[] {
  if (!Array.isArray(told)) throw notReady(`${what}: expected a list of tensors`);
  return told.map((one: { name?: unknown; datatype?: unknown; shape?: unknown }) => {
    const { name, datatype, shape } = Object(one);
    if (typeof name !== "string" || !Array.isArray(shape)) throw notReady(`${what}: expected tensors with name, datatype and shape`);
    if (typeof datatype !== "string" || !isDatatype(datatype))
      throw notReady(`${what}: '${name}' has type ${datatype}, which cannot be carried`);
    return { name, datatype, shape: shape.map((size) => (Number.isSafeInteger(Number(size)) ? Number(size) : -1)) };
  });
}

interface Parts {
  at: string;
  binary: boolean;
  timeoutMs: number;
  clock: Pick<Clock, "after">;
  inputs: TensorSignature[];
  outputs: TensorSignature[];
}

class RemoteSession implements Session {
  readonly inputs: readonly TensorSignature[];
  readonly outputs: readonly TensorSignature[];
  readonly #parts: Parts;
  readonly #released = new AbortController();

  constructor(parts: Parts) {
    this.#parts = parts;
    this.inputs = parts.inputs;
    this.outputs = parts.outputs;
  }

  async run(feeds: readonly Tensor[], wanted: readonly string[]): Promise<Map<string, Tensor>> {
    const answer = await this.#post(feeds, wanted);
    if (answer.status !== 200) throw refusal(answer);
    let outputs: Tensor[];
    try {
      const { body, headerLength } = answer;
      ({ outputs } = decodeInferResponse({ body, ...(headerLength === undefined ? {} : { headerLength }) }));
    } catch (error) {
      throw new RunFailure(`The server's answer cannot be read: ${(error as Error).message}`, { isTransient: false });
    }
    return new Map(wanted.map((name) => [name, this.#checked(name, outputs)]));
  }

  #checked(name: string, outputs: readonly Tensor[]): Tensor {
    const found = outputs.find((output) => output.name === name);
    const declared = this.outputs.find((output) => output.name === name);
    const wrong = (what: string): RunFailure => new RunFailure(`The server answered ${what}`, { isTransient: false });
    if (!found) throw wrong(`no output '${name}'`);
    if (!declared) return found;
    if (found.datatype !== declared.datatype) throw wrong(`output '${name}' as ${found.datatype}, expected ${declared.datatype}`);
    const fits =
      found.shape.length === declared.shape.length && declared.shape.every((size, axis) => size === -1 || size === found.shape[axis]);
    if (!fits) throw wrong(`output '${name}' with shape [${found.shape}], expected [${declared.shape}]`);
    return found;
  }

  async #post(feeds: readonly Tensor[], wanted: readonly string[]): Promise<Answer> {
    const { at, binary, clock, timeoutMs } = this.#parts;
    const { contentType, headerLength, parts } = encoded(feeds, wanted, binary);
    try {
      return await within(timeoutMs, clock, async (late) => {
        const answer = await fetch(`${at}/infer`, {
          method: "POST",
          redirect: "error",
          headers: {
            "content-type": contentType,
            ...(headerLength === undefined ? {} : { "inference-header-content-length": String(headerLength) }),
          },
          body: Buffer.concat(parts),
          signal: AbortSignal.any([late, this.#released.signal]),
        });
        const length = answer.headers.get("inference-header-content-length");
        const body = await bounded(answer, longestAnswer);
        return { status: answer.status, body, headerLength: length === null ? undefined : Number(length) };
      });
    } catch (error) {
      if (error instanceof RunFailure) throw error;
      throw new RunFailure(`The server cannot be reached: ${whyOf(error)}`, { isTransient: true, concernsAll: true });
    }
  }

  async release(): Promise<void> {
    this.#released.abort(new Error("the model was unloaded"));
  }
}

interface Answer {
  status: number;
  body: Uint8Array;
  headerLength: number | undefined;
}

function encoded(feeds: readonly Tensor[], wanted: readonly string[], binary: boolean) {
  const outputs = wanted.map((name) => (binary ? { name, binary } : { name }));
  try {
    return encodeInferRequest({ inputs: feeds, outputs, binary, binaryOutputs: false });
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    throw new RunFailure(`The server takes JSON only: ${error.message}`, { isTransient: false });
  }
}

function refusal({ body, status }: Answer): RunFailure {
  const text = Buffer.from(body.subarray(0, 4_096)).toString();
  let said = text;
  try {
    said = String((JSON.parse(text) as { error?: unknown }).error ?? text);
  } catch {
    // no JSON: shown as it is
  }
  const detail = `The server answered ${status}: ${said.replace(/\s+/g, " ").slice(0, longestText)}`;
  const isTransient = passing.has(status);
  return new RunFailure(detail, { isTransient, concernsAll: isTransient });
}

/** undici hides what happened in the cause. */
function whyOf(error: unknown): string {
  const { cause, message } = error as Error & { cause?: Error & { code?: string } };
  return cause?.code ?? cause?.message ?? message;
}

function notReady(detail: string): SwitchyardError {
  return new SwitchyardError("model_not_ready", detail);
}
