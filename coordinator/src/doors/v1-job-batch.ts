/**
 * POST /v1/jobs:batch: many jobs in one request, one a line, and one answer a line. Lines are submitted as they come, those that came together in
 * one turn of the event loop, so that the store writes them together. Holds one group of lines, and as much of the answer as a client may
 * leave unread that sends all before it reads.
 */

import { PassThrough } from "node:stream";
import { isTerminal, SwitchyardError } from "@switchyard/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { JobRecord } from "../ports/job-store.ts";
import { addVary } from "./answers.ts";
import type { HeldBody } from "./body-budget.ts";
import type { DoorContext } from "./door-context.ts";
import { callerOf } from "./guard.ts";
import { viewWithResult } from "./job-result.ts";
import { submissionFrom } from "./job-submission.ts";
import { toJobView } from "./job-view.ts";
import { countLines, type Line, lineGroups, lineTooLong } from "./ndjson-lines.ts";
import type { OpenCall } from "./open-calls.ts";
import { httpLine } from "./open-calls.ts";
import { problemOf } from "./problem.ts";
import { bodyPieces, readBody, tooMany } from "./request-body.ts";
import { badRequest, headerOf, idempotencyKeyOf, limitsOf, preferenceOf } from "./request-options.ts";

const maxLines = 1_000;
/** A body that promises to be no larger is read whole before its first line is submitted, so that one of too many lines leaves nothing behind. */
const readWholeBytes = 8 * 1024 * 1024;
/** Answers that a client leaves unread before no more lines are read. A thousand answers without results take less. */
const mostUnreadBytes = 2 * 1024 * 1024;
/** Results that are read and encoded at once. */
const resultsAtOnce = 16;
/** Room for the line's number in a key of 255 bytes. */
const maxKeyBytes = 250;

interface Batch {
  /** How long each job is waited for; undefined: not at all. */
  waitMs: number | undefined;
  /** Of the whole request. */
  key: string | undefined;
}

export async function answerBatch(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  if (context.draining()) throw draining();
  checkMediaType(request);
  const batch = batchOf(request, reply);
  const held = context.bodies.body();
  let groups: AsyncIterable<Line[]>;
  try {
    groups = await openLines(context, request, held);
  } catch (error) {
    held.leave();
    throw error;
  }
  const answers = new BatchAnswers(context, { request, reply }, batch);
  void answers.answer(groups, () => held.leave()).finally(() => held.leave());
  reply.header("content-type", "application/x-ndjson").header("cache-control", "no-store").header("x-accel-buffering", "no");
  return reply.send(answers.stream);
}

function checkMediaType(request: FastifyRequest): void {
  const type = (headerOf(request.headers, "content-type") ?? "").split(";", 1)[0]!.trim().toLowerCase();
  if (type === "" || type === "application/x-ndjson") return;
  request.raw.resume();
  const expected = "application/x-ndjson";
  throw new SwitchyardError("unsupported_media_type", `Content-Type must be ${expected}: one job a line`, {
    fields: [{ pointer: "Content-Type", expected, got: type.slice(0, 64) }],
  });
}

/** What the headers say, refused by name where it cannot hold for all lines. */
function batchOf(request: FastifyRequest, reply: FastifyReply): Batch {
  const { headers } = request;
  limitsOf({ parameters: {}, inputs: [], binaryDefault: false }, headers, { zeroIsDefault: false });
  const length = headerOf(headers, "inference-header-content-length");
  if (length !== undefined) throw badRequest("Inference-Header-Content-Length", "absent: the tensors of a batch are JSON", length);
  const key = idempotencyKeyOf(headers);
  if (key !== undefined && Buffer.byteLength(key) > maxKeyBytes) {
    throw badRequest("Idempotency-Key", `at most ${maxKeyBytes} bytes: each line gets one made of it`, key);
  }
  const { waitSeconds, respondAsync } = preferenceOf(headers);
  const waits = waitSeconds !== undefined && !respondAsync;
  addVary(reply, "Prefer");
  if (respondAsync) reply.header("preference-applied", "respond-async");
  else if (waits) reply.header("preference-applied", `wait=${waitSeconds}`);
  return { key, waitMs: waits ? waitSeconds * 1000 : undefined };
}

/** Throws what refuses the request as a whole. */
async function openLines(context: DoorContext, request: FastifyRequest, held: HeldBody): Promise<AsyncIterable<Line[]>> {
  const { raw } = request;
  const { maxBodyBytes, maxJsonBytes } = context.config;
  const { "content-length": promised, "content-encoding": encoding = "identity" } = raw.headers;
  const limits = { maxLineBytes: maxJsonBytes };
  if (promised === undefined || Number(promised) > readWholeBytes || encoding !== "identity") {
    const hold = (sizeBytes: number): void => {
      if (!held.has(sizeBytes)) throw tooMany();
    };
    return lineGroups(bodyPieces(raw, { maxBytes: maxBodyBytes }), { ...limits, hold });
  }
  const body = await readBody(raw, { maxBytes: maxBodyBytes, held });
  const count = countLines(body);
  if (count === 0) throw noLines();
  if (count > maxLines) throw tooManyLines(count);
  return lineGroups(once(body), { ...limits, hold: () => {} });
}

/** Ends with the signal too, also while nothing comes. */
async function* untilAborted<Item>(source: AsyncIterable<Item>, signal: AbortSignal): AsyncGenerator<Item, void, undefined> {
  const reader = source[Symbol.asyncIterator]();
  const aborted = new Promise<undefined>((resolve) => {
    if (signal.aborted) resolve(undefined);
    else signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });
  try {
    for (let next = await Promise.race([reader.next(), aborted]); next !== undefined && next.done !== true; ) {
      yield next.value;
      next = await Promise.race([reader.next(), aborted]);
    }
  } finally {
    reader.return?.()?.catch(() => {}); // not waited for: it may still wait for the client
  }
}

async function* once(body: Buffer): AsyncGenerator<Buffer> {
  yield body;
}

function draining(): SwitchyardError {
  return new SwitchyardError("draining", "This coordinator is shutting down; ask another one");
}

function noLines(): SwitchyardError {
  const fields = [{ pointer: "body", expected: "at least one line", got: "none" }];
  return new SwitchyardError("invalid_request", "The body has no lines; send one job a line", { fields });
}

function tooManyLines(count: number | undefined): SwitchyardError {
  const expected = `at most ${maxLines} lines`;
  const detail = `A batch has ${expected}; ${count === undefined ? "from this one on none was read" : `this one has ${count}`}`;
  return new SwitchyardError("payload_too_large", detail, { fields: [{ pointer: "body", expected, got: String(count ?? "more") }] });
}

interface Exchange {
  request: FastifyRequest;
  reply: FastifyReply;
}

type Submitted = { index: number } & ({ record: JobRecord; replayed: boolean; keyed: boolean } | { failed: unknown });

interface Ended {
  index: number;
  record: JobRecord;
  replayed: boolean;
}

class BatchAnswers {
  readonly stream: PassThrough = new PassThrough({ readableHighWaterMark: mostUnreadBytes, writableHighWaterMark: mostUnreadBytes });
  readonly #context: DoorContext;
  readonly #request: FastifyRequest;
  readonly #call: OpenCall;
  readonly #batch: Batch;
  /** Jobs that ended within the wait and are not answered yet. */
  readonly #ended: Ended[] = [];
  #writing: Promise<void> | undefined;
  #room: Promise<void> | undefined;

  constructor(context: DoorContext, { request, reply }: Exchange, batch: Batch) {
    this.#context = context;
    this.#request = request;
    this.#batch = batch;
    this.#call = context.calls.waiting(httpLine(reply.raw));
    this.stream.on("error", () => {}); // the client went away
    const { socket } = request.raw;
    reply.raw.once("finish", () => {
      if (context.draining()) socket.destroySoon(); // the headers went out too early to say that the connection ends
    });
  }

  /** Reads, submits and answers to the end, or until this coordinator drains. Never rejects. */
  async answer(groups: AsyncIterable<Line[]>, onRead: () => void): Promise<void> {
    const waits: Promise<void>[] = [];
    let read = 0;
    try {
      for await (const group of untilAborted(groups, this.#call.signal)) {
        const within = group.filter(({ index }) => index < maxLines);
        const submitted = await Promise.all(within.map((line) => this.#submit(line)));
        for (const one of submitted) {
          if ("failed" in one) this.#fail(one.index, one.failed);
          else if (this.#batch.waitMs === undefined) this.#tell({ ...one, status: 202 });
          else waits.push(this.#hold(one, this.#batch.waitMs));
        }
        read = group.at(-1)!.index + 1;
        if (within.length < group.length) throw tooManyLines(undefined);
        await this.#whenRead();
        if (this.stream.destroyed) break; // nobody hears of what would be submitted now
      }
      if (this.#call.toldToGo()) throw draining();
      if (read === 0) throw noLines();
    } catch (error) {
      this.#fail(Math.min(read, maxLines), error);
    }
    onRead(); // the wait for outcomes holds no body
    await Promise.all(waits);
    await this.#writing;
    this.#call.end();
    this.stream.end();
  }

  async #submit({ index, bytes }: Line): Promise<Submitted> {
    const { config, jobs, turns } = this.#context;
    const { key } = this.#batch;
    try {
      if (bytes === undefined) throw lineTooLong(config.maxJsonBytes);
      if (this.#context.draining()) throw draining();
      const terms = {
        spentMs: turns.waited().inMs,
        timeLeft: (timeoutMs: number) => timeoutMs, // counts from when the line came, not from when the request began
        keyOf: (own: string | undefined) => own ?? (key === undefined ? undefined : `${key}/${index}`),
      };
      const submission = submissionFrom(this.#request, { body: bytes }, terms);
      const settled = await jobs.submit(submission, callerOf(this.#request));
      return { index, ...settled, keyed: submission.idempotency !== undefined };
    } catch (failed) {
      return { index, failed };
    }
  }

  /** Waits for a job's outcome. A client that leaves takes those jobs with it of which it knows no id and has no key. */
  async #hold({ index, record, replayed, keyed }: Ended & { keyed: boolean }, waitMs: number): Promise<void> {
    const { jobs } = this.#context;
    const caller = callerOf(this.#request);
    let seen = record;
    try {
      if (!isTerminal(record.state) && waitMs > 0) seen = await jobs.wait(record.id, { waitMs, signal: this.#call.signal }, caller);
      if (this.#call.gone()) {
        if (!keyed && !isTerminal(seen.state)) await jobs.cancel(record.id, caller);
        return;
      }
    } catch {
      // it is admitted, and that is told: the client asks again
    }
    if (!isTerminal(seen.state)) return this.#tell({ index, record: seen, replayed, status: 202 });
    this.#ended.push({ index, record: seen, replayed });
    this.#writing ??= this.#writeEnded();
  }

  /** A few at a time, and none while the client does not read: results may be large. */
  async #writeEnded(): Promise<void> {
    while (this.#ended.length > 0 && !this.stream.destroyed) {
      const some = this.#ended.splice(0, resultsAtOnce);
      await Promise.all(some.map((one) => this.#tellOutcome(one)));
      await this.#whenRead();
    }
    this.#writing = undefined; // in the same step in which nothing was left: what ends next starts anew
  }

  async #tellOutcome(ended: Ended): Promise<void> {
    try {
      const view = await viewWithResult(this.#context, ended.record, callerOf(this.#request));
      this.#tell({ ...ended, status: 200, view });
    } catch (error) {
      this.#fail(ended.index, error);
    }
  }

  #tell({ index, record, replayed, status, view }: Ended & { status: number; view?: Buffer }): void {
    const head = `{"index":${index},"status":${status},${replayed ? '"replayed":true,' : ""}"job":`;
    const job = view ?? Buffer.from(JSON.stringify(toJobView(record, callerOf(this.#request))));
    this.stream.write(Buffer.concat([Buffer.from(head), job, Buffer.from("}\n")]));
  }

  #fail(index: number, error: unknown): void {
    const instance = `${this.#request.url.split("?", 1)[0]}#${index}`;
    const problem = problemOf(error, this.#request, { instance, log: this.#context.log });
    this.stream.write(`${JSON.stringify({ index, status: problem.status, problem })}\n`);
  }

  /** Until the client has read enough of what was written, or has gone away. */
  #whenRead(): Promise<void> {
    if (!this.stream.writableNeedDrain || this.stream.destroyed) return Promise.resolve();
    this.#room ??= new Promise<void>((resolve) => {
      const end = (): void => {
        this.stream.off("drain", end).off("close", end);
        this.#room = undefined;
        resolve();
      };
      this.stream.on("drain", end).on("close", end);
    });
    return this.#room;
  }
}
