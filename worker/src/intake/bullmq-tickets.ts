/**
 * Tickets from BullMQ: the only file of a host that imports it. Subscribes to the queues of warm models and to the cold queue; hands each
 * ticket to one callback and ends it when that resolves. Nothing is read from a ticket but its id.
 */

import { bullPrefix, coldQueueName, tagOf, ticketQueueName } from "@switchyard/protocol/redis";
import { Queue, Worker } from "bullmq";
import type { Redis } from "ioredis";
import type { Clock } from "../clock.ts";

/** Never throws; resolves when the ticket is over, or needs its place no more. */
export type OnTicket = (tag: string, ticketId: string, cold: boolean) => Promise<void>;

const coldTicketsAtOnce = 8;
/** Redis answers that BullMQ would retry without any delay. */
const refusals = /^(OOM|READONLY|LOADING|MASTERDOWN|NOAUTH|NOPERM)/;

const jobOptions = {
  priority: 1,
  removeOnComplete: true,
  removeOnFail: true,
  attempts: 3,
  backoff: { type: "exponential", delay: 200, jitter: 0.5 },
  stackTraceLimit: 1,
  sizeLimit: 1024,
} as const;

interface Parts {
  /** Shared by all subscriptions for what does not block. */
  connection: Redis;
  hostId: string;
  clock: Clock;
  onTicket: OnTicket;
  onTrouble: (message: string) => void;
  onLockLost: () => void;
}

export class TicketIntake {
  readonly #parts: Parts;
  readonly #workers = new Map<string, Worker>();
  readonly #queues = new Map<string, Queue>();
  #paused = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async subscribeCold(): Promise<void> {
    await this.#subscribe(coldQueueName, true, coldTicketsAtOnce);
  }

  /** Resolves when the subscription waits for tickets. */
  async subscribe(tag: string): Promise<void> {
    await this.#subscribe(ticketQueueName(tag), false, 1);
  }

  async #subscribe(name: string, cold: boolean, concurrency: number): Promise<void> {
    if (this.#workers.has(name) || this.#paused) return;
    // three parameters: BullMQ gives its signal only to processors that declare them
    const process = async (job: { id?: string }, _token?: string, _signal?: AbortSignal): Promise<void> => {
      if (job.id) await this.#parts.onTicket(tagOf(job.id), job.id, cold);
    };
    const worker = new Worker(name, process, {
      connection: this.#parts.connection as never,
      prefix: bullPrefix,
      name: this.#parts.hostId,
      concurrency,
      autorun: false,
      lockDuration: 10_000,
      stalledInterval: 5_000,
      maxStalledCount: 1_000,
      drainDelay: 5,
      runRetryDelay: 500,
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
    });
    this.#workers.set(name, worker);
    worker.on("lockRenewalFailed", () => this.#parts.onLockLost());
    let waitMs = 100;
    worker.on("error", (error) => {
      this.#parts.onTrouble(error.message);
      if (!refusals.test(error.message) || worker.isPaused()) return;
      void worker.pause(true).then(async () => {
        await this.#parts.clock.sleep(waitMs);
        waitMs = Math.min(2 * waitMs, 5_000);
        if (!this.#paused) await worker.resume();
      });
    });
    worker.on("completed", () => {
      waitMs = 100;
    });
    await worker.waitUntilReady();
    void worker.run().catch((error: Error) => this.#parts.onTrouble(error.message));
  }

  async unsubscribe(tag: string): Promise<void> {
    const name = ticketQueueName(tag);
    const worker = this.#workers.get(name);
    if (!worker) return;
    this.#workers.delete(name);
    await worker.close();
  }

  isSubscribed(tag: string): boolean {
    return this.#workers.has(ticketQueueName(tag));
  }

  subscribed(): string[] {
    return [...this.#workers.keys()].filter((name) => name !== coldQueueName).map((name) => name.slice(1, -1));
  }

  /** Offers tickets that this host's scripts issued. */
  async offer(tag: string, ticketIds: readonly string[], cold: boolean): Promise<void> {
    const name = cold ? coldQueueName : ticketQueueName(tag);
    let queue = this.#queues.get(name);
    if (!queue) {
      queue = new Queue(name, { connection: this.#parts.connection as never, prefix: bullPrefix, streams: { events: { maxLen: 100 } } });
      queue.on("error", (error) => this.#parts.onTrouble(error.message));
      this.#queues.set(name, queue);
    }
    for (const jobId of ticketIds) await queue.add("ticket", {}, { ...jobOptions, jobId });
  }

  /** Takes no further tickets. Those that run go on. */
  async pause(): Promise<void> {
    this.#paused = true;
    await Promise.allSettled([...this.#workers.values()].map((worker) => worker.pause(true)));
  }

  /** Ends all subscriptions; after `limitMs` it no longer waits for tickets that are held. */
  async close(limitMs: number): Promise<void> {
    this.#paused = true;
    const workers = [...this.#workers.values()];
    const closed = Promise.allSettled(workers.map((worker) => worker.close()));
    const inTime = await Promise.race([closed.then(() => true), this.#parts.clock.sleep(limitMs).then(() => false)]);
    if (!inTime) await Promise.allSettled(workers.map((worker) => worker.close(true)));
    await Promise.allSettled([...this.#queues.values()].map((queue) => queue.close()));
  }
}
