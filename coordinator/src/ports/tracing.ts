/**
 * Spans of what this coordinator does. Absent where tracing is off, and then nothing is done for it. Calls never throw and never wait; spans
 * that cannot be delivered are lost. Facts are attributes of spans: names, ids, figures, never tensors, keys or tokens.
 */

import type { JobClass, JobTrace, TraceContext } from "@switchyard/protocol";
import type { JobNotice } from "./job-store.ts";
import type { CurrentTraceId } from "./trace-ids.ts";

export type SpanFacts = Record<string, string | number | boolean>;

export interface SpanFailure {
  code?: string;
  detail: string;
}

/** A span that has begun. */
export interface OpenSpan {
  /** What follows from it belongs to this. */
  readonly context: TraceContext;
  add(facts: SpanFacts): void;
  /** `failed`: why, where that is this system's or the job's failure and not the caller's; the code may have been added before. */
  end(failed?: SpanFailure): void;
}

export interface EndedJob extends Pick<JobNotice, "id" | "state" | "createdMs" | "finishedMs" | "attempt" | "batchItems" | "error"> {
  trace: JobTrace;
  model: string;
  class: JobClass;
}

export interface Tracing {
  /** Begins the span of a caller's request, in the caller's trace if there is one. */
  request(name: string, facts: SpanFacts, caller: TraceContext | undefined): OpenSpan;
  /** Begins the span of a part. */
  step(name: string, facts: SpanFacts, parent: TraceContext): OpenSpan;
  /** What goes into the record of a job that is about to be admitted; its span is told when it ends, by `jobEnded`. */
  newJob(parent: TraceContext): JobTrace;
  /** To be told once for each job, by the coordinator that counts its end. */
  jobEnded(job: EndedJob): void;
  /** Runs with `currentTraceId` being that of the context; `run` must not wait. */
  during(context: TraceContext | undefined, run: () => void): void;
  readonly currentTraceId: CurrentTraceId;
  /** Delivers what is left. */
  close(): Promise<void>;
}
