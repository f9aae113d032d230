/** The bodies of POST …/infer and POST /v1/jobs, with their headers. Pure. */

import {
  type Durability,
  type EncodedBody,
  encodeInferRequest,
  type JobClass,
  jobClasses,
  maxTimeoutMs,
  type Parameters,
  type RequestedOutput,
  type RequestToEncode,
  type Requirement,
  SwitchyardError,
} from "@switchyard/protocol";
import { ClientError } from "./client-errors.ts";
import { type Inputs, tensorsOf } from "./inputs.ts";

export interface InferOptions {
  /** Default: what the alias `default` stands for, else the highest that can be served. */
  version?: number | undefined;
  /** Deadline from now, everything included; default: the model's, else the class's (5 s, 60 s, 24 h). */
  timeoutMs?: number | undefined;
  class?: JobClass | undefined;
  /** Names of the outputs wanted, in order; `classification: k` answers the k likeliest classes as "value:index:label" text. */
  outputs?: readonly (string | RequestedOutput)[] | undefined;
  /** Further request parameters of the Open Inference Protocol. */
  parameters?: Parameters | undefined;
  /** Your own name for the request; echoed. */
  id?: string | undefined;
  signal?: AbortSignal | undefined;
}

export interface SubmitOptions extends InferOptions {
  tags?: Readonly<Record<string, string>> | undefined;
  maxAttempts?: number | undefined;
  /** What admission and outcome have survived before they are told; refused (`durability_unavailable`) where the store cannot give it. */
  durability?: Durability | undefined;
  /** What a host must have beyond what the model requires. */
  require?: Requirement | undefined;
  /** Wait until the deadline for a host that has what is required, instead of being refused (`no_capable_host`) while there is none. */
  waitForHost?: boolean | undefined;
  /** Two submissions with one key are one job. Default: a new key for every submit(). */
  idempotencyKey?: string | undefined;
}

export interface RequestBody {
  headers: Record<string, string>;
  body: Uint8Array;
}

/** On /v2 a class travels as the protocol's priority, 1 the highest. */
const priorityOf: Record<JobClass, number> = { interactive: 1, standard: 2, batch: 3 };

/** Throws ClientError `invalid_request`. */
export function encodeInfer(inputs: Inputs, options: InferOptions, form: { binaryOutputs: boolean }): RequestBody {
  checkOptions(options);
  const parameters = options.class === undefined ? options.parameters : { ...options.parameters, priority: priorityOf[options.class] };
  return encode(() =>
    encodeInferRequest({
      inputs: tensorsOf(inputs),
      outputs: wanted(options),
      parameters,
      id: options.id,
      binaryOutputs: form.binaryOutputs,
    }),
  );
}

/** Throws ClientError `invalid_request`. */
export function encodeJob(model: string, inputs: Inputs, options: SubmitOptions): RequestBody {
  return encode(() => encodeInferRequest(jobRequest(model, inputs, options)));
}

/** The same as one line of JSON, without a key. Throws ClientError `invalid_request`, also for inputs that have no JSON form (FP16). */
export function encodeJobLine(model: string, inputs: Inputs, options: SubmitOptions): string {
  const { body } = encode(() => encodeInferRequest({ ...jobRequest(model, inputs, options), binary: false }));
  return new TextDecoder().decode(body);
}

function jobRequest(model: string, inputs: Inputs, options: SubmitOptions): RequestToEncode {
  checkOptions(options);
  const fields: Record<string, unknown> = { model };
  if (options.version !== undefined) fields.version = options.version;
  if (options.timeoutMs !== undefined) fields.timeout_ms = Math.ceil(options.timeoutMs);
  if (options.class !== undefined) fields.class = options.class;
  if (options.maxAttempts !== undefined) fields.max_attempts = options.maxAttempts;
  if (options.durability !== undefined) fields.durability = options.durability;
  if (options.tags !== undefined) fields.tags = options.tags;
  if (options.require !== undefined) fields.require = options.require;
  if (options.waitForHost !== undefined) fields.wait_for_host = options.waitForHost;
  const { parameters, id } = options;
  return { inputs: tensorsOf(inputs), outputs: wanted(options), parameters, id, fields, binaryOutputs: false };
}

export function checkOptions(options: SubmitOptions): void {
  const { timeoutMs, version } = options;
  if (timeoutMs !== undefined && !(timeoutMs > 0 && timeoutMs <= maxTimeoutMs)) {
    throw new ClientError("invalid_request", `timeoutMs must be more than 0 and at most ${maxTimeoutMs}, got ${timeoutMs}`);
  }
  if (version !== undefined && !(Number.isSafeInteger(version) && version > 0)) {
    throw new ClientError("invalid_request", `version must be a positive whole number, got ${version}`);
  }
  if (options.class !== undefined && !jobClasses.includes(options.class)) {
    throw new ClientError("invalid_request", `class must be one of ${jobClasses.join(", ")}, got ${options.class}`);
  }
  checkKey("idempotencyKey", options.idempotencyKey, 255);
}

export function checkKey(name: string, key: string | undefined, maxChars: number): void {
  if (key === undefined || (key.length <= maxChars && /^[\x20\x21\x23-\x5b\x5d-\x7e]+$/.test(key))) return;
  const expected = `1 to ${maxChars} printable ASCII characters without quotes and backslashes`;
  throw new ClientError("invalid_request", `${name} must be ${expected}`);
}

function wanted(options: InferOptions): RequestedOutput[] | undefined {
  return options.outputs?.map((output) => (typeof output === "string" ? { name: output } : output));
}

function encode(make: () => EncodedBody): RequestBody {
  let encoded: EncodedBody;
  try {
    encoded = make();
  } catch (error) {
    if (error instanceof SwitchyardError) throw new ClientError(error.code, error.message);
    throw error;
  }
  const headers: Record<string, string> = { "content-type": encoded.contentType };
  if (encoded.headerLength !== undefined) headers["inference-header-content-length"] = String(encoded.headerLength);
  return { headers, body: joined(encoded.parts) };
}

/** One piece, so that a repeated request sends the same bytes; fetch takes no list. */
function joined(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const body = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    body.set(part, at);
    at += part.length;
  }
  return body;
}
