/**
 * Answers of the Open Inference Protocol, from tensors to a body in JSON or binary form and back, and the SDK's requests the same way.
 * Bodies are made as parts, so that tensors are sent as they lie.
 */

import { classify } from "./classification.ts";
import { SwitchyardError } from "./errors.ts";
import { asObject, type InferBody, openBody, type Parameters, type RequestedOutput, readTensors } from "./infer-request.ts";
import { LatestMade } from "./latest-made.ts";
import { jsonFromTensor } from "./tensor-json.ts";
import type { Tensor } from "./tensors.ts";

export interface InferResponse {
  modelName: string;
  /** The numeric alias, in digits. */
  modelVersion: string;
  id?: string;
  parameters?: Parameters;
  outputs: Tensor[];
}

export interface EncodedBody {
  /** Value of Inference-Header-Content-Length; absent when nothing is binary. */
  headerLength?: number;
  /** The body's pieces in order; tensors are the caller's own bytes, not copies. */
  parts: Uint8Array[];
  contentType: "application/json" | "application/octet-stream";
}

/** How a client wants its outputs; an InferRequest is one. */
export interface OutputWishes {
  outputs?: readonly RequestedOutput[];
  binaryDefault?: boolean;
}

/** What an answer is made of. `labels` are class names per output, for classification. */
export interface AnswerParts {
  response: InferResponse;
  wishes?: OutputWishes;
  labels?: Record<string, readonly string[]> | undefined;
}

const encoder = new TextEncoder();

/**
 * The answer's body: outputs in the order asked, else as they come. Throws `invalid_request` for values that JSON cannot say (the text
 * advises binary), `internal` when an output asked for is missing.
 */
export function encodeInferResponse(source: AnswerParts): EncodedBody {
  const { response } = source;
  if (isUsual(source)) {
    const { modelName, modelVersion, outputs } = response;
    const json = latestHead.of(outputs, `${modelVersion} ${modelName}`, () => encodeAny(source).parts[0]!);
    return { headerLength: json.length, parts: [json, ...outputs.map(({ bytes }) => bytes)], contentType: "application/octet-stream" };
  }
  return encodeAny(source);
}

/** The JSON part of the answer before: most are alike. */
const latestHead = new LatestMade<Uint8Array>();

/** Whether all outputs were asked for as they are, in binary form, and the answer says nothing of its own beside them. */
function isUsual({ response, wishes = {} }: AnswerParts): boolean {
  if (response.id || response.parameters !== undefined || response.outputs.length === 0) return false;
  return wishes.outputs === undefined && wishes.binaryDefault === true;
}

function encodeAny(source: AnswerParts): EncodedBody {
  const { response, wishes = {} } = source;
  const body = new BodyBuilder();
  for (const { output, wish, at } of askedOutputs(source)) body.add(output, { at, binary: wish.binary ?? wishes.binaryDefault ?? false });
  const head: Record<string, unknown> = { model_name: response.modelName, model_version: response.modelVersion };
  if (response.id) head.id = response.id;
  if (response.parameters !== undefined) head.parameters = response.parameters;
  return body.finish(head, "outputs");
}

/** The outputs that an answer has, classified where that was asked, each with its wish and its pointer. */
export function askedOutputs({ response, wishes = {}, labels }: AnswerParts): { output: Tensor; wish: RequestedOutput; at: string }[] {
  const asked: readonly RequestedOutput[] = wishes.outputs ?? response.outputs.map(({ name }) => ({ name }));
  return asked.map((wish, index) => {
    const found = response.outputs.find((output) => output.name === wish.name);
    if (found === undefined) throw new SwitchyardError("internal", `The result holds no output '${wish.name}'`);
    const at = `/outputs/${index}`;
    const { classification: k } = wish;
    return { output: k === undefined ? found : classify(found, k, { at, labels: labelsOf(labels, wish.name) }), wish, at };
  });
}

function labelsOf(labels: Record<string, readonly string[]> | undefined, output: string): readonly string[] | undefined {
  return labels !== undefined && Object.hasOwn(labels, output) ? labels[output] : undefined;
}

/** Collects tensors as JSON entries and, for binary ones, as raw parts behind the JSON. */
class BodyBuilder {
  readonly #entries: string[] = [];
  readonly #raw: Uint8Array[] = [];
  #hasBinary = false;

  add(tensor: Tensor, form: { at: string; binary: boolean }): void {
    const head = `{"name":${JSON.stringify(tensor.name)},"datatype":"${tensor.datatype}","shape":[${tensor.shape.join(",")}],`;
    if (form.binary) {
      this.#hasBinary = true;
      this.#raw.push(tensor.bytes);
      this.#entries.push(`${head}"parameters":{"binary_data_size":${tensor.bytes.length}}}`);
    } else this.#entries.push(`${head}"data":${jsonFromTensor(tensor, form.at)}}`);
  }

  /** `head` holds the fields before the tensors, at least one. */
  finish(head: Record<string, unknown>, field: "inputs" | "outputs"): EncodedBody {
    const before = JSON.stringify(head).slice(0, -1);
    const json = encoder.encode(`${before}${before === "{" ? "" : ","}"${field}":[${this.#entries.join(",")}]}`);
    if (!this.#hasBinary) return { parts: [json], contentType: "application/json" };
    return { headerLength: json.length, parts: [json, ...this.#raw], contentType: "application/octet-stream" };
  }
}

export interface RequestToEncode {
  inputs: readonly Tensor[];
  outputs?: readonly RequestedOutput[] | undefined;
  parameters?: Parameters | undefined;
  id?: string | undefined;
  /** Inputs as raw bytes behind the JSON (default) or as JSON. */
  binary?: boolean | undefined;
  /** Ask for outputs as raw bytes; as `binary` unless given. */
  binaryOutputs?: boolean | undefined;
  /** Further top-level fields, such as `model` and `timeout_ms` of a job. */
  fields?: Record<string, unknown> | undefined;
}

/** A request's body, as clients send it to /v2 infer and /v1/jobs. Throws `invalid_request` for values that JSON cannot say. */
export function encodeInferRequest(request: RequestToEncode): EncodedBody {
  const binary = request.binary ?? true;
  const head: Record<string, unknown> = { ...request.fields };
  if (request.id) head.id = request.id;
  const parameters = { ...request.parameters, ...((request.binaryOutputs ?? binary) && { binary_data_output: true }) };
  if (Object.keys(parameters).length > 0) head.parameters = parameters;
  if (request.outputs !== undefined) head.outputs = request.outputs.map(outputEntry);
  const body = new BodyBuilder();
  for (const [index, input] of request.inputs.entries()) body.add(input, { at: `/inputs/${index}`, binary });
  return body.finish(head, "inputs");
}

function outputEntry(output: RequestedOutput): Record<string, unknown> {
  const parameters: Parameters = {};
  if (output.binary !== undefined) parameters.binary_data = output.binary;
  if (output.classification !== undefined) parameters.classification = output.classification;
  return Object.keys(parameters).length === 0 ? { name: output.name } : { name: output.name, parameters };
}

/** Reads an answer; binary outputs are views on the body. Throws `internal` when it is no answer of the protocol. */
export function decodeInferResponse(source: InferBody): InferResponse {
  try {
    const { header, document, rest } = openBody(source);
    const response: InferResponse = {
      modelName: String(header.model_name ?? ""),
      modelVersion: String(header.model_version ?? ""),
      outputs: readTensors("outputs", document, rest),
    };
    if (typeof header.id === "string" && header.id !== "") response.id = header.id;
    if (header.parameters !== undefined) response.parameters = asObject(header.parameters, "/parameters", "parameters") as Parameters;
    return response;
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    throw new SwitchyardError("internal", `The answer cannot be read: ${error.message}`, error.facts);
  }
}
