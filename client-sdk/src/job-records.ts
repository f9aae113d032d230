/**
 * What the server says of jobs, hosts and models, as this SDK hands it on. Fields that this version does not know stay in the objects;
 * words of `state` that it does not know become "unknown", so that a newer server does not break an older client.
 */

import {
  type HostView,
  isTerminal,
  type JobState,
  type ModelView,
  type Problem,
  type RequeuedView,
  type TenantView,
  type DeadLetterView as WireDeadLetterView,
  type JobView as WireJobView,
} from "@switchyard/protocol";
import { ClientError } from "./client-errors.ts";

export type ClientJobState = JobState | "unknown";

export type JobView = Omit<WireJobView, "state"> & { state: ClientJobState };

export type DeadLetterView = Omit<WireDeadLetterView, "state"> & { state: ClientJobState };

export type { HostView, ModelView, RequeuedView, TenantView };

/** A count and the nanoseconds that it took in all. */
interface CountedTime {
  count: number;
  ns: number;
}

/** What was counted of one model version since it has been there, in the words of the statistics extension. */
export interface ModelStatistics {
  name: string;
  version: string;
  /** Items, and runs of the model. */
  inference_count: number;
  execution_count: number;
  /** Jobs; `compute_infer` by what the server counts it. */
  inference_stats: Record<"success" | "fail" | "queue" | "compute_infer", CountedTime>;
}

const states: ReadonlySet<string> = new Set(["queued", "running", "succeeded", "failed", "cancelled", "expired"]);

export function hasEnded(state: ClientJobState): boolean {
  return state !== "unknown" && isTerminal(state);
}

/** Throws ClientError `unexpected_answer` when the text is no job. */
export function readJobView(text: string): JobView {
  return asJobView(readObject(text, "a job"), text);
}

function asJobView(view: Record<string, unknown>, text: string): JobView {
  if (typeof view.id !== "string" || typeof view.state !== "string") throw unexpected("a job", text);
  if (!states.has(view.state)) view.state = "unknown";
  return view as unknown as JobView;
}

export interface BatchLineView {
  index: number;
  job?: JobView;
  problem?: Problem;
}

/** One line of the answer to a batch. Throws ClientError `unexpected_answer` when the text is none. */
export function readBatchLine(text: string): BatchLineView {
  const what = "a line of a batch's answer";
  const { index, job, problem } = readObject(text, what);
  const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;
  if (typeof index === "number" && isObject(job)) return { index, job: asJobView(job, text) };
  if (typeof index === "number" && isObject(problem)) return { index, problem: problem as unknown as Problem };
  throw unexpected(what, text);
}

/** A path with those of these values that are given. */
export function pathWith(path: string, values: Readonly<Record<string, string | number | undefined>>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== undefined) query.set(name, String(value));
  return query.size === 0 ? path : `${path}?${query}`;
}

export interface Page<Item> {
  items: Item[];
  /** Give it to the next call to go on; absent on the last page. */
  cursor?: string;
}

/** A list answer; `links.next` is the same address with a cursor. */
export function readPage<Item>(text: string, what: string): Page<Item> {
  const { items, links } = readObject(text, what) as { items?: Item[]; links?: { next?: unknown } };
  if (!Array.isArray(items)) throw unexpected(what, text);
  const cursor = typeof links?.next === "string" ? new URL(links.next, "http://any").searchParams.get("cursor") : null;
  return cursor === null ? { items } : { items, cursor };
}

export function readObject(text: string, what: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw unexpected(what, text);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw unexpected(what, text);
  return value as Record<string, unknown>;
}

/** Throws ClientError `unexpected_answer` when the text is none. */
export function readStatistics(text: string): ModelStatistics[] {
  const { model_stats: models } = readObject(text, "statistics") as { model_stats?: ModelStatistics[] };
  if (!Array.isArray(models)) throw unexpected("statistics", text);
  return models;
}

function unexpected(what: string, text: string): ClientError {
  const shown = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  return new ClientError(
    "unexpected_answer",
    `the server did not answer with ${what}, but with: ${shown}. Is this the address of Switchyard?`,
  );
}
