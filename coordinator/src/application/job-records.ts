/** Records of jobs as their callers may see them: only their own, and a durable one when its outcome may be told. */

import { SwitchyardError } from "@switchyard/protocol";
import type { JobRecord, JobStore, TombState } from "../ports/job-store.ts";
import { type Caller, mayUse } from "./caller.ts";
import type { DurableJobs } from "./durable-jobs.ts";

export class JobRecords {
  readonly #store: Pick<JobStore, "read" | "watch">;
  readonly #durable: DurableJobs;

  constructor(store: Pick<JobStore, "read" | "watch">, durable: DurableJobs) {
    this.#store = store;
    this.#durable = durable;
  }

  /** Throws `job_not_found` or `result_expired`, as all of these. */
  async get(id: string, caller: Caller): Promise<JobRecord> {
    return this.told(this.#ofCaller(id, await this.#store.read(id), caller));
  }

  /** Of a job that is there, with this coordinator registered as one that waits for it. Not yet to be told. */
  async watched(id: string, caller: Caller): Promise<JobRecord> {
    return this.#ofCaller(id, await this.#store.watch(id), caller);
  }

  async told(record: JobRecord): Promise<JobRecord> {
    return recordOrGone(record.id, await this.#durable.told(record));
  }

  async acknowledged(record: JobRecord): Promise<JobRecord> {
    return recordOrGone(record.id, await this.#durable.acknowledged(record));
  }

  #ofCaller(id: string, found: JobRecord | TombState | undefined, caller: Caller): JobRecord {
    // another tenant's job does not exist for this caller, nor does one of a model that its key may not use
    if (found && (found.tenant !== caller.tenant || ("model" in found && !mayUse(caller, found.model)))) throw jobNotFound(id);
    return recordOrGone(id, found);
  }
}

export function recordOrGone(id: string, found: JobRecord | TombState | undefined): JobRecord {
  if (!found) throw jobNotFound(id);
  if (!("id" in found)) {
    const when = new Date(found.finishedMs).toISOString();
    throw new SwitchyardError("result_expired", `the job ended as ${found.state} at ${when}; its record is no longer kept`, {
      jobId: id,
      extra: { state: found.state, finished_at: when },
    });
  }
  return found;
}

export function jobNotFound(id: string): SwitchyardError {
  return new SwitchyardError("job_not_found", `no job ${id.slice(0, 60)}`);
}
