/** A line of the log when an attempt begins and one when it ends, by job. Coordinators write those of the jobs. */

import { type ModelVersion, readTraceWord } from "@switchyard/protocol";
import type { FollowedJob } from "./runner/followed-batch.ts";
import type { ClaimTold, SettlementTold } from "./runner/messages.ts";

export function attemptJournal(write: (event: string, fields: Record<string, unknown>) => void) {
  return (told: ClaimTold | SettlementTold, version: ModelVersion | undefined): void => {
    const facts = ({ attempt, id, trace }: FollowedJob) => ({
      ...{ job_id: id, model: version?.model, version: version?.version, attempt },
      ...(trace !== undefined && { trace_id: readTraceWord(trace)?.traceId }),
    });
    if (told.kind === "claimed") {
      for (const job of told.jobs) write("job_running", facts(job));
      return;
    }
    const { claimedMs, items, runMs } = told;
    for (const job of told.jobs) {
      const queueMs = Math.max(0, claimedMs - job.createdMs);
      const ended = { end: job.end, queue_ms: queueMs, run_ms: runMs, batch_items: items, code: job.error?.code };
      write("attempt_ended", { ...facts(job), ...ended });
    }
  };
}
