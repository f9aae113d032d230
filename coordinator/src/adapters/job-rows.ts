/** Between the record as Redis keeps it (see lua/lib-record.lua) and the JobRecord that the application reads. */

import {
  type DurableTier,
  type JobClass,
  type JobError,
  type JobState,
  type JobTrace,
  readBlobReference,
  readTraceWord,
  traceWordOf,
} from "@switchyard/protocol";
import type { EndedAttempt, JobNotice, JobRecord, NewJob, TombState } from "../ports/job-store.ts";

/** What only views show: fixed at admission, never compared by a script. */
interface Traits {
  m: string;
  v: number;
  /** A trace word (protocol trace-context), and the span that the job was admitted in. Scripts look for the first here, behind `v`. */
  tp?: string;
  ps?: string;
  tags?: Record<string, string>;
  out?: JobRecord["outputs"];
  rid?: string;
  again?: string;
  /** Absent: fast. */
  d?: DurableTier;
}

function traitsOf(job: NewJob): string {
  const traits: Traits = { m: job.model, v: job.version };
  if (job.trace) [traits.tp, traits.ps] = [traceWordOf(job.trace.context), job.trace.parentSpanId];
  if (job.tags) traits.tags = job.tags;
  if (job.outputs) traits.out = job.outputs;
  if (job.requestId) traits.rid = job.requestId;
  if (job.retryOf) traits.again = job.retryOf;
  if (job.durability) traits.d = job.durability;
  return JSON.stringify(traits);
}

/** Of the record's words, in the order of lua/lib-record.lua; the traits follow them, then a line of how the last attempt ended, then outputs. */
const at = {
  state: 0,
  revision: 1,
  keep: 3,
  deadline: 4,
  fence: 5,
  deaths: 7,
  attempt: 8,
  started: 9,
  host: 11,
  created: 12,
  flow: 13,
  items: 15,
  maxAttempts: 16,
} as const;
const wordCount = 19;

/** The flow of a job: its class and tenant as one word. */
export function flowOf(job: Pick<NewJob, "class" | "tenant">): string {
  return `${job.class}:${encodeURIComponent(job.tenant)}`;
}

/** Whether the record stays for a held call only, and for how long. */
export function keepOf(job: Pick<NewJob, "held" | "ttlMs">): string {
  return `${job.held ? "h" : "k"}${job.ttlMs}`;
}

/** The words that never change, from `items` on. Names may hold white space; words may not. */
export function fixedWordsOf(job: NewJob): string {
  // a model without inputs has no shape, and words are never empty
  return `${job.items} ${job.maxAttempts} ${job.size} ${encodeURI(job.shapeClass) || "-"} ${traitsOf(job)}`;
}

interface Parts {
  words: string[];
  traits: string;
  ending: string | undefined;
  outputs: Buffer | undefined;
}

const newline = 0x0a;

function partsOf(bytes: Buffer): Parts {
  const lineEnd = bytes.indexOf(newline);
  const endingEnd = lineEnd === -1 ? -1 : bytes.indexOf(newline, lineEnd + 1);
  const line = bytes.toString("utf8", 0, lineEnd === -1 ? bytes.length : lineEnd);
  const words = line.split(" ", wordCount);
  const traits = line.slice(words.reduce((sum, word) => sum + word.length + 1, 0));
  const ending = lineEnd === -1 ? undefined : bytes.toString("utf8", lineEnd + 1, endingEnd === -1 ? bytes.length : endingEnd);
  return { words, traits, ending, outputs: endingEnd === -1 ? undefined : bytes.subarray(endingEnd + 1) };
}

interface Ending {
  finishedMs: number;
  runMs: number;
  batchItems: number;
  error: JobError | undefined;
}

function endingOf(text: string): Ending {
  const [finished, runMs, batchItems] = text.split(" ", 3) as [string, string, string];
  const error = text.slice(finished.length + runMs.length + batchItems.length + 3);
  return {
    finishedMs: Number(finished),
    runMs: Number(runMs),
    batchItems: Number(batchItems),
    error: error === "-" ? undefined : (JSON.parse(error) as JobError),
  };
}

/** The tenant's part of a flow is the rest behind the class. */
export function splitFlow(flow: string): { class: JobClass; tenant: string } {
  const colon = flow.indexOf(":");
  return { class: flow.slice(0, colon) as JobClass, tenant: decodeURIComponent(flow.slice(colon + 1)) };
}

export function recordOf(id: string, bytes: Buffer): JobRecord {
  const { words, traits: traitsText, ending: endingText } = partsOf(bytes);
  const word = (name: keyof typeof at): string => words[at[name]] as string;
  const traits = JSON.parse(traitsText) as Traits;
  const keep = word("keep");
  const record: JobRecord = {
    id,
    state: word("state") as JobState,
    revision: Number(word("revision")),
    fence: Number(word("fence")),
    attempt: Number(word("attempt")),
    maxAttempts: Number(word("maxAttempts")),
    deaths: Number(word("deaths")),
    model: traits.m,
    version: traits.v,
    ...splitFlow(word("flow")),
    createdMs: Number(word("created")),
    deadlineMs: Number(word("deadline")),
    ttlMs: Number(keep.slice(1)),
    held: keep.startsWith("h"),
  };
  if (word("started") !== "0") record.startedMs = Number(word("started"));
  const ending = endingText === undefined ? undefined : endingOf(endingText);
  // a queued job may carry the error of its last attempt; only an outcome shows it
  if (ending && ending.finishedMs > 0) {
    const { finishedMs, runMs, batchItems, error } = ending;
    record.finishedMs = finishedMs;
    const [queueMs, totalMs] = [(record.startedMs ?? finishedMs) - record.createdMs, finishedMs - record.createdMs];
    record.timings = { queueMs, runMs, totalMs, batchItems };
    if (error) record.error = error;
  }
  if (word("host") !== "-") record.hostId = decodeURIComponent(word("host"));
  if (traits.tags) record.tags = traits.tags;
  if (traits.out) record.outputs = traits.out;
  if (traits.rid) record.requestId = traits.rid;
  if (traits.again) record.retryOf = traits.again;
  if (traits.d) record.durability = traits.d;
  const trace = traceOf(traits);
  if (trace) record.trace = trace;
  return record;
}

function traceOf({ ps, tp }: Traits): JobTrace | undefined {
  const context = tp === undefined ? undefined : readTraceWord(tp);
  return context && ps !== undefined ? { context, parentSpanId: ps } : undefined;
}

/** The framed outputs that the record itself holds. */
export function outputsIn(bytes: Buffer): Buffer | undefined {
  return partsOf(bytes).outputs;
}

/** State and revision alone, of a record's beginning. */
export function standingOf(text: string): { state: JobState; revision: number } {
  const [state, revision] = text.split(" ", 2);
  return { state: state as JobState, revision: Number(revision) };
}

/** An entry of lua/lib-attempts.lua. */
export function attemptOf(text: string): EndedAttempt {
  const words = text.split(" ", 8);
  const [fence, attempt, started, ended, host, runMs, batchItems, end] = words as [string, ...string[]];
  const error = text.slice(words.reduce((sum, word) => sum + word.length + 1, 0));
  const told: EndedAttempt = {
    fence: Number(fence),
    attempt: Number(attempt),
    hostId: decodeURIComponent(host!),
    startedMs: Number(started),
    endedMs: Number(ended),
    end: end as EndedAttempt["end"],
    runMs: Number(runMs),
    batchItems: Number(batchItems),
  };
  if (error !== "-") told.error = JSON.parse(error) as JobError;
  return told;
}

export function tombOf(text: string): TombState {
  const [state, finished, flow] = text.split(" ") as [JobState, string, string];
  return { state, finishedMs: Number(finished), tenant: splitFlow(flow).tenant };
}

/**
 * The message that lua/lib-finish.lua publishes: a line of id, 0 or 1, and size before each record. `traces`: whether they are told, which costs
 * something.
 */
export function noticesOf(message: Buffer, { traces = false } = {}): JobNotice[] {
  const notices: JobNotice[] = [];
  // each byte a character, so that places in one are places in the other; what is kept of it for long would hold all of it
  const text = message.toString("latin1");
  for (let from = 0; from < message.length; ) {
    const lineEnd = text.indexOf("\n", from);
    const [id, counts, size] = text.slice(from, lineEnd).split(" ", 3) as [string, string, string];
    const end = lineEnd + 1 + Number(size);
    notices.push(noticeOf(id, counts === "1", { message, text, start: lineEnd + 1, end, traces }));
    from = end + 1;
  }
  return notices;
}

/** Most words are digits and names that were encoded for the record: only what may hold any text is decoded from the bytes. */
function noticeOf(
  id: string,
  counts: boolean,
  { end, message, start, text, traces }: { message: Buffer; text: string; start: number; end: number; traces: boolean },
): JobNotice {
  const place = text.indexOf("\n", start);
  const lineEnd = place === -1 || place >= end ? end : place;
  const words = text.slice(start, lineEnd).split(" ", at.items + 1);
  const word = (name: keyof typeof at): string => words[at[name]] as string;
  const next = lineEnd < end ? text.indexOf("\n", lineEnd + 1) : -1;
  const endingEnd = next === -1 || next >= end ? end : next;
  const [finished = "0", runMs = "0", batchItems = "0", error = "-"] =
    lineEnd < end ? text.slice(lineEnd + 1, endingEnd).split(" ", 4) : [];
  const notice: JobNotice = {
    id,
    state: word("state") as JobState,
    revision: Number(word("revision")),
    fence: Number(word("fence")),
    createdMs: Number(word("created")),
    startedMs: Number(word("started")),
    finishedMs: Number(finished),
    deadlineMs: Number(word("deadline")),
    attempt: Number(word("attempt")),
    runMs: Number(runMs),
    batchItems: Number(batchItems),
    items: Number(word("items")),
    ...flowIn(word("flow")),
    counts,
  };
  if (error !== "-") notice.error = endingOf(message.toString("utf8", lineEnd + 1, endingEnd)).error!;
  const trace = traces ? traceOf(JSON.parse(partsOf(message.subarray(start, end)).traits) as Traits) : undefined;
  if (trace) notice.trace = trace;
  // a reference is read when somebody asks for what it stands for
  const outputs = endingEnd < end ? message.subarray(endingEnd + 1, end) : undefined;
  if (outputs && !readBlobReference(outputs)) notice.outputs = outputs;
  return notice;
}

let latestFlow: { flow: string; parts: ReturnType<typeof splitFlow> } | undefined;

/** As `splitFlow`; most notices are of the flow before. */
function flowIn(flow: string): ReturnType<typeof splitFlow> {
  if (latestFlow?.flow !== flow) latestFlow = { flow, parts: splitFlow(flow) };
  return latestFlow.parts;
}
