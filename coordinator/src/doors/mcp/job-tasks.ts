/**
 * Tasks that are jobs: a task's id is its job's id, or that of the first job of a batch. So a task outlives every coordinator, any of them
 * answers for it, and whoever may see the job may see the task. Nothing of a task is kept beside its jobs' records.
 */

import { ProtocolError, ProtocolErrorCode, type Result } from "@modelcontextprotocol/server";
import { isTerminal, SwitchyardError } from "@switchyard/protocol";
import { type Caller, requireScope } from "../../application/caller.ts";
import type { Submission } from "../../application/job-service.ts";
import type { JobRecord } from "../../ports/job-store.ts";
import type { DoorContext } from "../door-context.ts";
import { batchOutcome } from "./batch-results.ts";
import { batchSizeOf, batchStanding, cancelBatch, standingText } from "./batches.ts";
import { endedResult, failureIn, isInfrastructure } from "./job-results.ts";
import { factsIn } from "./request-facts.ts";
import { type Task, type Tasks, taskResult } from "./task-protocol.ts";
import type { ToolCall } from "./tool.ts";

const shortestPollMs = 500;
const longestPollMs = 10_000;
const usualPollMs = 1_000;

/** Of a task's job: the id of the key that it was handed to. */
const handedTag = "switchyard.task-of";

/** What a task's jobs are submitted with: a handle is given out only when they are as safe as the store can make them. */
export async function taskTerms({ caller: { keyId }, context }: ToolCall): Promise<Pick<Submission, "durability" | "tags">> {
  const tier = await context.jobs.strongestTier();
  return { ...(tier !== undefined && { durability: tier }), ...(keyId !== undefined && { tags: { [handedTag]: keyId } }) };
}

/**
 * Submits the job and answers the call with its task, or with its outcome where it is an earlier call's and has ended. Undefined: it is an earlier
 * call's, and not as safe as a task has to be.
 */
export async function createdTask(call: ToolCall, submission: Submission): Promise<Result | undefined> {
  const { caller, context } = call;
  const terms = await taskTerms(call);
  const { record, replayed } = await context.jobs.submit({ ...submission, ...terms }, caller);
  if (replayed && isTerminal(record.state)) return endedResult(context, record);
  if (record.durability !== terms.durability) return undefined;
  return taskResult(workingTask(context, record, `${record.model} is ${record.state}`));
}

/** Of a task that has just been made, or goes on. */
export function workingTask({ config }: DoorContext, record: JobRecord, message: string, updatedMs?: number): Task {
  const { createdMs, deadlineMs, startedMs } = record;
  const leftMs = deadlineMs - createdMs;
  return {
    taskId: record.id,
    status: "working",
    statusMessage: message,
    createdAt: timestamp(createdMs),
    lastUpdatedAt: timestamp(updatedMs ?? startedMs ?? createdMs),
    ttlMs: leftMs + config.resultTtlMs,
    pollIntervalMs: leftMs > 60 * longestPollMs ? usualPollMs : Math.min(Math.max(Math.round(leftMs / 60), shortestPollMs), longestPollMs),
  };
}

export function jobTasks(context: DoorContext): Tasks {
  const { clock, jobs } = context;
  return {
    get: (taskId, server) =>
      ofTask(async () => {
        const { caller } = factsIn(server);
        requireScope(caller, ["read", "submit"]);
        const record = await jobs.get(taskId, caller);
        requireSight(caller, record);
        return batchSizeOf(record) === undefined ? jobTask(context, record) : batchTask(record, caller);
      }),
    // none of these tasks asks anything of its client: what is missing is asked before there is a task
    update: (taskId, _responses, server) =>
      ofTask(async () => {
        const { caller } = factsIn(server);
        requireScope(caller, ["submit"]);
        await jobs.get(taskId, caller);
      }),
    cancel: (taskId, server) =>
      ofTask(async () => {
        const { caller } = factsIn(server);
        requireScope(caller, ["submit"]);
        const record = await jobs.get(taskId, caller);
        if (batchSizeOf(record) === undefined) await jobs.cancel(taskId, caller);
        else await cancelBatch(context, caller, record);
      }),
  };

  async function batchTask(lead: JobRecord, caller: Caller): Promise<Task> {
    const standing = await batchStanding(context, lead);
    const message = standingText(standing);
    if (standing.ended < standing.total) return { ...workingTask(context, lead, message, clock.nowMs()), ...progressMeta(standing) };
    const { finishedMs, isCancelled, result } = await batchOutcome(context, caller, lead);
    const about = { ...ended(context, lead, finishedMs), statusMessage: message, ...progressMeta(standing) };
    return isCancelled ? { ...about, status: "cancelled" } : { ...about, status: "completed", result };
  }
}

/** For programs; the message says it to people. */
function progressMeta({ ended, total }: { ended: number; total: number }): { _meta: Record<string, unknown> } {
  return { _meta: { "switchyard/progress": { progress: ended, total } } };
}

async function jobTask(context: DoorContext, record: JobRecord): Promise<Task> {
  const message = `${record.model} is ${record.state}`;
  if (!isTerminal(record.state)) return workingTask(context, record, message);
  const about = { ...ended(context, record, record.finishedMs ?? record.createdMs), statusMessage: message };
  if (record.state === "cancelled") return { ...about, status: "cancelled" };
  if (!isInfrastructure(record)) return { ...about, status: "completed", result: await endedResult(context, record) };
  const failure = failureIn(record);
  return {
    ...about,
    status: "failed",
    statusMessage: failure.detail,
    error: { code: ProtocolErrorCode.InternalError, message: failure.detail, data: failure },
  };
}

function ended({ config }: DoorContext, record: JobRecord, finishedMs: number) {
  return {
    taskId: record.id,
    createdAt: timestamp(record.createdMs),
    lastUpdatedAt: timestamp(finishedMs),
    ttlMs: finishedMs - record.createdMs + config.resultTtlMs,
  };
}

/** Jobs are for keys that may read; a key that may only submit has the outcome of its calls, and so of the tasks that it was given for them. */
function requireSight(caller: Caller, { tags }: JobRecord): void {
  const isHanded = caller.keyId !== undefined && tags?.[handedTag] === caller.keyId;
  requireScope(caller, isHanded ? ["read", "submit"] : ["read"]);
}

const unknown = new Set(["job_not_found", "result_expired"]);

/** Another's task, one that is gone and one that never was are the same to the caller. */
async function ofTask<Found>(look: () => Promise<Found>): Promise<Found> {
  try {
    return await look();
  } catch (error) {
    if (!(error instanceof SwitchyardError) || !unknown.has(error.code)) throw error;
    throw new ProtocolError(ProtocolErrorCode.InvalidParams, `Unknown task: ${error.message}`);
  }
}

function timestamp(ms: number): string {
  return new Date(ms).toISOString();
}
