/**
 * What passes between a host and the store in a batch's life: the commit of one and the look for the next, in one write, repeated until both are answered.
 * Owns what is told and counted when a commit is answered, and hears the store's time in the answers of claims.
 */

import type { Clock } from "../clock.ts";
import { type Batch, retryExchangeMs } from "./batch-runs.ts";
import type { ClaimAnswer, Claims, ClaimWish, Commit, Exchanged } from "./claims.ts";
import { type FollowedBatch, settledJobs } from "./followed-batch.ts";
import type { FromRunner } from "./messages.ts";
import type { OpenCommit, OpenCommits } from "./open-commits.ts";
import type { RunFigures } from "./run-figures.ts";
import type { RunTallies } from "./run-tallies.ts";
import type { StoreClock } from "./store-clock.ts";

/** What a look came to; `refused`: the store answered with an error. */
export type Answer = Batch | Exclude<ClaimAnswer, { kind: "batch" }> | { kind: "refused" };

const triesToGiveBack = 3;

interface Parts {
  claims: Pick<Claims, "exchange" | "giveBackUnheard">;
  clock: Pick<Clock, "monotonicMs" | "sleep">;
  commits: OpenCommits;
  figures: RunFigures;
  storeClock: StoreClock;
  tallies: Pick<RunTallies, "settled">;
  tell: (message: FromRunner) => void;
  /** The host is to end: nothing is waited for. */
  isEnding: () => boolean;
  /** A commit was answered: the host may have fewer claims in hand. */
  settled: () => void;
}

export class Exchanges {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /**
   * Commits and looks in one write, and repeats what got no reply: both may be. Answers what the claim came to; nothing when there was
   * none, or only it was left to repeat and the host is to end, or it was made ahead: what it may have taken goes back by the sweeper.
   */
  async send(open: OpenCommit | undefined, look: ClaimWish | undefined): Promise<Answer | undefined> {
    const { claims, clock, isEnding } = this.#parts;
    let [commit, wish] = [open?.commit, look];
    let claimed: Answer | undefined;
    let isRepeat = false;
    while (commit || wish) {
      const sentMs = clock.monotonicMs();
      if (open?.followed) open.followed.sentMs ??= this.#parts.storeClock.nowMs();
      const answer: Exchanged = await claims.exchange(commit, wish).catch(() => ({}));
      if (open && commit && (answer.committed || answer.commitRefused)) {
        this.#count(open, answer, { sent: commit, isRepeat });
        if (open.followed && answer.committed) this.#tellSettled(open.followed, commit, { committed: answer.committed, isRepeat });
        this.#settle(open, answer);
        commit = undefined;
      }
      if (wish && answer.claimRefused) {
        claimed = { kind: "refused" };
        this.#trouble(wish.tag, `a claim failed: ${answer.claimRefused.message}`);
      }
      // while the commit before it is unheard of, "uncommitted" says nothing
      if (answer.claim && !(answer.claim.kind === "uncommitted" && commit)) claimed = this.#timed(answer.claim, sentMs);
      if (claimed && open && look?.tag === open.commit.tag)
        this.#parts.figures.settled(look.tag, { jobs: open.commit.results.length, leftNothing: claimed.kind === "empty" });
      if (claimed) wish = undefined;
      // what a claim ahead may have taken is answered to the next claim; results do not wait for it
      if (!commit && (isEnding() || wish?.isAhead)) break;
      isRepeat = true;
      if (commit || wish) await clock.sleep(retryExchangeMs);
    }
    if (wish && isEnding()) await this.#giveBackUnheard(wish.tag);
    return claimed;
  }

  /** What a host that ends may have claimed without hearing of it: its goodbye would be taken for its death, which costs these jobs an attempt. */
  async #giveBackUnheard(tag: string): Promise<void> {
    const { claims, clock } = this.#parts;
    for (let tries = 0; tries < triesToGiveBack; tries++) {
      if (tries > 0) await clock.sleep(retryExchangeMs);
      const isHeard = await claims.giveBackUnheard(tag).then(
        () => true,
        () => false,
      );
      if (isHeard) return;
    }
  }

  #timed(claim: ClaimAnswer, sentMs: number): Answer {
    if (!("nowMs" in claim) || claim.nowMs === undefined) return claim as Answer;
    this.#parts.storeClock.heard(claim.nowMs, sentMs);
    return claim.kind === "batch" ? { ...claim, sentMs } : claim;
  }

  #settle(open: OpenCommit, answer: Exchanged): void {
    const { clock, commits, figures, isEnding, tell } = this.#parts;
    const { commit, failures } = open;
    const nowMs = clock.monotonicMs();
    // where nothing ran, what was waited for says nothing of others
    if (failures === 0 && open.runs.length > 0)
      figures.claimTook(commit.tag, { overheadMs: Math.max(0, nowMs - open.claimedMs - commit.runMs), atMs: nowMs });
    const { committed, commitRefused } = answer;
    if (committed?.[0] === "barred") tell({ kind: "barred" });
    const givenUp = commitRefused
      ? commits.refused(open, nowMs, { isLastTry: isEnding() })
      : commits.answered(open, committed ?? [], nowMs);
    // told as in hand it would never be given back where the store does not know of this commit: a replica took over that had not heard of it
    this.#parts.settled();
    if (isEnding()) commits.hurry();
    if (commitRefused && failures <= 1)
      this.#trouble(commit.tag, `a commit of ${commit.results.length} jobs failed: ${commitRefused.message}`);
    if (open.noRoom && failures === 0)
      this.#trouble(commit.tag, "the store has no room for outputs; their jobs wait for it until their deadlines");
    if (givenUp.length > 0) this.#trouble(commit.tag, `could not be committed and was given up: ${givenUp.map(({ id }) => id).join(", ")}`);
  }

  /**
   * Runs and successes together, so that no report tells one without the other. `isRepeat`: it was sent before, and may have been done then; a
   * job that has ended is taken for one that it has ended.
   */
  #count({ cameMs, failures, queueMs, runs }: OpenCommit, { committed = [] }: Exchanged, how: { sent: Commit; isRepeat: boolean }): void {
    let succeeded = 0;
    for (const [at, { outcome }] of how.sent.results.entries()) {
      const answer = committed[at];
      if (outcome === "succeeded" && (answer === "committed" || (how.isRepeat && answer === "ended"))) succeeded += 1;
    }
    const localMs = this.#parts.clock.monotonicMs();
    const nowMs = this.#parts.storeClock.storeMs(localMs);
    const settled = { runs, isFirst: failures === 0, succeeded, queueMs, sinceClaimMs: localMs - cameMs, nowMs };
    this.#parts.tallies.settled(how.sent.tag, settled);
  }

  #tellSettled(followed: FollowedBatch, sent: Commit, how: { committed: readonly string[]; isRepeat: boolean }): void {
    const jobs = settledJobs(followed, sent, how);
    const settledMs = this.#parts.storeClock.nowMs();
    const { batchJobs, beganMs, claimedMs, ranMs, sentMs = settledMs } = followed;
    const { batchItems: items, runMs, tag } = sent;
    const times = { claimedMs, beganMs, ranMs, sentMs, settledMs, runMs };
    if (jobs.length > 0) this.#parts.tell({ kind: "settled", tag, ...times, batchJobs, items, jobs });
  }

  #trouble(tag: string, message: string): void {
    this.#parts.tell({ kind: "trouble", tag, message });
  }
}
