/** An inference whose caller holds the line, whichever protocol it came by: submitted, waited for, and cancelled when the caller goes away. */

import { defaultAlias, type ModelVersion, SwitchyardError } from "@switchyard/protocol";
import type { Caller } from "../application/caller.ts";
import type { JobService, Submission } from "../application/job-service.ts";
import type { ModelStatus } from "../ports/model-registry.ts";
import { type DoorContext, labelsOf } from "./door-context.ts";
import type { Line } from "./open-calls.ts";

/** RFC 9211, in an answer that no run was made for. */
export const cacheStatus = { hit: "switchyard; hit", joined: "switchyard; fwd=miss; collapsed" } as const;

/** As callers name one: by its number, by an alias, or not at all. */
export type VersionName = number | string | undefined;

/** Throws model_not_found and version_not_found, but for a repeat: its answer may exist although the model does not any more. */
export function statusFor(context: DoorContext, asked: { model: string; version: VersionName; keyed: boolean }): ModelStatus | undefined {
  try {
    return context.models.resolve(asked.model, asked.version);
  } catch (error) {
    if (asked.keyed && error instanceof SwitchyardError) return undefined;
    throw error;
  }
}

/** Names the version in a submission, or the alias that leads to it: without a version the model's alias `default`, where there is one. */
export function nameVersion({ models }: DoorContext, submission: Submission, version: VersionName, status: ModelStatus | undefined): void {
  if (typeof version === "number") submission.version = version;
  else if (version !== undefined || models.aliases(submission.model)?.has(defaultAlias)) {
    submission.alias = version ?? defaultAlias;
    // the body was read by this version's signature
    if (status) submission.version = status.version.version;
  }
}

interface HeldInference {
  settled: Awaited<ReturnType<JobService["infer"]>>;
  /** Class names of the version that ran. */
  labels: ModelVersion["labels"];
}

/** Throws what `JobService.infer` throws, and `draining` when this coordinator waits no longer. `status` is the version as it was resolved. */
export async function holdInference(
  context: DoorContext,
  submission: Submission,
  held: { caller: Caller; line: Line; status: ModelStatus | undefined },
): Promise<HeldInference> {
  const call = context.calls.held(held.line);
  try {
    const settled = await context.jobs.infer(submission, held.caller, call);
    const { record } = settled;
    const { version } = held.status ?? {};
    return { settled, labels: record.version === version?.version ? version.labels : labelsOf(context, record) };
  } catch (error) {
    const isLeft = call.toldToGo() && error instanceof SwitchyardError && error.code === "cancelled";
    throw isLeft ? leftBehind(error, submission.idempotency !== undefined) : error;
  } finally {
    call.end();
  }
}

/** What a caller who held the line hears when this coordinator waits no longer. */
function leftBehind({ facts: { jobId } }: SwitchyardError, keyed: boolean): SwitchyardError {
  const what = keyed
    ? `job ${jobId} goes on: ask another one for /v1/jobs/${jobId}, or repeat the request with the same Idempotency-Key`
    : `job ${jobId} was cancelled: send the request to another one`;
  return new SwitchyardError("draining", `This coordinator is shutting down; ${what}`, jobId === undefined ? {} : { jobId });
}
