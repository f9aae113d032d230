/**
 * `ModelInferRequest` from the wire to a request as all doors have it, and answers back, by hand: a generated codec would make an array of
 * numbers of every typed tensor. Raw contents are views on the message. Whatever the bytes are, the outcome is a request or `invalid_request`.
 */

import protobuf from "protobufjs/minimal.js";
import { SwitchyardError } from "../errors.ts";
import {
  addName,
  checkTensorBytes,
  type InferRequest,
  type Parameters,
  readTensorHead,
  requestOf,
  type TensorHead,
} from "../infer-request.ts";
import { refuse, shown, told } from "../request-fault.ts";
import type { Tensor } from "../tensors.ts";
import { bytesFromContents } from "./tensor-contents.ts";
import { exactNumber, readVarint, varint } from "./varints.ts";

export interface ModelInferCall {
  modelName: string;
  /** Digits, or empty: the newest. */
  modelVersion: string;
  request: InferRequest;
  /** Parameter `typed_contents`: the answer's tensors in `contents`, not raw. */
  typedContents: boolean;
  /** The client wants to be told which answer of a stream is the last one for its request. */
  marksFinal: boolean;
}

/** Of the keys that begin with `triton_` the only one that stock clients send. */
const marksFinalParameter = "triton_enable_empty_final_response";

interface WireTensor {
  name: string;
  datatype: string;
  shape: number[];
  parameters?: Parameters;
  contents: Uint8Array[];
}

interface WireRequest {
  modelName: string;
  modelVersion: string;
  id: string;
  parameters?: Parameters;
  inputs: WireTensor[];
  outputs: { name: string; parameters?: Parameters }[];
  raw: Uint8Array[];
}

/** Throws `invalid_request` with `facts.fields`. */
export function decodeModelInferRequest(message: Uint8Array): ModelInferCall {
  try {
    return callOf(readRequest(message));
  } catch (error) {
    if (error instanceof SwitchyardError) throw error;
    const why = (error as Error).message;
    throw refuse({
      at: "",
      expected: "a ModelInferRequest",
      got: told(why),
      detail: `The message is no ModelInferRequest: ${why}`,
    });
  }
}

function callOf(wire: WireRequest): ModelInferCall {
  const { parameters, id, outputs, modelName, modelVersion } = wire;
  const typedContents = flagOf(parameters, "typed_contents");
  const marksFinal = flagOf(parameters, marksFinalParameter);
  if (parameters !== undefined) delete parameters[marksFinalParameter];
  const request = requestOf({ parameters, id, outputs }, () => tensorsOf(wire));
  return { modelName, modelVersion, request, typedContents, marksFinal };
}

function flagOf(parameters: Parameters | undefined, key: string): boolean {
  const flag = parameters?.[key] ?? false;
  if (typeof flag === "boolean") return flag;
  const at = `/parameters/${key}`;
  throw refuse({ at, expected: "a bool_param", got: flag, detail: `${at} must be a bool_param` });
}

function tensorsOf({ inputs, raw, modelName }: WireRequest): Tensor[] {
  const names = new Set<string>();
  const tensors: Tensor[] = [];
  for (let index = 0; index < inputs.length; index++) {
    const input = inputs[index]!;
    const at = `/inputs/${index}`;
    const head = readTensorHead(input, at);
    addName(names, head.name, { what: "input", at });
    if (raw.length > 0 && input.contents.length > 0) throw bothForms(head.name, { at, modelName });
    tensors.push(raw.length > 0 ? rawTensor(head, raw[index], at) : typedTensor(head, input.contents, at));
  }
  if (raw.length > inputs.length) {
    const detail = `unexpected additional input data for model: ${inputs.length} inputs, ${raw.length} raw_input_contents`;
    throw refuse({ at: "/raw_input_contents", expected: `${inputs.length} entries`, got: told(`${raw.length} entries`), detail });
  }
  return tensors;
}

function bothForms(name: string, about: { at: string; modelName: string }): SwitchyardError {
  const model = shown(about.modelName);
  const detail = `contents field must not be specified when using raw_input_contents for '${shown(name)}' for model '${model}'`;
  return refuse({ at: `${about.at}/contents`, expected: "contents or raw_input_contents", got: told("both"), detail });
}

function rawTensor({ name, datatype, shape }: TensorHead, bytes: Uint8Array | undefined, at: string): Tensor {
  if (bytes === undefined) {
    const detail = `Tensor '${shown(name)}': there is no raw_input_contents for it, each input needs one`;
    throw refuse({ at, expected: "one raw_input_contents for each input", got: undefined, detail });
  }
  const tensor = { name, datatype, shape, bytes: new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length) };
  checkTensorBytes(tensor, at);
  return tensor;
}

function typedTensor(head: TensorHead, contents: readonly Uint8Array[], at: string): Tensor {
  const { name, datatype, shape } = head;
  const tensor = { name, datatype, shape, bytes: bytesFromContents(head, contents, at) };
  if (datatype === "BYTES") checkTensorBytes(tensor, at);
  return tensor;
}

/** Of inputs, outputs, raw contents, pieces of contents, axes and parameters each: an empty one takes two bytes there, and far more here. */
const mostEntries = 1_024;

function room(taken: number, what: string): void {
  if (taken >= mostEntries)
    throw refuse({
      at: what,
      expected: `at most ${mostEntries} entries`,
      got: told("more"),
      detail: `There are more than ${mostEntries} ${what}`,
    });
}

function readRequest(message: Uint8Array): WireRequest {
  const wire: WireRequest = { modelName: "", modelVersion: "", id: "", inputs: [], outputs: [], raw: [] };
  const reader = protobuf.Reader.create(message);
  while (reader.pos < reader.len) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        wire.modelName = reader.string();
        break;
      case 18:
        wire.modelVersion = reader.string();
        break;
      case 26:
        wire.id = reader.string();
        break;
      case 34:
        wire.parameters = addParameter(wire.parameters, reader.bytes());
        break;
      case 42:
        room(wire.inputs.length, "inputs");
        wire.inputs.push(readInput(reader.bytes()));
        break;
      case 50:
        room(wire.outputs.length, "outputs");
        wire.outputs.push(readOutput(reader.bytes()));
        break;
      case 58:
        room(wire.raw.length, "raw_input_contents");
        wire.raw.push(reader.bytes());
        break;
      default:
        reader.skipType(tag & 7, 0, tag >>> 3);
    }
  }
  return wire;
}

function readInput(message: Uint8Array): WireTensor {
  const input: WireTensor = { name: "", datatype: "", shape: [], contents: [] };
  const reader = protobuf.Reader.create(message);
  while (reader.pos < reader.len) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        input.name = reader.string();
        break;
      case 18:
        input.datatype = reader.string();
        break;
      case 24:
        room(input.shape.length, "axes");
        input.shape.push(readInt64(reader));
        break;
      case 26: {
        const axes = protobuf.Reader.create(reader.bytes());
        while (axes.pos < axes.len) {
          room(input.shape.length, "axes");
          input.shape.push(readInt64(axes));
        }
        break;
      }
      case 34:
        input.parameters = addParameter(input.parameters, reader.bytes());
        break;
      case 42: {
        const contents = reader.bytes();
        if (contents.length === 0) break;
        room(input.contents.length, "contents");
        input.contents.push(contents);
        break;
      }
      default:
        reader.skipType(tag & 7, 0, tag >>> 3);
    }
  }
  return input;
}

function readOutput(message: Uint8Array): WireRequest["outputs"][number] {
  const output: WireRequest["outputs"][number] = { name: "" };
  const reader = protobuf.Reader.create(message);
  while (reader.pos < reader.len) {
    const tag = reader.tag();
    if (tag === 10) output.name = reader.string();
    else if (tag === 18) output.parameters = addParameter(output.parameters, reader.bytes());
    else reader.skipType(tag & 7, 0, tag >>> 3);
  }
  return output;
}

/** An axis; one that numbers cannot hold is none that a tensor has, and is refused as such. */
function readInt64(reader: protobuf.Reader): number {
  readWord(reader);
  return Number(exactNumber(varint.low, varint.high, { signed: true }));
}

function readWord(reader: protobuf.Reader): void {
  const next = readVarint(reader.buf, reader.pos);
  if (next > reader.len || next - reader.pos > 10) throw new RangeError(`a number at byte ${reader.pos} does not end`);
  reader.pos = next;
}

/** Parameters without a prototype: a client's keys are data. */
function addParameter(parameters: Parameters | undefined, entry: Uint8Array): Parameters {
  const reader = protobuf.Reader.create(entry);
  let key = "";
  let value: Parameters[string] | undefined;
  while (reader.pos < reader.len) {
    const tag = reader.tag();
    if (tag === 10) key = reader.string();
    else if (tag === 18) value = readParameter(reader.bytes());
    else reader.skipType(tag & 7, 0, tag >>> 3);
  }
  const into = parameters ?? (Object.create(null) as Parameters);
  if (!(key in into)) room(Object.keys(into).length, "parameters");
  into[key] = value!; // one without a value is refused with all others that are no value
  return into;
}

/** Whole numbers that JavaScript cannot hold become their digits. */
function readParameter(message: Uint8Array): Parameters[string] | undefined {
  const reader = protobuf.Reader.create(message);
  let value: Parameters[string] | undefined;
  while (reader.pos < reader.len) {
    const tag = reader.tag();
    switch (tag) {
      case 8:
      case 16:
      case 40:
        readWord(reader);
        value = tag === 8 ? varint.low !== 0 : exactNumber(varint.low, varint.high, { signed: tag === 16 });
        break;
      case 26:
        value = reader.string();
        break;
      case 33:
        value = reader.double();
        break;
      default:
        reader.skipType(tag & 7, 0, tag >>> 3);
    }
  }
  return value;
}
