/** The fake job service with owners: another tenant's jobs do not exist for a caller, as in the real one. */

import { SwitchyardError } from "@switchyard/protocol";
import { type Caller, mayUse } from "../../coordinator/src/application/caller.ts";
import type { Settled, Submission } from "../../coordinator/src/application/job-service.ts";
import type { JobListFilter, JobPage, JobRecord } from "../../coordinator/src/ports/job-store.ts";
import { FakeJobService } from "./fake-job-service.ts";

export class OwnedJobs extends FakeJobService {
  readonly #owners = new Map<string, string>();

  override async submit(submission: Submission, caller?: Caller): Promise<Settled> {
    const settled = await super.submit(submission);
    this.#owners.set(settled.record.id, caller?.tenant ?? "default");
    return settled;
  }

  override async get(id: string, caller?: Caller): Promise<JobRecord> {
    return this.#own(await super.get(id), caller);
  }

  override async history(id: string, caller?: Caller): ReturnType<FakeJobService["history"]> {
    await this.get(id, caller);
    return super.history(id);
  }

  override async wait(id: string, how: Parameters<FakeJobService["wait"]>[1], caller?: Caller): Promise<JobRecord> {
    await this.get(id, caller);
    return super.wait(id, how);
  }

  override async list(filter: JobListFilter, caller?: Caller): Promise<JobPage> {
    const page = await super.list({ ...filter, limit: 10_000 });
    return { jobs: page.jobs.filter((record) => this.#isOf(record, caller)).slice(0, filter.limit) };
  }

  #own(record: JobRecord, caller: Caller | undefined): JobRecord {
    if (this.#isOf(record, caller)) return record;
    throw new SwitchyardError("job_not_found", `no job ${record.id}`);
  }

  #isOf(record: JobRecord, caller: Caller | undefined): boolean {
    return caller === undefined || (this.#owners.get(record.id) === caller.tenant && mayUse(caller, record.model));
  }
}
