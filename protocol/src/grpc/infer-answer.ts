/** `ModelInferResponse` to the wire: what the answer says of its tensors, and the tensors behind it as they lie. */

import protobuf from "protobufjs/minimal.js";
import { type AnswerParts, askedOutputs } from "../infer-response.ts";
import { contentsFromTensor } from "./tensor-contents.ts";
import { varintBytes, writeVarint } from "./varints.ts";

const modelNameTag = 10;
const modelVersionTag = 18;
const idTag = 26;
const parametersTag = 34;
const outputsTag = 42;
const rawTag = 50;

const finalAnswerParameter = "triton_final_response";

export interface MessageForm {
  /** Tensors in `contents`, not raw. */
  typedContents?: boolean;
  /** Marked as the last answer to its request. */
  marksFinal?: boolean;
}

/** Throws `invalid_request` for FP16 as typed contents, `internal` when an output that was asked for is missing. */
export function encodeModelInferResponse(source: AnswerParts & MessageForm): Uint8Array {
  const { response, typedContents = false, marksFinal = false } = source;
  const writer = protobuf.Writer.create();
  writer.uint32(modelNameTag).string(response.modelName).uint32(modelVersionTag).string(response.modelVersion);
  if (response.id) writer.uint32(idTag).string(response.id);
  if (marksFinal) {
    writer.uint32(parametersTag).fork().uint32(10).string(finalAnswerParameter);
    writer.uint32(18).fork().uint32(8).bool(true).ldelim().ldelim();
  }
  const raw: Uint8Array[] = [];
  for (const { output, at } of askedOutputs(source)) {
    writer.uint32(outputsTag).fork().uint32(10).string(output.name).uint32(18).string(output.datatype);
    if (output.shape.length > 0) {
      writer.uint32(26).fork();
      for (const axis of output.shape) writer.int64(axis);
      writer.ldelim();
    }
    if (typedContents) writer.uint32(42).bytes(contentsFromTensor(output, at));
    else raw.push(output.bytes);
    writer.ldelim();
  }
  return withRaw(writer.finish(), raw);
}

function withRaw(head: Uint8Array, raw: readonly Uint8Array[]): Uint8Array {
  let size = head.length;
  for (const bytes of raw) size += 1 + varintBytes(bytes.length, 0) + bytes.length;
  const message = new Uint8Array(size);
  message.set(head);
  let next = head.length;
  for (const bytes of raw) {
    message[next++] = rawTag;
    next = writeVarint(message, next, { low: bytes.length, high: 0 });
    message.set(bytes, next);
    next += bytes.length;
  }
  return message;
}

/** `ModelStreamInferResponse`: an answer, or an error with the model and id that it is about. */
export function encodeStreamedAnswer(
  streamed: { answer: Uint8Array } | { error: string; modelName: string; modelVersion: string; id: string | undefined },
): Uint8Array {
  const writer = protobuf.Writer.create();
  if ("answer" in streamed) return writer.uint32(18).bytes(streamed.answer).finish();
  writer.uint32(10).string(streamed.error);
  writer.uint32(18).fork().uint32(modelNameTag).string(streamed.modelName).uint32(modelVersionTag).string(streamed.modelVersion);
  if (streamed.id) writer.uint32(idTag).string(streamed.id);
  return writer.ldelim().finish();
}
