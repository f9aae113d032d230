/** POST …/infer of the Open Inference Protocol: JSON, binary and raw bodies. The hot path: one pass from body to submission and back. */

import {
  aliasPattern,
  decodeInferRequest,
  decodeRawRequest,
  encodeInferResponse,
  type InferRequest,
  SwitchyardError,
  versionNumberIn,
} from "@switchyard/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Submission } from "../application/job-service.ts";
import { cachedHow } from "../application/new-record.ts";
import type { ModelStatus } from "../ports/model-registry.ts";
import { sendEncoded } from "./answers.ts";
import { countedFromBytes } from "./body-budget.ts";
import type { DoorContext } from "./door-context.ts";
import { callerOf } from "./guard.ts";
import { cacheStatus, holdInference, nameVersion, statusFor } from "./held-inference.ts";
import { withInferenceBody } from "./inference-body.ts";
import { httpLine } from "./open-calls.ts";
import { release } from "./request-body.ts";
import { fingerprintOf, idempotencyKeyOf, limitsOf, timeLeft } from "./request-options.ts";
import { addRoute } from "./routes.ts";
import { traceOf } from "./traced-requests.ts";

export interface ModelPath {
  model: string;
  version?: string;
}

/** Versions in paths are digits or aliases; anything else names no version. */
export function versionIn(path: ModelPath): number | string | undefined {
  if (path.version === undefined) return undefined;
  const number = versionNumberIn(path.version);
  if (number !== undefined) return number;
  if (aliasPattern.test(path.version)) return path.version;
  throw new SwitchyardError(
    "version_not_found",
    `'${path.model}' has no version '${path.version.slice(0, 64)}': versions are whole numbers or aliases`,
  );
}

export function addInference(app: FastifyInstance, context: DoorContext): void {
  const infer = (request: FastifyRequest, reply: FastifyReply) => answerInfer(context, request, reply);
  addRoute(app, "/v2/models/:model/infer", { POST: infer });
  addRoute(app, "/v2/models/:model/versions/:version/infer", { POST: infer });
}

/** Without a model a raw body means nothing; its fingerprint may still name an earlier answer. */
function rawRequest(body: Buffer, status: ModelStatus | undefined): InferRequest {
  return status === undefined
    ? { parameters: {}, inputs: [], binaryDefault: true }
    : decodeRawRequest({ body, signature: status.version.signature });
}

const nothing = Buffer.alloc(0);

function letGo(body: Buffer): void {
  if (body.length >= countedFromBytes) release(body);
}

async function answerInfer(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<undefined> {
  if (context.draining()) throw new SwitchyardError("draining", "This coordinator is shutting down; ask another one");
  const { inMs, outMs } = context.turns.waited();
  const path = request.params as ModelPath;
  const version = versionIn(path);
  const key = idempotencyKeyOf(request.headers);
  const status = statusFor(context, { model: path.model, version, keyed: key !== undefined });
  const { body, fingerprint, wanted } = await withInferenceBody(context, request, (bytes, headerLength) => {
    const decoded = {
      wanted: headerLength === 0 ? rawRequest(bytes, status) : decodeInferRequest({ body: bytes, headerLength }),
      fingerprint: key === undefined ? "" : fingerprintOf(request, bytes),
    };
    if (headerLength !== undefined) return { ...decoded, body: bytes };
    letGo(bytes); // tensors in JSON are none of it
    return { ...decoded, body: nothing };
  });
  const submission: Submission = { model: path.model, request: wanted, hold: true, spentMs: inMs + outMs };
  nameVersion(context, submission, version, status);
  const limits = limitsOf(wanted, request.headers, { zeroIsDefault: true });
  if (limits.timeoutMs !== undefined) submission.timeoutMs = timeLeft(limits.timeoutMs, reply);
  if (limits.class !== undefined) submission.class = limits.class;
  if (key !== undefined) submission.idempotency = { key, fingerprint };
  if (context.tracing) submission.trace = traceOf(request);

  const { settled, labels } = await holdInference(context, submission, { caller: callerOf(request), line: httpLine(reply.raw), status });
  // the store has had the inputs, or has had no need of them
  letGo(body);
  const { record, outputs } = settled;
  if (settled.replayed) reply.header("idempotent-replayed", "true");
  const cached = cachedHow(record);
  if (cached !== undefined) reply.header("cache-status", cacheStatus[cached]);
  const response = {
    modelName: record.model,
    modelVersion: String(record.version),
    outputs,
    ...(wanted.id !== undefined && { id: wanted.id }),
  };
  // not returned: a reply is a thenable, and Fastify would wait for what has been sent
  const sent = sendEncoded(request, reply, encodeInferResponse({ response, wishes: wanted, labels }));
  if (sent instanceof Promise) await sent;
}
