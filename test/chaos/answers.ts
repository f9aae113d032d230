/** What answers of a coordinator say to a client. */

import type { JobView } from "@switchyard/protocol";
import type { Answer } from "../support/calls.ts";
import type { Outcome } from "./ledger.ts";

/** Told to come back, although nothing is wrong with the request. */
export const passing: ReadonlySet<string> = new Set(["store_unavailable", "draining", "model_not_ready"]);

/** Outcomes of a held job on /v2, as errors. */
const outcomeCodes: Readonly<Record<string, Outcome["state"]>> = {
  expired: "expired",
  cancelled: "cancelled",
  run_failed: "failed",
  input_lost: "failed",
  poison: "failed",
};

export interface Heard {
  state: Outcome["state"];
  answer?: number[];
}

/** The outcome that an answer on /v2 is; undefined where it is a refusal. */
export function heardIn(answer: Answer): Heard | undefined {
  if (answer.status === 200) return { state: "succeeded", answer: valuesOf(answer) };
  const state = outcomeCodes[codeOf(answer)];
  return state === undefined ? undefined : { state };
}

export function valuesOf(answer: Answer): number[] {
  return answer.json().outputs[0].data;
}

/** Of a job that has ended, as its view tells it; without its answer, which is its result's. */
export function viewedOutcome(answer: Answer): Outcome {
  const view = answer.json() as JobView;
  const outcome: Outcome = {
    state: view.state,
    revision: Number(String(answer.headers.etag).replaceAll('"', "")),
    attempt: view.attempt,
    createdMs: Date.parse(view.created_at),
    finishedMs: Date.parse(view.finished_at!),
    deadlineMs: Date.parse(view.deadline),
  };
  if (view.started_at !== undefined) outcome.startedMs = Date.parse(view.started_at);
  if (view.error !== undefined) outcome.code = view.error.code;
  return outcome;
}

export function codeOf(answer: Answer): string {
  if (answer.status < 400) return "";
  const named = answer.headers["x-switchyard-error"];
  if (typeof named === "string") return named;
  try {
    return String(answer.json().code);
  } catch {
    return "unreadable";
  }
}

export function whyOf(error: unknown): string {
  const inner = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return inner instanceof Error ? `${"code" in inner ? `${inner.code} ` : ""}${inner.message}`.slice(0, 200) : String(inner);
}
