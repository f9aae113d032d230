/**
 * Commits that Redis has not settled yet: what became of a claim's jobs, until each job is answered for. Owns when a commit is tried
 * again and when it is given up. A claim with an open job keeps its queue closed to this host, so a queue whose commit waits is not
 * looked into. Pure but for its own list; times are local monotonic milliseconds.
 */

import type { CountedRun } from "@switchyard/protocol";
import type { ClaimedJob, Commit, JobResult } from "./claims.ts";
import type { FollowedBatch } from "./followed-batch.ts";
import { handBack } from "./run-claim.ts";

export interface OpenCommit {
  commit: Commit;
  /** Of the claim that it ends. */
  readonly sequence: number;
  /** When that claim was sent, later by what its batch waited for the run before it, and when its answer came. */
  readonly claimedMs: number;
  readonly cameMs: number;
  /** Runs of it that succeeded, and how long each of its jobs had waited: what is counted when it is settled. */
  readonly runs: readonly CountedRun[];
  readonly queueMs: readonly number[];
  /** Only where somebody follows its jobs. */
  readonly followed?: FollowedBatch | undefined;
  /** Of its jobs, and what is added to a deadline of theirs to make it one by the local clock. */
  readonly jobs: readonly Pick<ClaimedJob, "id" | "deadlineMs">[];
  readonly deadlineOffsetMs: number;
  /** Tries after which jobs were still open; 0 is one that was never answered. */
  failures: number;
  /** The store had no room for its outputs. */
  noRoom: boolean;
  dueMs: number;
}

const firstWaitMs = 200;
const longestWaitMs = 5_000;

export class OpenCommits {
  readonly #open = new Set<OpenCommit>();

  get size(): number {
    return this.#open.size;
  }

  add(
    commit: Commit,
    claim: Pick<OpenCommit, "sequence" | "jobs" | "deadlineOffsetMs" | "claimedMs" | "cameMs" | "runs" | "queueMs" | "followed">,
  ): void {
    const { sequence, jobs, deadlineOffsetMs, claimedMs, cameMs, runs, queueMs, followed } = claim;
    this.#open.add({
      commit,
      sequence,
      jobs,
      deadlineOffsetMs,
      claimedMs,
      cameMs,
      runs,
      queueMs,
      followed,
      failures: 0,
      noRoom: false,
      dueMs: 0,
    });
  }

  /** Those to send now, those that were never answered first. */
  due(nowMs: number): OpenCommit[] {
    return [...this.#open].filter((open) => open.dueMs <= nowMs).sort((left, right) => left.failures - right.failures);
  }

  /** When the next one is due; undefined when none is open. */
  nextDueMs(): number | undefined {
    return this.#open.size === 0 ? undefined : Math.min(...[...this.#open].map((open) => open.dueMs));
  }

  /** Whether the queue must wait until a commit is settled. One that goes in the same write as the claim does not count. */
  blocks(tag: string): boolean {
    for (const open of this.#open) if (open.failures > 0 && open.commit.tag === tag) return true;
    return false;
  }

  /** Outputs that wait for room in the store. */
  waitingBytes(): number {
    let sum = 0;
    for (const { failures, commit } of this.#open) {
      if (failures > 0) for (const result of commit.results) if (result.outcome === "succeeded") sum += result.outputs.length;
    }
    return sum;
  }

  /** Whether the queue has one beside this one. */
  hasOthers(tag: string, than: OpenCommit | undefined): boolean {
    for (const open of this.#open) if (open.commit.tag === tag && open.sequence !== than?.sequence) return true;
    return false;
  }

  /** Claims with open jobs. */
  claims(): { tag: string; sequence: number }[] {
    const claims: { tag: string; sequence: number }[] = [];
    for (const { commit, sequence } of this.#open) {
      const { tag } = commit;
      if (!claims.some((claim) => claim.tag === tag && claim.sequence === sequence)) claims.push({ tag, sequence });
    }
    return claims;
  }

  /** Redis answered per job. Jobs whose outputs it refused stay open. Answers the results that are given up: their deadlines have passed. */
  answered(open: OpenCommit, answers: readonly string[], nowMs: number): JobResult[] {
    const again = open.commit.results.filter((_result, at) => answers[at] === "no_output");
    open.noRoom = again.length > 0;
    return this.#again(open, again, nowMs);
  }

  /** The script itself failed: each job is tried alone, so that one cannot hold its neighbours. Answers the results that are given up. */
  refused(open: OpenCommit, nowMs: number, how: { isLastTry: boolean }): JobResult[] {
    const { results } = open.commit;
    if (results.length === 1 && !how.isLastTry) return this.#again(open, results, nowMs);
    this.#open.delete(open);
    if (results.length === 1) return results;
    for (const result of results) this.#open.add({ ...open, commit: { ...open.commit, results: [result] }, failures: 1, dueMs: nowMs });
    return [];
  }

  /** The host ends: nothing waits for its turn, and outputs that found no room are dropped, so that their jobs run elsewhere. */
  hurry(): void {
    for (const open of this.#open) {
      open.dueMs = 0;
      if (open.noRoom) open.commit = { ...open.commit, results: open.commit.results.map(handBack) };
    }
  }

  #again(open: OpenCommit, results: readonly JobResult[], nowMs: number): JobResult[] {
    if (results.length === 0) {
      this.#open.delete(open);
      return [];
    }
    const late = new Set(open.jobs.filter(({ deadlineMs }) => deadlineMs + open.deadlineOffsetMs <= nowMs).map(({ id }) => id));
    const kept = results.filter(({ id }) => !late.has(id));
    if (kept.length === 0) this.#open.delete(open);
    open.commit = { ...open.commit, results: kept };
    open.dueMs = nowMs + Math.min(firstWaitMs * 2 ** open.failures, longestWaitMs);
    open.failures += 1;
    return results.filter((result) => !kept.includes(result));
  }
}
