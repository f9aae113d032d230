/**
 * Several jobs that were made together. There is no record of a batch beside its jobs: the first one's tag says how many they are, and the ids
 * of the others follow from its own. So a batch is as durable as its jobs, any coordinator finds all of it, and making it again makes it once.
 */

import { isTerminal, type JobState, maxTimeoutMs, SwitchyardError } from "@switchyard/protocol";
import { memberJobId } from "@switchyard/protocol/redis";
import type { Caller } from "../../application/caller.ts";
import type { Settled, Submission } from "../../application/job-service.ts";
import { untilDone } from "../../application/until-done.ts";
import type { JobRecord } from "../../ports/job-store.ts";
import type { DoorContext } from "../door-context.ts";

export const mostBatchItems = 1_000;
/** So many times as long as expected a batch may take before results of its first jobs go. */
const lateness = 4;
/** Of the first job: how many jobs there are. */
const sizeTag = "switchyard.batch";
/** Of the others: the first one's id. */
const leadTag = "switchyard.batch-of";

/** How many jobs were made together with this one, itself among them; undefined for a job of its own. */
export function batchSizeOf({ tags }: Pick<JobRecord, "tags">): number | undefined {
  const size = Number(tags?.[sizeTag]);
  return Number.isSafeInteger(size) && size >= 1 && size <= mostBatchItems ? size : undefined;
}

/** In the order of the items. */
export function batchIdsOf(lead: JobRecord): string[] {
  return Array.from({ length: batchSizeOf(lead) ?? 1 }, (_, at) => (at === 0 ? lead.id : memberJobId(lead.id, at)));
}

export interface NewBatch {
  items: readonly Submission[];
  /** Until the last of them will have ended, by what is known; undefined: nothing is. */
  expectedMs: number | undefined;
}

/**
 * All of them are admitted when it resolves, with the first one's record; else none goes on. Throws what refused one, naming it. The first one's record
 * stays until all must have ended, because it stands for all. The others' results stay as long as usual beyond the time that all are expected to take.
 */
export async function submitBatch(context: DoorContext, caller: Caller, { expectedMs, items }: NewBatch): Promise<Settled> {
  const [first, ...others] = items as [Submission, ...Submission[]];
  const keptMs = expectedMs === undefined ? maxTimeoutMs : expectedMs * lateness;
  const tags = { ...first.tags, [sizeTag]: String(items.length) };
  const { record: lead, replayed } = await context.jobs.submit({ ...first, tags, keptMs: maxTimeoutMs }, caller);
  if (batchSizeOf(lead) !== items.length) {
    throw new SwitchyardError("idempotency_key_reused", "this key was used for another request; use a new key for a new request");
  }
  if (replayed) await refuseRemains(context, lead);
  const made = await Promise.allSettled(
    others.map(({ idempotency: _idempotency, ...other }, at) =>
      context.jobs.submit(
        { ...other, tags: { ...other.tags, [leadTag]: lead.id }, keptMs, member: { of: lead.id, index: at + 1 } },
        caller,
      ),
    ),
  );
  const refused = made.findIndex(({ status }) => status === "rejected");
  if (refused < 0) return { record: lead, replayed };
  await cancelBatch(context, caller, lead).catch(() => void abandonBatch(context, caller, lead));
  const { reason } = made[refused] as PromiseRejectedResult;
  if (!(reason instanceof SwitchyardError)) throw reason;
  const detail = `item ${refused + 1} was refused, and the others are cancelled: ${reason.message}; call again with a new idempotency_key`;
  throw new SwitchyardError(reason.code, detail, reason.facts);
}

/** Of a batch that was refused or cancelled while it was submitted, some jobs were never made: they would now run for nobody's use. */
async function refuseRemains(context: DoorContext, lead: JobRecord): Promise<void> {
  const { byState } = await batchStanding(context, lead);
  if (!byState.gone || !byState.cancelled) return;
  const detail =
    "the batch of this idempotency_key was refused or cancelled, and parts of it are gone; call again with a new idempotency_key";
  throw new SwitchyardError("cancelled", detail, { jobId: lead.id });
}

/** Those that have not ended. Throws where it may not have been all of them. */
export async function cancelBatch(context: DoorContext, caller: Caller, lead: JobRecord): Promise<void> {
  const states = await context.jobs.states(batchIdsOf(lead));
  const open = [...states].filter(([, state]) => !isTerminal(state));
  const done = await Promise.allSettled(open.map(([id]) => context.jobs.cancel(id, caller)));
  for (const one of done) if (one.status === "rejected" && !isGone(one.reason)) throw one.reason;
}

function isGone(error: unknown): boolean {
  return error instanceof SwitchyardError && (error.code === "job_not_found" || error.code === "result_expired");
}

/** Cancels what nobody will ask for, as soon as the store lets it be, as long as this coordinator lives and the jobs do. Never rejects. */
export async function abandonBatch(context: DoorContext, caller: Caller, lead: JobRecord): Promise<void> {
  const { clock } = context;
  while (!(await untilDone(clock, () => cancelBatch(context, caller, lead)))) {
    if (context.draining() || clock.nowMs() > lead.deadlineMs) return;
  }
}

export interface BatchStanding {
  total: number;
  ended: number;
  byState: Partial<Record<JobState | "gone", number>>;
}

export async function batchStanding(context: DoorContext, lead: JobRecord): Promise<BatchStanding> {
  const ids = batchIdsOf(lead);
  const states = await context.jobs.states(ids);
  const standing: BatchStanding = { total: ids.length, ended: 0, byState: {} };
  for (const id of ids) {
    const state = states.get(id) ?? "gone";
    standing.byState[state] = (standing.byState[state] ?? 0) + 1;
    if (state === "gone" || isTerminal(state)) standing.ended += 1;
  }
  return standing;
}

/** As `3 of 64 items done`, or that and what did not go well. */
export function standingText({ byState, ended, total }: BatchStanding): string {
  const ill = (["failed", "expired", "cancelled", "gone"] as const).filter((state) => byState[state] !== undefined);
  return `${ended} of ${total} items done${ill.map((state) => `, ${byState[state]} ${state}`).join("")}`;
}
