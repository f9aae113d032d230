/**
 * The job store in memory, for simulations and as the second reading of the port's contract. It owns queues, idempotency keys, notices and
 * listing; the moves themselves are in memory-queue.ts. One coordinator and its hosts share one instance; nothing outlives the process.
 */

import { isTerminal, joinParts } from "@switchyard/protocol";
import { tagOf } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";
import type {
  AdmitQueue,
  Admitted,
  EndedAttempt,
  JobListFilter,
  JobNotice,
  JobPage,
  JobRecord,
  JobStore,
  KeyEntry,
  NewJob,
  SweepAnswer,
  TombState,
  ValueSizes,
  WaitingFlow,
} from "../ports/job-store.ts";
import type { TicketQueue } from "../ports/ticket-queue.ts";
import { longestWaitMs } from "../scheduler/batch-plan.ts";
import { isAfter, type ListPlace, matches, pageOf, placeOf } from "./job-pages.ts";
import type { MemoryJob } from "./memory-flows.ts";
import { type ClaimAnswer, type ClaimStep, MemoryQueue, type RunOutcome } from "./memory-queue.ts";

const outputMarginMs = 5_000;

/** One host and the ticket it speaks of. */
export interface HostStep {
  tag: string;
  incarnation: string;
  ticketId: string;
}

export class MemoryJobStore implements JobStore {
  readonly #clock: Pick<Clock, "nowMs" | "monotonicMs">;
  readonly #tickets: TicketQueue;
  readonly #queues = new Map<string, MemoryQueue>();
  readonly #keys = new Map<string, KeyEntry & { goneMs: number }>();
  readonly #known = new Set<string>();
  readonly #noticeListeners: ((notice: JobNotice) => void)[] = [];
  readonly #wakeListeners: ((incarnation: string, tag: string) => void)[] = [];
  readonly #startedMs: number;

  constructor(parts: { clock: Pick<Clock, "nowMs" | "monotonicMs">; tickets: TicketQueue }) {
    this.#clock = parts.clock;
    this.#tickets = parts.tickets;
    this.#startedMs = parts.clock.monotonicMs();
  }

  /** The queue as it is now, without what has outlived its retention. */
  queue(tag: string): MemoryQueue {
    let queue = this.#queues.get(tag);
    if (!queue) {
      const wake = (incarnation: string): void => {
        for (const listener of this.#wakeListeners) listener(incarnation, tag);
      };
      queue = new MemoryQueue(tag, { ended: (job) => this.#tell(job), wake });
      this.#queues.set(tag, queue);
    }
    queue.forget(this.nowMs());
    return queue;
  }

  #tell({ awaited, items, record }: MemoryJob): void {
    if (!awaited) return;
    const { id, state, revision, fence, createdMs, startedMs = 0, finishedMs = 0, deadlineMs, attempt, timings, error } = record;
    const { runMs = 0, batchItems = 0 } = timings ?? {};
    const notice: JobNotice = {
      ...{
        id,
        state,
        revision,
        fence,
        createdMs,
        startedMs,
        finishedMs,
        deadlineMs,
        attempt,
        runMs,
        batchItems,
        items,
        class: record.class,
        tenant: record.tenant,
        counts: true,
      },
      ...(error && { error }),
    };
    // a notice comes after the step that caused it, as over a network
    queueMicrotask(() => {
      for (const listener of this.#noticeListeners) listener(notice);
    });
  }

  async onNotice(listener: (notice: JobNotice) => void): Promise<void> {
    this.#noticeListeners.push(listener);
  }

  /** Called when a lingering host should look into a queue again. */
  onWake(listener: (incarnation: string, tag: string) => void): void {
    this.#wakeListeners.push(listener);
  }

  async admit(job: NewJob, { matchingHosts, batchItems, mostWaiting }: AdmitQueue): Promise<Admitted> {
    const tag = tagOf(job.id);
    const queue = this.queue(tag);
    const nowMs = this.nowMs();
    const admitted = queue.admit(job, nowMs, mostWaiting);
    const waiting = queue.waiting.waitingJobs;
    if (admitted.answer === "refused" || admitted.answer === "full") return { id: job.id, waiting, ...admitted };
    if (admitted.answer === "admitted")
      for (const ticketId of queue.issue(nowMs, matchingHosts, batchItems, false, nowMs + longestWaitMs(job)))
        this.#tickets.offer(tag, ticketId);
    const { id, state, createdMs, deadlineMs } = (queue.jobs.get(job.id) as MemoryJob).record;
    return { id, waiting, answer: admitted.answer, state, createdMs, deadlineMs };
  }

  async boundKey(key: { tenant: string; name: string }): Promise<KeyEntry | undefined> {
    const before = this.#keys.get(`${key.tenant}\0${key.name}`);
    return before && before.goneMs > this.nowMs() ? { fingerprint: before.fingerprint, jobId: before.jobId } : undefined;
  }

  async bindKey(key: { tenant: string; name: string; ttlMs: number }, entry: KeyEntry): Promise<KeyEntry> {
    const before = await this.boundKey(key);
    if (before) return before;
    await this.rebindKey(key, entry);
    return entry;
  }

  async rebindKey(key: { tenant: string; name: string; ttlMs: number }, entry: KeyEntry): Promise<void> {
    this.#keys.set(`${key.tenant}\0${key.name}`, { ...entry, goneMs: this.nowMs() + key.ttlMs });
  }

  async rememberQueue(tag: string): Promise<void> {
    this.#known.add(tag);
  }

  async knownQueues(): Promise<string[]> {
    return [...this.#known];
  }

  async forgetQueue(tag: string): Promise<void> {
    if ((await this.openQueues([tag])).length === 0) this.#known.delete(tag);
  }

  async read(id: string): Promise<JobRecord | TombState | undefined> {
    const queue = this.queue(tagOf(id));
    const job = queue.jobs.get(id);
    if (job) return structuredClone(job.record);
    const tomb = queue.tombs.get(id);
    return tomb && { state: tomb.state, finishedMs: tomb.finishedMs, tenant: tomb.tenant };
  }

  async attempts(id: string): Promise<EndedAttempt[]> {
    return structuredClone(this.queue(tagOf(id)).jobs.get(id)?.attempts ?? []);
  }

  async watch(id: string): Promise<JobRecord | TombState | undefined> {
    const job = this.queue(tagOf(id)).jobs.get(id);
    if (job && !isTerminal(job.record.state)) job.awaited = true;
    return this.read(id);
  }

  async peek(ids: readonly string[]): Promise<Map<string, { state: JobRecord["state"]; revision: number }>> {
    const found = ids.flatMap((id) => this.queue(tagOf(id)).jobs.get(id)?.record ?? []);
    return new Map(found.map(({ id, state, revision }) => [id, { state, revision }]));
  }

  async outputs(id: string, fence: number): Promise<Uint8Array | undefined> {
    return this.queue(tagOf(id)).outputs.get(`${id}:${fence}`)?.bytes;
  }

  async cancel(id: string): Promise<{ record: JobRecord; moved: boolean } | undefined> {
    const state = this.queue(tagOf(id)).cancel(id, this.nowMs());
    const record = await this.read(id);
    return state && record && "id" in record ? { record, moved: state === "cancelled" } : undefined;
  }

  async expire(ids: readonly string[]): Promise<void> {
    for (const id of ids) this.queue(tagOf(id)).expire(id, this.nowMs());
  }

  async keep(id: string, ttlMs: number): Promise<void> {
    this.queue(tagOf(id)).keep(id, ttlMs);
  }

  async list(tags: readonly string[], filter: JobListFilter): Promise<JobPage> {
    const before = placeOf(filter.cursor);
    const placed = ({ id, createdMs, finishedMs = 0 }: JobRecord): ListPlace => ({ id, atMs: filter.dead ? finishedMs : createdMs });
    const jobs = tags
      .map((tag) => this.queue(tag))
      .flatMap((queue) => [...queue.jobs.values()].filter(({ record }) => !filter.dead || queue.dead.has(record.id)))
      .map(({ record }) => record)
      .filter((record) => matches(record, filter))
      .filter((record) => before === undefined || isAfter(placed(record), before))
      .sort((a, b) => (isAfter(placed(a), placed(b)) ? 1 : -1));
    const page = structuredClone(jobs.slice(0, filter.limit));
    const last = page.at(-1);
    return pageOf(page, last && page.length < jobs.length ? placed(last) : undefined);
  }

  async inputs(id: string): Promise<Uint8Array | undefined> {
    const parts = this.queue(tagOf(id)).jobs.get(id)?.inputs;
    return parts && joinParts(parts);
  }

  async inputsBeginning(id: string, bytes: number): Promise<Uint8Array | undefined> {
    return (await this.inputs(id))?.subarray(0, bytes);
  }

  async sizes(id: string, fence: number): Promise<ValueSizes> {
    const [inputs, outputs] = await Promise.all([this.inputs(id), this.outputs(id, fence)]);
    return { ...(inputs && { inputs: inputs.length }), ...(outputs && { outputs: outputs.length }) };
  }

  async inputsKept(ids: readonly string[]): Promise<Set<string>> {
    return new Set(ids.filter((id) => this.queue(tagOf(id)).jobs.get(id)?.inputs !== undefined));
  }

  async discard(id: string): Promise<boolean> {
    return this.queue(tagOf(id)).discard(id, this.nowMs());
  }

  async waiting(tags: readonly string[]): Promise<WaitingFlow[]> {
    return tags.flatMap((tag) =>
      this.queue(tag)
        .waiting.counts()
        .map((flow) => ({ tag, ...flow })),
    );
  }

  async openQueues(tags: readonly string[], listed?: "listed"): Promise<string[]> {
    return tags.filter((tag) =>
      [...this.queue(tag).jobs.values()].some(({ record }) => !isTerminal(record.state) || (listed && !record.held)),
    );
  }

  async forgetEnded(): Promise<boolean> {
    return false;
  }

  async keepingEnded(): Promise<string[]> {
    return [];
  }

  async sweep(tag: string, matchingHosts: number, batchItems: number): Promise<SweepAnswer> {
    const queue = this.queue(tag);
    const nowMs = this.nowMs();
    let expired = 0;
    for (const id of queue.jobs.keys()) if (queue.expire(id, nowMs)) expired++;
    queue.promote(nowMs);
    const claims = [...queue.claims].flatMap(([incarnation, claim]) =>
      [claim, ...(claim.earlier ? [claim.earlier] : [])].map(({ fences, sequence }) => ({ incarnation, sequence, jobs: fences.size })),
    );
    const open = claims.filter(({ jobs }) => jobs > 0);
    const heads = queue.waiting.heads();
    return {
      nowMs,
      figures: {
        waiting: queue.waiting.waitingJobs,
        running: open.reduce((sum, { jobs }) => sum + jobs, 0),
        oldestMs: Math.max(0, ...heads.map(({ record }) => nowMs - record.createdMs)),
        dead: queue.dead.size,
      },
      expired,
      returned: 0, // nothing is handed over
      doubted: 0,
      toForget: false, // all records end by themselves
      claims: open.map(({ incarnation, sequence }) => ({ incarnation, sequence })),
      tickets: queue.issue(nowMs, matchingHosts, batchItems, true, queue.waiting.firstStartMs()),
    };
  }

  async takeBack(tag: string, incarnation: string, matchingHosts: number, batchItems: number) {
    const queue = this.queue(tag);
    const counts = queue.takeBack(incarnation, this.nowMs());
    return { ...counts, tickets: queue.issue(this.nowMs(), matchingHosts, batchItems, true, queue.waiting.firstStartMs()) };
  }

  async callBack(tag: string, shouldNot: (incarnation: string) => boolean): Promise<void> {
    const queue = this.queue(tag);
    for (const [ticketId, { incarnation }] of [...queue.tickets.all]) {
      if (!shouldNot(incarnation || "-")) continue;
      for (const issued of queue.release(ticketId, incarnation, 0, this.nowMs())) this.#tickets.offer(tag, issued);
    }
  }

  async returnClaim(tag: string, incarnation: string, sequence: number): Promise<number> {
    return this.queue(tag).returnClaim(incarnation, sequence, this.nowMs());
  }

  health(): { answering: boolean; sinceMs: number } {
    return { answering: true, sinceMs: this.#clock.monotonicMs() - this.#startedMs };
  }

  filled(): number {
    return 0;
  }

  nowMs(): number {
    return Math.floor(this.#clock.nowMs());
  }

  /** A host received a ticket: `held`, `gone` or `barred`. The last taker wins. */
  async take({ tag, ticketId, incarnation, how }: HostStep & { how?: "occupied" | "" }): Promise<"held" | "gone" | "barred"> {
    return this.queue(tag).take(ticketId, incarnation, this.nowMs(), how);
  }

  async renew({
    tag,
    ticketId,
    incarnation,
    how,
  }: HostStep & { how?: "occupied" | "leaving" | "" }): Promise<"renewed" | "not_yours" | "barred"> {
    return this.queue(tag).renew(ticketId, incarnation, this.nowMs(), how);
  }

  async claim(step: ClaimStep & { tag: string }): Promise<ClaimAnswer> {
    return this.queue(step.tag).claim(step, this.nowMs());
  }

  /** Writes outputs under their fences, then the outcomes; answers per job as lua/commit.lua does. */
  async commit(
    step: HostStep & {
      runMs: number;
      batchItems: number;
      outcomes: readonly (RunOutcome & { outputs?: Uint8Array })[];
      lingerMs?: number | undefined;
    },
  ): Promise<string[]> {
    const queue = this.queue(step.tag);
    for (const { id, fence, outputs } of step.outcomes) {
      const goneMs = this.nowMs() + (queue.jobs.get(id)?.record.ttlMs ?? 0) + outputMarginMs;
      if (outputs) queue.outputs.set(`${id}:${fence}`, { bytes: outputs, goneMs });
    }
    return queue.commit(step.incarnation, step.ticketId, step, this.nowMs());
  }

  /** Gives a ticket up; answers the tickets to offer in its place. */
  async release(step: HostStep & { matchingHosts: number }): Promise<string[]> {
    return this.queue(step.tag).release(step.ticketId, step.incarnation, step.matchingHosts, this.nowMs());
  }
}
