/** ModelInfer: one message in, one out. The hot path of this door. */

import { Metadata } from "@grpc/grpc-js";
import { decodeModelInferRequest, encodeModelInferResponse, type ModelInferCall } from "@switchyard/protocol/grpc";
import type { Submission } from "../application/job-service.ts";
import { cachedHow } from "../application/new-record.ts";
import { bufferOf } from "./answers.ts";
import type { DoorContext } from "./door-context.ts";
import type { GrpcCall, UnaryAnswer } from "./grpc-calls.ts";
import { cacheStatus, holdInference, nameVersion, statusFor } from "./held-inference.ts";
import { fingerprintOf, idempotencyKeyOf, limitsOf } from "./request-options.ts";
import { versionIn } from "./v2-inference.ts";

/** Decodes and runs one message. `place` is its number in a stream, whose key is a key of each of its messages. */
export function inferMessage(context: DoorContext, message: Buffer, call: GrpcCall, place?: number): Promise<UnaryAnswer> {
  const asked = decodeModelInferRequest(message);
  call.messages.decoded(message);
  return infer(context, { message, asked, place }, call);
}

export async function infer(
  context: DoorContext,
  { message, asked, place }: { message: Buffer; asked: ModelInferCall; place?: number | undefined },
  call: GrpcCall,
): Promise<UnaryAnswer> {
  const { inMs, outMs } = context.turns.waited();
  const { modelName: model, request } = asked;
  const caller = call.callerFor(model);
  const version = versionIn(asked.modelVersion === "" ? { model } : { model, version: asked.modelVersion });
  const key = keyOf(call, place);
  const status = statusFor(context, { model, version, keyed: key !== undefined });
  const submission: Submission = { model, request, hold: true, spentMs: inMs + outMs };
  nameVersion(context, submission, version, status);
  const limits = limitsOf(request, call.headers, { zeroIsDefault: true, timeoutMs: call.timeLeftMs() });
  if (limits.timeoutMs !== undefined) submission.timeoutMs = limits.timeoutMs;
  if (limits.class !== undefined) submission.class = limits.class;
  if (call.trace !== undefined) submission.trace = call.trace;
  if (key !== undefined) {
    const { headers, method } = call;
    submission.idempotency = { key, fingerprint: fingerprintOf({ method: "gRPC", url: method, headers }, message) };
  }

  const { settled, labels } = await holdInference(context, submission, { caller, line: call.line, status });
  const { record, outputs, replayed } = settled;
  const response = {
    modelName: record.model,
    modelVersion: String(record.version),
    outputs,
    ...(request.id !== undefined && { id: request.id }),
  };
  const { typedContents, marksFinal } = asked;
  const answer = bufferOf(
    encodeModelInferResponse({ response, wishes: request, labels, typedContents, marksFinal: marksFinal && place !== undefined }),
  );
  const cached = cachedHow(record);
  if (cached === undefined && !replayed) return { message: answer };
  const trailers = new Metadata();
  if (replayed) trailers.set("idempotent-replayed", "true");
  if (cached !== undefined) trailers.set("cache-status", cacheStatus[cached]);
  return { message: answer, trailers };
}

function keyOf({ headers }: GrpcCall, place: number | undefined): string | undefined {
  const key = idempotencyKeyOf(headers);
  return key === undefined || place === undefined ? key : `${key}/${place}`;
}
