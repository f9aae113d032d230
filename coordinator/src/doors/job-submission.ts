/** From the bytes of one job, whether they are a whole body or a line of many, and the headers beside them, to a submission. */

import { type InferBody, SwitchyardError } from "@switchyard/protocol";
import { decodeJobRequest } from "@switchyard/protocol/schemas";
import type { FastifyRequest } from "fastify";
import type { Submission } from "../application/job-service.ts";
import { fingerprintOf, limitsOf } from "./request-options.ts";
import { traceOf } from "./traced-requests.ts";

export const jobsPath = "/v1/jobs";

export interface SubmissionTerms {
  /** What the request waited for in this coordinator's event loop. */
  spentMs: number;
  /** What is left of the client's time limit. */
  timeLeft(timeoutMs: number): number;
  /** The idempotency key, given that of the body. */
  keyOf(bodyKey: string | undefined): string | undefined;
}

/** Throws `invalid_request` and `unsupported`, naming the field. */
export function submissionFrom(request: FastifyRequest, source: InferBody, terms: SubmissionTerms): Submission {
  const job = decodeJobRequest(source);
  if (job.webhook !== undefined) throw new SwitchyardError("unsupported", "webhook is not supported by this version");
  const limits = limitsOf(job.request, request.headers, { zeroIsDefault: false, timeoutMs: job.timeoutMs });
  const submission: Submission = { model: job.model, request: job.request, hold: false, spentMs: terms.spentMs };
  if (job.version !== undefined) submission.version = job.version;
  if (job.alias !== undefined) submission.alias = job.alias;
  if (limits.timeoutMs !== undefined) submission.timeoutMs = terms.timeLeft(limits.timeoutMs);
  const jobClass = job.class ?? limits.class;
  if (jobClass !== undefined) submission.class = jobClass;
  if (job.maxAttempts !== undefined) submission.maxAttempts = job.maxAttempts;
  if (job.durability !== undefined && job.durability !== "fast") submission.durability = job.durability;
  if (job.tags !== undefined) submission.tags = job.tags;
  if (job.require !== undefined) submission.require = job.require;
  if (job.waitForHost !== undefined) submission.waitForHost = job.waitForHost;
  const trace = traceOf(request);
  if (trace !== undefined) submission.trace = trace;
  const key = terms.keyOf(job.idempotencyKey);
  if (key !== undefined) submission.idempotency = { key, fingerprint: fingerprintOf(request, source.body, jobsPath) };
  return submission;
}
