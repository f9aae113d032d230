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
  | { kind: "empty" | "retired" | "not_yours" | "barred" | "stale_sequence" | "uncommitted" };

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

/** What became of the parts of an exchange. */
export interface Exchanged {
  /** Per job of the commit; or only "barred". */
  committed?: string[];
  claim?: ClaimAnswer;
  commitRefused?: Error;
  claimRefused?: Error;
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

  /**
   * Sends a commit, a claim, or both in one write. A part that is neither answered nor refused got no reply and may have happened: send it
   * again. Outputs that the store refused show as `no_output` in the commit's answer. Throws while the connection is away.
   */
  async exchange(commit: Commit | undefined, wish: ClaimWish | undefined): Promise<Exchanged> {
    const commands = commit ? this.#commitCommands(commit) : [];
    const commitAt = commands.length - 1;
    if (wish) commands.push(this.#claimCommand(wish));
    const replies = await sendTogether(this.#redis, commands);
    const answer: Exchanged = {};
    if (commit) {
      const reply = replies[commitAt] as RawReply | Error;
      if (!(reply instanceof Error)) answer.committed = replyText(reply) as string[];
      else if (isRefusal(reply)) answer.commitRefused = reply;
    }
    if (wish) {
      const reply = replies.at(-1) as RawReply | Error;
      if (!(reply instanceof Error)) answer.claim = this.#readClaim(wish, reply);
      else if (isRefusal(reply)) answer.claimRefused = reply;
    }
    return answer;
  }

  /** The framed inputs of claimed jobs, in order; null where they are gone. */
  async inputs(tag: string, jobs: readonly ClaimedJob[]): Promise<(Buffer | null)[]> {
    const [values] = await sendTogether(this.#redis, [["mget", ...jobs.map((job) => keys.input(tag, job.id))]]);
    if (values instanceof Error) throw values;
    return values as (Buffer | null)[];
  }
}

/** Redis answered with an error about this very command; one that every command would get now is as good as no answer. */
function isRefusal(error: Error): boolean {
  return (
    error.name === "ReplyError" &&
    !/^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|MISCONF|NOREPLICAS|UNBLOCKED)\b/.test(error.message)
  );
}
