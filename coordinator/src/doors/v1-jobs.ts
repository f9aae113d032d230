/** /v1/jobs: submit, look, wait, cancel, retry, fetch the result, list. Every answer about a job is its view, whatever its outcome. */

import { decodeJobRequest, encodeInferResponse, isTerminal, SwitchyardError, type Tensor } from "@switchyard/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Caller } from "../application/caller.ts";
import type { Submission } from "../application/job-service.ts";
import type { JobRecord } from "../ports/job-store.ts";
import { addVary, bufferOf, sendEncoded, sendJson, sendJsonBytes } from "./answers.ts";
import { type DoorContext, labelsOf } from "./door-context.ts";
import { callerOf } from "./guard.ts";
import { withInferenceBody } from "./inference-body.ts";
import { filterFrom, jobFilters, linksOf } from "./job-filters.ts";
import { toJobView } from "./job-view.ts";
import {
  acceptedForm,
  badRequest,
  fingerprintOf,
  headerOf,
  idempotencyKeyOf,
  limitsOf,
  preferenceOf,
  timeLeft,
  waitMsOf,
} from "./request-options.ts";
import { addRoute, addUnbuilt } from "./routes.ts";
import { answerEvents } from "./v1-job-events.ts";

const maxInlineBytes = 1_048_576;

export function addJobs(app: FastifyInstance, context: DoorContext): void {
  addRoute(app, "/v1/jobs", {
    POST: (request, reply) => answerSubmit(context, request, reply),
    GET: (request, reply) => answerList(context, request, reply),
  });
  addRoute(app, "/v1/jobs/:id", {
    GET: (request, reply) => answerView(context, request, reply),
    DELETE: (request, reply) => answerCancel(context, request, reply),
  });
  addRoute(app, "/v1/jobs/:id/result", { GET: (request, reply) => answerResult(context, request, reply) });
  addRoute(app, "/v1/jobs/:id/events", { GET: (request, reply) => answerEvents(context, request, reply) });
  addRoute(app, "/v1/jobs/:id/retry", { POST: (request, reply) => answerRetry(context, request, reply) });
  addUnbuilt(app, "/v1/jobs::batch", "Submitting jobs in bulk");
  addUnbuilt(app, "/v1/events", "The stream of all jobs' events");
}

interface Exchange {
  request: FastifyRequest;
  reply: FastifyReply;
}

function idIn(request: FastifyRequest): string {
  return (request.params as { id: string }).id;
}

/** Bodies of an unknown kind are refused by name; a body without a type is taken for what it is by its headers. */
function checkMediaType(request: FastifyRequest): void {
  const header = headerOf(request.headers, "content-type");
  const type = (header ?? "").split(";", 1)[0]!.trim().toLowerCase();
  if (type === "" || type === "application/json" || type === "application/octet-stream") return;
  const expected = "application/json, or application/octet-stream with Inference-Header-Content-Length";
  throw new SwitchyardError("unsupported_media_type", `Content-Type must be ${expected}`, {
    fields: [{ pointer: "Content-Type", expected, got: type.slice(0, 64) }],
  });
}

function submissionFrom(
  request: FastifyRequest,
  { reply, spentMs }: { reply: FastifyReply; spentMs: number },
  source: { body: Buffer; headerLength: number | undefined },
): Submission {
  const job = decodeJobRequest(source);
  if (job.webhook !== undefined) throw new SwitchyardError("unsupported", "webhook is not supported by this version");
  const limits = limitsOf(job.request, request.headers, { zeroIsDefault: false, timeoutMs: job.timeoutMs });
  const submission: Submission = { model: job.model, request: job.request, hold: false, spentMs };
  if (job.version !== undefined) submission.version = job.version;
  if (job.alias !== undefined) submission.alias = job.alias;
  if (limits.timeoutMs !== undefined) submission.timeoutMs = timeLeft(limits.timeoutMs, reply);
  const jobClass = job.class ?? limits.class;
  if (jobClass !== undefined) submission.class = jobClass;
  if (job.maxAttempts !== undefined) submission.maxAttempts = job.maxAttempts;
  if (job.durability !== undefined && job.durability !== "fast") submission.durability = job.durability;
  if (job.tags !== undefined) submission.tags = job.tags;
  if (job.require !== undefined) submission.require = job.require;
  if (job.waitForHost !== undefined) submission.waitForHost = job.waitForHost;
  const header = idempotencyKeyOf(request.headers);
  if (header !== undefined && job.idempotencyKey !== undefined && header !== job.idempotencyKey) {
    throw badRequest("/idempotency_key", "equal to the Idempotency-Key header when both are sent", job.idempotencyKey);
  }
  const key = header ?? job.idempotencyKey;
  if (key !== undefined) submission.idempotency = { key, fingerprint: fingerprintOf(request, source.body) };
  return submission;
}

async function answerSubmit(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  if (context.draining()) throw new SwitchyardError("draining", "This coordinator is shutting down; ask another one");
  checkMediaType(request);
  const { inMs } = context.turns.waited();
  const preference = preferenceOf(request.headers);
  const submission = await withInferenceBody(context, request, (body, headerLength) =>
    submissionFrom(request, { reply, spentMs: inMs }, { body, headerLength }),
  );
  const { record, replayed } = await context.jobs.submit(submission, callerOf(request));
  addVary(reply, "Prefer").header("cache-control", "no-store");
  if (replayed) reply.header("idempotent-replayed", "true");
  const { waitSeconds, respondAsync } = preference;
  if (waitSeconds === undefined || respondAsync) {
    if (respondAsync) reply.header("preference-applied", "respond-async");
    return answerAccepted(request, reply, record);
  }
  reply.header("preference-applied", `wait=${waitSeconds}`);
  const keyed = submission.idempotency !== undefined;
  const held = await holdFor(context, { request, reply }, { record, waitMs: waitSeconds * 1000, keyed });
  if (!isTerminal(held.state)) return answerAccepted(request, reply, held);
  return sendJsonBytes(request, reply, await viewWithResult(context, held, callerOf(request)));
}

function answerAccepted(request: FastifyRequest, reply: FastifyReply, record: JobRecord): FastifyReply | Promise<FastifyReply> {
  return sendJson(request, reply.code(202).header("location", `/v1/jobs/${record.id}`), toJobView(record, callerOf(request)));
}

/** Waits for the outcome. A client that leaves before it knows the job's id, and has no key to ask again, takes the job with it. */
async function holdFor(
  context: DoorContext,
  { request, reply }: Exchange,
  job: { record: JobRecord; waitMs: number; keyed: boolean },
): Promise<JobRecord> {
  if (isTerminal(job.record.state) || job.waitMs === 0 || context.draining()) return job.record;
  const call = context.calls.waiting(reply.raw);
  try {
    const record = await context.jobs.wait(job.record.id, { waitMs: job.waitMs, signal: call.signal }, callerOf(request));
    if (call.gone() && !job.keyed && !isTerminal(record.state)) await context.jobs.cancel(record.id, callerOf(request));
    return record;
  } finally {
    call.end();
  }
}

/** The view with the answer spliced in as text: numbers beyond 2^53 would not survive a parse. Left out when JSON cannot say it. */
async function viewWithResult(context: DoorContext, record: JobRecord, caller: Caller): Promise<Buffer> {
  const view = JSON.stringify(toJobView(record, caller));
  if (record.state !== "succeeded") return Buffer.from(view);
  const outputs = await inlineOutputs(context, record);
  const json = outputs && resultAs(context, { record, outputs, binary: false })?.parts[0];
  if (json === undefined || json.length > maxInlineBytes) return Buffer.from(view);
  return Buffer.concat([Buffer.from(`${view.slice(0, -1)},"result":`), bufferOf(json), Buffer.from("}")]);
}

/** Undefined when they are gone or larger than what goes into a view: the view is there all the same. */
async function inlineOutputs(context: DoorContext, record: JobRecord): Promise<Tensor[] | undefined> {
  try {
    const outputs = await context.jobs.outputs(record, { maxBytes: 2 * maxInlineBytes }); // with room for what frames them
    const sizeBytes = outputs.reduce((sum, output) => sum + output.bytes.length, 0);
    return sizeBytes <= maxInlineBytes ? outputs : undefined;
  } catch (error) {
    if (error instanceof SwitchyardError && error.code === "result_expired") return undefined;
    throw error;
  }
}

/** Undefined when a value has no JSON form. */
function resultAs(context: DoorContext, source: { record: JobRecord; outputs: Tensor[]; binary: boolean }) {
  const { record, outputs, binary } = source;
  const asked =
    record.outputs !== undefined && record.outputs.length > 0 ? record.outputs : outputs.map(({ name }): { name: string } => ({ name }));
  const wishes = { outputs: asked.map((output) => ({ ...output, binary })) };
  const labels = labelsOf(context, record);
  const response = { modelName: record.model, modelVersion: String(record.version), id: record.requestId || record.id, outputs };
  try {
    return encodeInferResponse({ response, wishes, labels });
  } catch (error) {
    if (!binary && error instanceof SwitchyardError && error.code === "invalid_request") return undefined;
    throw error;
  }
}

async function answerView(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const waitMs = waitMsOf(request.query as Record<string, unknown>);
  const known = knownRevision(headerOf(request.headers, "if-none-match"));
  const record = await readOrWait(
    context,
    { request, reply },
    { id: idIn(request), waitMs, ...(known !== undefined && { afterRevision: known }) },
  );
  reply.header("etag", `"${record.revision}"`).header("cache-control", "no-store");
  if (known === record.revision) return reply.code(304).send();
  // Never compressed: a strong ETag names one sequence of bytes.
  return reply.header("content-type", "application/json").send(Buffer.from(JSON.stringify(toJobView(record, callerOf(request)))));
}

/** The revision of the client's copy; the highest when it names several. */
function knownRevision(header: string | undefined): number | undefined {
  const revisions = [...(header ?? "").matchAll(/(?:W\/)?"(\d{1,15})"/g)].map((match) => Number(match[1]));
  return revisions.length === 0 ? undefined : Math.max(...revisions);
}

async function readOrWait(
  context: DoorContext,
  { request, reply }: Exchange,
  how: { id: string; waitMs: number; afterRevision?: number },
): Promise<JobRecord> {
  const { id, ...wait } = how;
  if (wait.waitMs === 0 || context.draining()) return context.jobs.get(id, callerOf(request));
  const call = context.calls.waiting(reply.raw);
  try {
    return await context.jobs.wait(id, { ...wait, signal: call.signal }, callerOf(request));
  } finally {
    call.end();
  }
}

async function answerCancel(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { record, moved } = await context.jobs.cancel(idIn(request), callerOf(request));
  if (!moved) {
    throw new SwitchyardError("job_already_ended", `The job has already ended: ${record.state}`, {
      jobId: record.id,
      extra: { state: record.state },
    });
  }
  return sendJson(request, reply.header("cache-control", "no-store"), toJobView(record, callerOf(request)));
}

async function answerRetry(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  if (context.draining()) throw new SwitchyardError("draining", "This coordinator is shutting down; ask another one");
  const { record, replayed } = await context.deadLetters.retry(idIn(request), callerOf(request));
  if (replayed) reply.header("idempotent-replayed", "true");
  return answerAccepted(request, reply.header("cache-control", "no-store"), record);
}

async function answerResult(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const form = acceptedForm(headerOf(request.headers, "accept"));
  const notAcceptable = (why: string) =>
    new SwitchyardError("not_acceptable", why, {
      fields: [{ pointer: "Accept", expected: "application/json or application/octet-stream", got: String(request.headers.accept) }],
    });
  if (form === undefined) throw notAcceptable("A result comes as application/json or application/octet-stream");
  const waitMs = waitMsOf(request.query as Record<string, unknown>);
  const record = await readOrWait(context, { request, reply }, { id: idIn(request), waitMs });
  const outputs = await context.jobs.outputs(record);
  addVary(reply, "Accept").header("cache-control", "no-store");
  const json = form === "binary" ? undefined : resultAs(context, { record, outputs, binary: false });
  if (json !== undefined) return sendEncoded(request, reply, json);
  if (form === "json") throw notAcceptable("This result has values that JSON cannot say; accept application/octet-stream");
  return sendEncoded(request, reply, resultAs(context, { record, outputs, binary: true })!);
}

async function answerList(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const query = request.query as Record<string, unknown>;
  const page = await context.jobs.list(filterFrom(query, jobFilters), callerOf(request));
  const items = page.jobs.map((record) => toJobView(record, callerOf(request)));
  return sendJson(request, reply.header("cache-control", "no-store"), { items, links: linksOf(request, page.cursor) });
}
