/**
 * What may be told of durable jobs, and when. Owns the promise that an admission is acknowledged, and an outcome told, only when the store has
 * it as safe as the job's tier says. Everything that a door answers about a job comes through here; jobs of the tier `fast` pass at once.
 */

import { type DurableTier, isTerminal, SwitchyardError } from "@switchyard/protocol";
import type { DurableStore } from "../ports/durable-store.ts";
import type { JobRecord, TombState } from "../ports/job-store.ts";

const strongestFirst: readonly DurableTier[] = ["replicated", "fsync"];

export class DurableJobs {
  readonly #store: DurableStore | undefined;

  constructor(store: DurableStore | undefined) {
    this.#store = store;
  }

  /** Before anything is written. Throws `durability_unavailable` where the store cannot give the tier. */
  async require(tier: DurableTier): Promise<void> {
    await this.#durable(tier).require(tier);
  }

  /** The tier that survives most of those that the store gives now; undefined: none but fast. */
  async strongest(): Promise<DurableTier | undefined> {
    for (const tier of strongestFirst) {
      try {
        await this.require(tier);
        return tier;
      } catch (error) {
        if (!(error instanceof SwitchyardError && error.code === "durability_unavailable")) throw error;
      }
    }
    return undefined;
  }

  /** After the record was written or found: the record as it then is. Throws `store_unavailable` with the job's id while it is not settled. */
  async acknowledged(record: JobRecord): Promise<JobRecord | TombState> {
    const { durability, id } = record;
    if (durability === undefined) return record;
    const settled = await this.#durable(durability).settled(id, durability);
    if (settled) return settled;
    // the server that took it is not the one that answers now, and this one never had it
    const detail = `job ${id} was taken and then lost, as happens when the store fails over: repeat the request with the same idempotency key`;
    throw new SwitchyardError("store_unavailable", detail, { jobId: id, retryAfterMs: 1_000 });
  }

  /** The record as it may be shown. States without an outcome promise nothing and are shown as they are. */
  async told(record: JobRecord): Promise<JobRecord | TombState | undefined> {
    const { durability, id, state } = record;
    return durability === undefined || !isTerminal(state) ? record : this.#durable(durability).settled(id, durability);
  }

  /** The jobs as they may be shown; those that are gone meanwhile are left out. */
  async listed(records: readonly JobRecord[]): Promise<JobRecord[]> {
    const told = await Promise.all(records.map((record) => this.told(record)));
    return told.filter((one): one is JobRecord => one !== undefined && "id" in one);
  }

  #durable(tier: DurableTier): DurableStore {
    if (this.#store) return this.#store;
    throw new SwitchyardError("durability_unavailable", `durability '${tier}' cannot be given: this store keeps nothing`, {
      fields: [{ pointer: "/durability", expected: "fast", got: tier }],
    });
  }
}
