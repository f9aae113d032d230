/** Tickets through BullMQ: the only file of the coordinator that imports it. Adds, never consumes. */

import { bullPrefix, coldQueueName, type RedisTarget, ticketQueueName } from "@switchyard/protocol/redis";
import { Queue } from "bullmq";
import type { HostDirectory, TicketReach } from "../ports/host-registry.ts";
import type { Metrics } from "../ports/metrics.ts";
import type { TicketQueue } from "../ports/ticket-queue.ts";
import { type RedisClient, ticketClient } from "./redis-client.ts";

/** Queue objects kept; with thousands of models most are offered to rarely. */
const mostQueues = 256;

export class BullmqTickets implements TicketQueue {
  readonly #connection: RedisClient;
  readonly #queues = new Map<string, Queue>();
  readonly #routeOf: HostDirectory["route"];
  readonly #metrics: Metrics;

  constructor(parts: { url: RedisTarget; routeOf: HostDirectory["route"]; metrics: Metrics }) {
    this.#routeOf = parts.routeOf;
    this.#metrics = parts.metrics;
    this.#connection = ticketClient(parts.url, "switchyard-coordinator-tickets");
    this.#connection.on("error", () => {}); // each add reports its own failure
  }

  offer(tag: string, ticketId: string, reach: TicketReach = "best"): void {
    const route = this.#routeOf(tag, reach);
    if (route) this.#add(route.warm ? ticketQueueName(tag, route.profile) : coldQueueName(route.profile), ticketId);
  }

  #add(queueName: string, ticketId: string): void {
    const queue = this.#queues.get(queueName) ?? this.#open(queueName);
    // a ticket that could not be offered is replaced by the sweeper
    queue.add("ticket", {}, { jobId: ticketId }).then(
      () => this.#metrics.ticketOffered(true),
      () => {
        this.#metrics.ticketOffered(false);
        this.#forget(queueName, queue);
      },
    );
  }

  #open(queueName: string): Queue {
    const queue = new Queue(queueName, {
      connection: this.#connection as never,
      prefix: bullPrefix,
      skipWaitingForReady: true,
      streams: { events: { maxLen: 100 } },
      defaultJobOptions: {
        priority: 1,
        removeOnComplete: true,
        removeOnFail: true,
        attempts: 3,
        backoff: { type: "exponential", delay: 200, jitter: 0.5 },
        stackTraceLimit: 1,
        sizeLimit: 1024,
      },
    });
    queue.on("error", () => {}); // each add reports its own failure
    this.#queues.set(queueName, queue);
    const [oldest] = this.#queues;
    if (this.#queues.size > mostQueues && oldest) this.#forget(...oldest);
    return queue;
  }

  /** A BullMQ Queue looks at the server once, when it is made, and keeps a failure for good: one that failed is made anew. */
  #forget(queueName: string, queue: Queue): void {
    if (this.#queues.get(queueName) === queue) this.#queues.delete(queueName);
    queue.close().catch(() => {});
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#queues.values()].map((queue) => queue.close()));
    this.#connection.disconnect();
  }
}
