/**
 * Tickets from BullMQ: the only file of a host that imports it. Subscribes to the queues of warm models and to the cold queue; hands each
 * ticket to one callback and ends it when that resolves. Nothing is read from a ticket but its id.
 */

import { bullPrefix, coldQueueName, tagOf, ticketQueueName } from "@switchyard/protocol/redis";
import { Queue, Worker } from "bullmq";
import type { Clock } from "../clock.ts";
import type { RedisClient } from "../redis-client.ts";

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
  connection: RedisClient;
  hostId: string;
  clock: Clock;
  onTicket: OnTicket;
  onTrouble: (message: string) => void;
  onLockLost: () => void;
}

/** `{tag}`, `{tag@profile}` */
const tagIn = (queueName: string): string => queueName.slice(1, -1).split("@", 1)[0] as string;

export class TicketIntake {
  readonly #parts: Parts;
  readonly #workers = new Map<string, Worker>();
  readonly #queues = new Map<string, Queue>();
  #paused = false;
  #resting = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** The cold queue of all hosts, and that of hosts with this one's profile. */
  async subscribeCold(profile: string): Promise<void> {
    for (const name of [coldQueueName(), coldQueueName(profile)]) await this.#subscribe(name, true, coldTicketsAtOnce);
  }

  /** Resolves when the subscription waits for tickets. With a profile: for those meant for hosts of that profile. */
  async subscribe(tag: string, profile?: string): Promise<void> {
    const name = ticketQueueName(tag, profile);
    await this.#subscribe(name, false, 1);
    for (const other of this.#namesOf(tag)) if (other !== name) await this.#close(other);
  }

  async #subscribe(name: string, cold: boolean, concurrency: number): Promise<void> {
    if (this.#paused || this.#resting) return;
    const begun = this.#workers.get(name);
    if (begun) return void (await begun.waitUntilReady());
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
      lockDuration: 10_000, // lua/lib-tickets reckons with it
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
    try {
      await worker.waitUntilReady();
    } catch (error) {
      // it never will be: whoever asks again gets another
      if (this.#workers.get(name) === worker) this.#workers.delete(name);
      worker.close(true).catch((closing: Error) => this.#parts.onTrouble(closing.message));
      throw error;
    }
    void worker.run().catch((error: Error) => this.#parts.onTrouble(error.message));
  }

  async unsubscribe(tag: string): Promise<void> {
    for (const name of this.#namesOf(tag)) await this.#close(name);
  }

  async #close(name: string): Promise<void> {
    const worker = this.#workers.get(name);
    this.#workers.delete(name);
    await worker?.close();
  }

  #namesOf(tag: string): string[] {
    return [...this.#workers.keys()].filter((name) => tagIn(name) === tag);
  }

  isSubscribed(tag: string): boolean {
    return this.#namesOf(tag).length > 0;
  }

  subscribed(): string[] {
    return [...new Set([...this.#workers.keys()].map(tagIn).filter((tag) => tag !== "cold"))];
  }

  /** Offers tickets that this host's scripts issued to all hosts. */
  async offerCold(ticketIds: readonly string[]): Promise<void> {
    const name = coldQueueName();
    let queue = this.#queues.get(name);
    if (!queue) {
      queue = new Queue(name, { connection: this.#parts.connection as never, prefix: bullPrefix, streams: { events: { maxLen: 100 } } });
      queue.on("error", (error) => this.#parts.onTrouble(error.message));
      this.#queues.set(name, queue);
    }
    for (const jobId of ticketIds) await queue.add("ticket", {}, { ...jobOptions, jobId });
  }

  /** Ends all subscriptions, and takes no others until `resume`. Tickets that run go on. */
  rest(): void {
    this.#resting = true;
    for (const name of [...this.#workers.keys()]) {
      this.#close(name).catch((error: Error) => this.#parts.onTrouble(error.message));
    }
  }

  resume(): void {
    this.#resting = false;
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
