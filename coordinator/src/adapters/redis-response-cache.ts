/**
 * The response cache on Redis: lua/cache-ask and lua/cache-settle on the queue's own slot, one call of each for all jobs of an event-loop
 * turn. Inputs travel only when a job is about to wait: a hit costs one script.
 */

import { keys, type RawReply, type RedisCommand, type RedisReply, tagOf } from "@switchyard/protocol/redis";
import type { Metrics } from "../ports/metrics.ts";
import type { Asked, CacheableJob, Flight, ResponseCache } from "../ports/response-cache.ts";
import type { TicketQueue } from "../ports/ticket-queue.ts";
import { fixedWordsOf, flowOf, keepOf } from "./job-rows.ts";
import type { RedisConnection } from "./redis-connection.ts";

/** How long inputs outlive the deadline, as for any job. */
const inputMarginMs = 60_000;
const maxJobsPerScript = 200;
/** A follower that has waited so long, or half of its time, runs by itself. */
const longestFollowMs = 30_000;

interface Question {
  job: CacheableJob;
  outputs: boolean;
  stage: "look" | "join";
}

interface Settling {
  flight: Flight;
  abandoned: boolean;
  matchingHosts: number;
  batchItems: number;
}

interface Pending<Of, Answer> {
  of: Of;
  resolve: (answer: Answer) => void;
  reject: (error: unknown) => void;
}

export class RedisResponseCache implements ResponseCache {
  readonly #redis: RedisConnection;
  readonly #tickets: Pick<TicketQueue, "offer">;
  readonly #metrics: Pick<Metrics, "cacheEvicted">;
  readonly #coordinator: string;
  readonly #ask: (question: Question) => Promise<Asked | "follow">;
  readonly #settle: (settling: Settling) => Promise<string>;

  constructor(parts: {
    redis: RedisConnection;
    tickets: Pick<TicketQueue, "offer">;
    metrics: Pick<Metrics, "cacheEvicted">;
    coordinator: string;
  }) {
    this.#redis = parts.redis;
    this.#tickets = parts.tickets;
    this.#metrics = parts.metrics;
    this.#coordinator = parts.coordinator;
    this.#ask = together(
      ({ job }) => tagOf(job.id),
      (questions) => this.#askAll(questions),
    );
    this.#settle = together(
      ({ flight }) => flight.tag,
      (settlings) => this.#settleAll(settlings),
    );
  }

  async ask(job: CacheableJob, { outputs }: { outputs: boolean }): Promise<Asked> {
    const asked = await this.#ask({ job, outputs, stage: "look" });
    if (asked !== "follow") return asked;
    return (await this.#ask({ job, outputs, stage: "join" })) as Asked;
  }

  async #askAll(questions: readonly Question[]): Promise<(Asked | "follow")[]> {
    const { id, model } = (questions[0] as Question).job;
    const tag = tagOf(id);
    const inputs: RedisCommand[] = [];
    const args: (string | number)[] = [this.#coordinator];
    for (const { job, outputs, stage } of questions) {
      const { cache, latestStartMs, tenantWeight, timeoutMs } = job;
      if (stage === "join") inputs.push(["set", keys.input(tag, job.id), job.inputs, "PX", timeoutMs + inputMarginMs]);
      const followMs = Math.min(longestFollowMs, latestStartMs, Math.floor(timeoutMs / 2));
      const waiter = job.wait ? this.#coordinator : "-";
      args.push(cache.key, cache.ttlMs, cache.bytes, job.id, flowOf(job), tenantWeight, timeoutMs, latestStartMs, keepOf(job));
      args.push(job.held ? 0 : 1, waiter, fixedWordsOf(job), followMs, stage, outputs ? 1 : 0);
    }
    const [nowMs, evicted, ...answers] = (await this.#redis.runRaw("cache-ask", keys.base(tag), args, inputs)) as RawReply[];
    this.#count(model, Number(evicted));
    return answers.map((answer) => askedOf(answer as Buffer, Number(nowMs)));
  }

  async settle(
    flight: Flight,
    how: { abandoned: boolean; matchingHosts: number; batchItems: number },
  ): Promise<{ leader: string | undefined }> {
    for (;;) {
      const [word, leader] = (await this.#settle({ flight, ...how })).split(" ");
      if (word !== "more") return { leader };
    }
  }

  async #settleAll(settlings: readonly Settling[]): Promise<string[]> {
    const { flight: first, matchingHosts, batchItems } = settlings[0] as Settling;
    const { tag } = first;
    const args: (string | number)[] = [tag, matchingHosts, batchItems, this.#coordinator];
    for (const { flight, abandoned } of settlings) {
      args.push(flight.cache.key, flight.cache.ttlMs, flight.cache.bytes, abandoned ? flight.leader : "-");
    }
    const [, evicted, tickets, ...answers] = (await this.#redis.run("cache-settle", keys.base(tag), args)) as RedisReply[];
    this.#count(first.model, Number(evicted));
    if (tickets !== "") for (const ticketId of String(tickets).split(" ")) this.#tickets.offer(tag, ticketId);
    return answers.map(String);
  }

  #count(model: string, evicted: number): void {
    if (evicted > 0) this.#metrics.cacheEvicted(model, evicted);
  }
}

const newline = 0x0a;

function askedOf(answer: Buffer, nowMs: number): Asked | "follow" {
  const lineEnd = answer.indexOf(newline);
  const [word, leader = ""] = answer.toString("utf8", 0, lineEnd === -1 ? answer.length : lineEnd).split(" ");
  if (word === "follow") return word;
  if (word === "joined") return { answer: word, nowMs, leader };
  if (word !== "hit") return { answer: word as "lead" };
  return lineEnd === -1 ? { answer: word, nowMs } : { answer: word, nowMs, outputs: answer.subarray(lineEnd + 1) };
}

/** Gathers the calls of one event-loop turn by queue; each group is one call of `send`, which answers in order. */
function together<Of, Answer>(
  tagFor: (of: Of) => string,
  send: (group: readonly Of[]) => Promise<readonly Answer[]>,
): (of: Of) => Promise<Answer> {
  const turns = new Map<string, Pending<Of, Answer>[]>();
  const sendGroup = async (group: readonly Pending<Of, Answer>[]): Promise<void> => {
    try {
      const answers = await send(group.map(({ of }) => of));
      for (const [at, { resolve }] of group.entries()) resolve(answers[at] as Answer);
    } catch (error) {
      for (const { reject } of group) reject(error);
    }
  };
  const flush = (): void => {
    const groups = [...turns.values()];
    turns.clear();
    for (const group of groups) {
      for (let from = 0; from < group.length; from += maxJobsPerScript) void sendGroup(group.slice(from, from + maxJobsPerScript));
    }
  };
  return (of) =>
    new Promise((resolve, reject) => {
      if (turns.size === 0) setImmediate(flush);
      const tag = tagFor(of);
      const group = turns.get(tag);
      if (group) group.push({ of, resolve, reject });
      else turns.set(tag, [{ of, resolve, reject }]);
    });
}
