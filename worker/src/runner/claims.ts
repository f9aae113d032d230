/**
 * The host's side of the ticket protocol as calls: claim and commit on the runner's own connection, the bytes by plain commands.
 * Every step may be repeated after a lost reply: claims by their sequence, commits by their fences.
 */

import type { JobClass, JobError } from "@switchyard/protocol";
import { keys, type RawReply, type RedisCommand, replyText } from "@switchyard/protocol/redis";
import type { Redis } from "ioredis";
import { scriptCommand, sendTogether } from "../redis-connection.ts";

export interface ClaimedJob {
  id: string;
  fence: number;
  deadlineMs: number;
  items: number;
  attempt: number;
  createdMs: number;
  class: JobClass;
  /** How long its outputs live. */
  ttlMs: number;
}

export type ClaimAnswer =
  | { kind: "batch"; nowMs: number; sequence: number; jobs: ClaimedJob[] }
  | { kind: "empty" | "retired" | "not_yours" | "barred" | "stale_sequence" | "uncommitted" }
  | { kind: "later"; dueMs: number };

export interface ClaimWish {
  tag: string;
  ticketId: string;
  maxItems: number;
  /** Predicted run and a margin: until then the ticket counts as busy. */
  busyMs: number;
  /** 0: retire the ticket if nothing waits. */
  lingerMs: number;
}

export type JobResult =
  | { id: string; fence: number; outcome: "succeeded"; outputs: Uint8Array; ttlMs: number }
  | { id: string; fence: number; outcome: "failed" | "retry" | "back"; error?: JobError; retryDelayMs?: number };

export interface Commit {
  tag: string;
  ticketId: string;
  runMs: number;
  batchItems: number;
  results: JobResult[];
}

/** Outputs live a little longer than any record that may point at them. */
export const outputMarginMs = 5_000;

export class Claims {
  readonly #redis: Redis;
  readonly #incarnation: string;
  readonly #hostId: string;
  readonly #sequences = new Map<string, number>();

  constructor(parts: { redis: Redis; incarnation: string; hostId: string }) {
    this.#redis = parts.redis;
    this.#incarnation = parts.incarnation;
    this.#hostId = encodeURIComponent(parts.hostId); // a word of the record
  }

  #claimCommand(wish: ClaimWish): RedisCommand {
    const sequence = (this.#sequences.get(wish.tag) ?? 0) + 1;
    const args = [wish.tag, this.#incarnation, sequence, wish.ticketId, this.#hostId, wish.maxItems, Math.ceil(wish.busyMs), wish.lingerMs];
    return scriptCommand("claim", keys.base(wish.tag), args);
  }

  #readClaim(wish: ClaimWish, reply: RawReply): ClaimAnswer {
    const row = replyText(reply) as (string | number)[];
    const kind = row[0] as ClaimAnswer["kind"];
    if (kind === "later") return { kind, dueMs: Number(row[2]) };
    const sequence = (this.#sequences.get(wish.tag) ?? 0) + 1;
    // that sequence was given back in this host's name meanwhile: the next one is accepted
    if (kind === "stale_sequence") this.#sequences.set(wish.tag, sequence);
    if (kind !== "batch") return { kind };
    this.#sequences.set(wish.tag, sequence);
    const jobs: ClaimedJob[] = [];
    for (let at = 2; at < row.length; at += 8) {
      jobs.push({
        id: row[at] as string,
        fence: Number(row[at + 1]),
        deadlineMs: Number(row[at + 2]),
        items: Number(row[at + 3]),
        attempt: Number(row[at + 4]),
        createdMs: Number(row[at + 5]),
        class: row[at + 6] as JobClass,
        ttlMs: Number(row[at + 7]),
      });
    }
    return { kind, nowMs: Number(row[1]), sequence, jobs };
  }

  #commitCommands(commit: Commit): RedisCommand[] {
    const commands: RedisCommand[] = [];
    const args: (string | number)[] = [this.#incarnation, commit.ticketId, Math.round(commit.runMs * 1_000) / 1_000, commit.batchItems];
    for (const result of commit.results) {
      if (result.outcome === "succeeded") {
        commands.push(["set", keys.output(commit.tag, result.id, result.fence), result.outputs, "PX", result.ttlMs + outputMarginMs]);
        args.push(result.id, result.fence, "succeeded", "", 0);
      } else {
        args.push(
          result.id,
          result.fence,
          result.outcome,
          result.error ? JSON.stringify(result.error) : "",
          Math.round(result.retryDelayMs ?? 0),
        );
      }
    }
    commands.push(scriptCommand("commit", keys.base(commit.tag), args));
    return commands;
  }

  /** Sends a commit, a claim, or both in one write. Answers per job of the commit, and the claim's answer. */
  async exchange(commit: Commit | undefined, wish: ClaimWish | undefined): Promise<{ committed: string[]; claim?: ClaimAnswer }> {
    const commands = commit ? this.#commitCommands(commit) : [];
    const commitAt = commands.length - 1;
    if (wish) commands.push(this.#claimCommand(wish));
    const replies = await sendTogether(this.#redis, commands);
    // claim last: its sequence must be taken even when something before it failed
    const claimReply = wish ? replies.at(-1) : undefined;
    const claim = wish && !(claimReply instanceof Error) ? this.#readClaim(wish, claimReply as RawReply) : undefined;
    for (const reply of replies) if (reply instanceof Error) throw new ExchangeError(reply, claim);
    const committed = commit ? (replyText(replies[commitAt] as RawReply) as string[]) : [];
    return claim ? { committed, claim } : { committed };
  }

  /** The framed inputs of claimed jobs, in order; null where they are gone. */
  async inputs(tag: string, jobs: readonly ClaimedJob[]): Promise<(Buffer | null)[]> {
    const [values] = await sendTogether(this.#redis, [["mget", ...jobs.map((job) => keys.input(tag, job.id))]]);
    if (values instanceof Error) throw values;
    return values as (Buffer | null)[];
  }
}

/** A part of an exchange was refused by Redis; the claim may have been answered all the same. */
export class ExchangeError extends Error {
  readonly claim: ClaimAnswer | undefined;
  constructor(cause: Error, claim: ClaimAnswer | undefined) {
    super(cause.message, { cause });
    this.claim = claim;
  }
}
