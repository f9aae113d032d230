/**
 * The host's side of the ticket protocol as calls: claim and commit on the runner's own connection, the bytes by plain commands.
 * Every step may be repeated after a lost reply: claims by their sequence, commits by their fences.
 */

import type { JobClass, JobError, Ladder } from "@switchyard/protocol";
import { keys, type RawReply, type RedisArgument, type RedisCommand, type RedisReply, replyText } from "@switchyard/protocol/redis";
import { mayReadUnnamed, type RedisWire, RunnerCluster, scriptCommand, sendTogether } from "../redis-connection.ts";

export interface ClaimedJob {
  id: string;
  fence: number;
  deadlineMs: number;
  items: number;
  attempt: number;
  createdMs: number;
  class: JobClass;
  /** Runs of one size class take alike. */
  size: number;
  /** How long its outputs live. */
  ttlMs: number;
  /** A trace word (protocol trace-context), where it is traced and that was to be told. */
  trace?: string;
}

export type ClaimAnswer =
  /** `inputs`: those of all jobs, in order, where they came with the claim. */
  | { kind: "batch"; nowMs: number; sequence: number; jobs: ClaimedJob[]; inputs?: (Buffer | null)[] }
  /** Jobs wait for a fuller batch: look again then, by the store's clock. */
  | { kind: "defer"; untilMs: number; nowMs: number }
  /** The store has jobs in an earlier claim of this host, by that sequence. */
  | { kind: "uncommitted"; sequence: number }
  | { kind: "empty"; nowMs?: number }
  | { kind: "retired" | "not_yours" | "barred" | "stale_sequence" };

export interface ClaimWish {
  tag: string;
  ticketId: string;
  maxItems: number;
  /** Predicted run and a margin: until then the ticket counts as busy. */
  busyMs: number;
  /** 0: retire the ticket if nothing waits. */
  lingerMs: number;
  /** From the claim to the commit, without the run. */
  overheadMs: number;
  /** How long jobs may wait for a fuller batch. */
  delayMs: number;
  /** 2: half of what waits is enough for one claim; 1: all that fits. */
  parts: 1 | 2;
  /** The claim before it is still run: `busyMs` and `overheadMs` hold what is left of that. The ticket stays as it is where nothing is claimed. */
  isAhead: boolean;
  /** Predicted runs, by size class. */
  ladders: ReadonlyMap<number, Ladder>;
  /** Where the ticket lingers: a single job may be claimed for this host as it is admitted, if it has so many ms. Absent: it is not to be. */
  handedWithinMs?: number | undefined;
}

/** A job that was claimed for this host as it was admitted: what its next claim would have answered. */
export interface Handed {
  tag: string;
  ticketId: string;
  batch: Extract<ClaimAnswer, { kind: "batch" }>;
}

export type JobResult =
  | { id: string; fence: number; outcome: "succeeded"; outputs: Uint8Array; ttlMs: number }
  /** `late`: not run, because the run could not have ended before the job's deadline. */
  | { id: string; fence: number; outcome: "failed" | "retry" | "back" | "late"; error?: JobError; retryDelayMs?: number };

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

/** Outputs up to this size travel with the commit, the record and the notice; larger ones have a key of their own. */
const recordOutputBytes = 1_024;

/** As in lua/claim.lua: inputs of one batch that together are larger are asked for when the claim is known. */
const mostListedBytes = 262_144;

/** Outputs live a little longer than any record that may point at them. */
export const outputMarginMs = 5_000;

export class Claims {
  readonly #redis: RedisWire;
  readonly #incarnation: string;
  readonly #hostId: string;
  readonly #tellsTraces: boolean;
  readonly #sequences = new Map<string, number>();
  /** Queues whose inputs had to be asked for when they were last, and are not too large to come in the write of the claim. */
  readonly #listed = new Set<string>();
  /** Whether one command may read inputs by a list of ids. */
  #readsByList: boolean;

  /** `tellsTraces`: claims say to which trace their jobs belong. */
  constructor(parts: { redis: RedisWire; incarnation: string; hostId: string; tellsTraces?: boolean }) {
    this.#redis = parts.redis;
    this.#incarnation = parts.incarnation;
    this.#hostId = encodeURIComponent(parts.hostId); // a word of the record
    this.#tellsTraces = parts.tellsTraces ?? false;
    this.#readsByList = mayReadUnnamed(parts.redis);
  }

  /** `follows`: a commit that lets the ticket linger where nothing waits stands before it in the same write. */
  #claimCommand(wish: ClaimWish, { follows, isListed }: { follows: boolean; isListed: boolean }): RedisCommand {
    const sequence = this.#nextSequence(wish.tag);
    const { tag, ticketId, maxItems, busyMs, lingerMs, overheadMs, delayMs, parts, isAhead, ladders } = wish;
    const args: (string | number)[] = [tag, this.#incarnation, sequence, ticketId, this.#hostId, maxItems, Math.ceil(busyMs), lingerMs];
    args.push(Math.ceil(overheadMs), delayMs, parts, isAhead ? "ahead" : follows ? "after" : "alone");
    for (const [size, ladder] of ladders) args.push(`${size} ${ladder.map(([items, ms]) => `${items} ${ms.toFixed(2)}`).join(" ")}`);
    if (this.#tellsTraces) args.push("traced");
    if (isListed) args.push("listed");
    return scriptCommand("claim", keys.base(wish.tag), args);
  }

  #readClaim(wish: ClaimWish, reply: RawReply, listed: (Buffer | null)[] | undefined): ClaimAnswer {
    const row = reply as RawReply[];
    const kind = String(row[0]) as ClaimAnswer["kind"];
    const sequence = this.#nextSequence(wish.tag);
    // that sequence was given back in this host's name meanwhile: the next one is accepted
    if (kind === "stale_sequence") this.#sequences.set(wish.tag, sequence);
    if (kind === "defer") return { kind, untilMs: Number(row[1]), nowMs: Number(row[2]) };
    if (kind === "empty") return { kind, nowMs: Number(row[1]) };
    if (kind === "uncommitted") return { kind, sequence: Number(row[1]) };
    if (kind !== "batch") return { kind };
    this.#sequences.set(wish.tag, sequence);
    const jobs = String(row[2]).split("\n").flatMap(claimedJobs);
    const answer = { kind, nowMs: Number(row[1]), sequence, jobs };
    if (row.length > 3) {
      this.#listed.delete(wish.tag);
      return { ...answer, inputs: row.slice(3) as (Buffer | null)[] };
    }
    return listed?.length === jobs.length ? { ...answer, inputs: listed } : answer;
  }

  /** The inputs of the batch that the claim before it in the same write listed. */
  #listedCommand(tag: string): RedisCommand {
    return ["sort_ro", keys.batch(tag, this.#incarnation), "by", "nosort", "get", keys.input(tag, "*")];
  }

  #readListed(reply: RawReply | Error): (Buffer | null)[] | undefined {
    if (!(reply instanceof Error)) return reply as (Buffer | null)[];
    if (isRefusal(reply)) this.#readsByList = false;
    return undefined;
  }

  /** What stands for the next claim, see lib-handing.lua. In a cluster every node would get the inputs of what is handed over. */
  #standing({ tag, busyMs, maxItems, handedWithinMs }: ClaimWish): string {
    if (handedWithinMs === undefined || this.#redis instanceof RunnerCluster) return "";
    const traced = this.#tellsTraces ? "traced" : "-";
    return [this.#nextSequence(tag), this.#hostId, Math.ceil(busyMs), maxItems, Math.ceil(handedWithinMs), traced].join(" ");
  }

  #nextSequence(tag: string): number {
    return (this.#sequences.get(tag) ?? 0) + 1;
  }

  /** Whether the batch is what the next claim of its queue would answer: then it is as if that had been made. */
  accepts({ batch, tag }: Handed): boolean {
    if (batch.sequence !== this.#nextSequence(tag)) return false;
    this.#sequences.set(tag, batch.sequence);
    return true;
  }

  /** What neighbours have in common is said once. `lingers`: the look behind it, whose ticket lingers where no job is open afterwards. */
  #commitCommands(commit: Commit, lingers: ClaimWish | undefined): RedisCommand[] {
    const commands: RedisCommand[] = [];
    const runMs = Math.round(commit.runMs * 1_000) / 1_000;
    const args: RedisArgument[] = [this.#incarnation, commit.ticketId, runMs, commit.batchItems];
    args.push(lingers?.lingerMs ?? 0, lingers ? this.#standing(lingers) : "");
    let common: readonly [fence: number, outcome: string, error: string] | undefined;
    let countAt = 0;
    for (const result of commit.results) {
      const { fence, id, outcome } = result;
      const own = [fence, outcome, outcome !== "succeeded" && result.error ? JSON.stringify(result.error) : ""] as const;
      if (!common?.every((word, at) => word === own[at])) {
        countAt = args.push(...own, 0) - 1;
        common = own;
      }
      args[countAt] = Number(args[countAt]) + 1;
      if (outcome !== "succeeded") args.push(id, Math.round(result.retryDelayMs ?? 0));
      else if (result.outputs.length <= recordOutputBytes) args.push(id, result.outputs);
      else {
        commands.push(["set", keys.output(commit.tag, id, fence), result.outputs, "PX", result.ttlMs + outputMarginMs]);
        args.push(id, "");
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
    // then the claim behind it needs no look of its own
    const lingers = wish && !wish.isAhead && wish.ticketId === commit?.ticketId && wish.lingerMs > 0 ? wish : undefined;
    const commands = commit ? this.#commitCommands(commit, lingers) : [];
    const commitAt = commands.length - 1;
    const isListed = wish !== undefined && this.#readsByList && this.#listed.has(wish.tag);
    if (wish) commands.push(this.#claimCommand(wish, { follows: lingers !== undefined, isListed }));
    if (isListed) commands.push(this.#listedCommand(wish.tag));
    const replies = await sendTogether(this.#redis, commands);
    const answer: Exchanged = {};
    if (commit) {
      const reply = replies[commitAt] as RawReply | Error;
      if (!(reply instanceof Error)) answer.committed = committedOf(replyText(reply), commit);
      else if (isRefusal(reply)) answer.commitRefused = reply;
    }
    if (wish) {
      const reply = replies[commitAt + 1] as RawReply | Error;
      const listed = isListed ? this.#readListed(replies[commitAt + 2] as RawReply | Error) : undefined;
      if (!(reply instanceof Error)) answer.claim = this.#readClaim(wish, reply, listed);
      else if (isRefusal(reply)) answer.claimRefused = reply;
    }
    return answer;
  }

  /**
   * A claim that the store has and this host has not: its jobs go back to their places, and cost no attempt. Answers how many; those that are over do not
   * count, and a repeat finds none. Throws while the connection is away, and what the store answers as an error.
   */
  async giveBack(tag: string, sequence: number): Promise<number> {
    const [reply] = await sendTogether(this.#redis, [scriptCommand("return-claim", keys.base(tag), [this.#incarnation, sequence])]);
    if (reply instanceof Error) throw reply;
    return Number(reply);
  }

  /** The claim that was sent last, if it was made: no answer to it has come. */
  giveBackUnheard(tag: string): Promise<number> {
    return this.giveBack(tag, this.#nextSequence(tag));
  }

  /** The framed inputs of claimed jobs, in order; null where they are gone. */
  async inputs(tag: string, jobs: readonly ClaimedJob[]): Promise<(Buffer | null)[]> {
    const [values] = await sendTogether(this.#redis, [["mget", ...jobs.map((job) => keys.input(tag, job.id))]]);
    if (values instanceof Error) throw values;
    const inputs = values as (Buffer | null)[];
    if (inputs.reduce((sum, input) => sum + (input?.length ?? 0), 0) <= mostListedBytes) this.#listed.add(tag);
    else this.#listed.delete(tag);
    return inputs;
  }
}

/** What is heard on the channel of wake-ups: a queue to look into, or what was claimed there (lua/lib-handing.lua). */
export function heardOf(message: Buffer): { tag: string; handed?: Handed } {
  const headEnd = message.indexOf("\n");
  if (headEnd < 0) return { tag: message.toString() };
  const [tag, ticketId, sequence, nowMs] = message.toString("latin1", 0, headEnd).split(" ") as [string, string, string, string];
  const lineEnd = message.indexOf("\n", headEnd + 1);
  const jobs = claimedJobs(message.toString("utf8", headEnd + 1, lineEnd));
  const batch: Handed["batch"] = { kind: "batch", nowMs: Number(nowMs), sequence: Number(sequence), jobs };
  // the connection reads what comes next into the same memory
  if (lineEnd + 1 < message.length) batch.inputs = [Buffer.from(message.subarray(lineEnd + 1))];
  return { tag, handed: { tag, ticketId, batch } };
}

/** A line of lua/claim.lua: jobs that are alike but for their ids. */
function claimedJobs(line: string): ClaimedJob[] {
  const [ids, fence, attempt, keep, deadline, created, jobClass, items, size, trace] = line.split(" ") as [string, ...string[]];
  const alike: Omit<ClaimedJob, "id"> = {
    fence: Number(fence),
    deadlineMs: Number(deadline),
    items: Number(items),
    attempt: Number(attempt),
    createdMs: Number(created),
    class: jobClass as JobClass,
    size: Number(size),
    ttlMs: Number(keep?.slice(1)),
  };
  if (trace !== undefined) alike.trace = trace;
  return ids.split(",").map((id) => ({ id, ...alike }));
}

/** Per job; one word stands for all when it is "committed". */
function committedOf(reply: RedisReply, commit: Commit): string[] {
  return typeof reply === "string" ? commit.results.map(() => reply) : (reply as string[]);
}

/** Redis answered with an error about this very command; one that every command would get now is as good as no answer. */
export function isRefusal(error: Error): boolean {
  return (
    error.name === "ReplyError" &&
    !/^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|MISCONF|NOREPLICAS|UNBLOCKED)\b/.test(error.message)
  );
}
