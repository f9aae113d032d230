/**
 * One device's loop: look into a queue, run what it gives, commit, look again. Commit of one claim and the next look travel in one write.
 * ONNX Runtime blocks this thread during a run, so nothing here keeps time for anybody else.
 */

import { type ModelVersion, SwitchyardError } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { LoadedModel } from "../runtime/loaded-model.ts";
import { type ClaimAnswer, type Claims, type ClaimWish, type Commit, ExchangeError, type JobResult } from "./claims.ts";
import type { InputFrame, LargeValues } from "./large-values.ts";
import type { ClaimBoard, FromRunner } from "./messages.ts";
import { failedResult, runClaim } from "./run-claim.ts";
import { type HeldTicket, TicketRotation } from "./ticket-rotation.ts";

/** Commits hold their place while Redis is away; each failed exchange waits this long. */
const retryExchangeMs = 200;
const busyMarginMs = 500;

export interface ModelSource {
  /** The loaded model; throws SwitchyardError with the reason when it cannot be loaded. */
  ensure(version: ModelVersion): Promise<LoadedModel>;
  /** Keeps a loaded model in memory until the answered function is called; throws when it has gone meanwhile. */
  pin(version: ModelVersion): () => void;
}

export interface RunnerParts {
  claims: Claims;
  largeValues: LargeValues;
  models: ModelSource;
  clock: Clock;
  lingerMs: number;
  board: ClaimBoard;
  tell: (message: FromRunner) => void;
}

interface Pending {
  ticket: HeldTicket;
  commit: Commit;
}

export class Runner {
  readonly #parts: RunnerParts;
  readonly #rotation = new TicketRotation();
  readonly #longestRunMs = new Map<string, number>();
  #draining = false;
  #nudge: () => void = () => {};

  constructor(parts: RunnerParts) {
    this.#parts = parts;
  }

  serve(ticketId: string, version: ModelVersion): void {
    if (this.#draining) {
      this.#parts.tell({ kind: "ended", ticketId, release: true });
      return;
    }
    this.#rotation.add(ticketId, version);
    this.#nudge();
  }

  wake(tag: string): void {
    this.#rotation.wake(tag);
    this.#nudge();
  }

  drain(): void {
    this.#draining = true;
    this.#nudge();
  }

  /** Runs until drained. */
  async run(): Promise<void> {
    let pending: Pending | undefined;
    for (;;) {
      if (this.#draining && !pending) return this.#giveUp();
      const ticket = this.#draining ? undefined : this.#rotation.next(this.#parts.clock.monotonicMs());
      if (!ticket && !pending) {
        await this.#idle();
        continue;
      }
      const held = ticket ? await this.#ensure(ticket) : undefined;
      const claim = await this.#exchange(pending, ticket, held?.model);
      pending = undefined;
      if (ticket && claim) pending = await this.#follow(ticket, claim, held?.model);
      held?.unpin();
    }
  }

  /** The model, pinned, or why there is none; then its jobs are claimed all the same and told so. */
  async #ensure(ticket: HeldTicket): Promise<{ model: LoadedModel | SwitchyardError; unpin: () => void }> {
    const { models } = this.#parts;
    for (;;) {
      let model: LoadedModel;
      try {
        model = await models.ensure(ticket.version);
      } catch (error) {
        const known = error instanceof SwitchyardError ? error : new SwitchyardError("model_not_ready", "the model could not be loaded");
        return { model: known, unpin: () => {} };
      }
      try {
        return { model, unpin: models.pin(ticket.version) };
      } catch {
        // another load took its room between the two calls: load it again
      }
    }
  }

  #wish(ticket: HeldTicket, model: LoadedModel | SwitchyardError): ClaimWish {
    const tag = ticket.version.tag;
    return {
      tag,
      ticketId: ticket.ticketId,
      maxItems: model instanceof SwitchyardError ? 64 : model.batching.maxItems,
      busyMs: 2 * (this.#longestRunMs.get(tag) ?? 0) + busyMarginMs,
      lingerMs: ticket.mode === "closing" ? 0 : this.#parts.lingerMs,
    };
  }

  /** Commits and looks in one write, until Redis has answered. Both may be repeated. */
  async #exchange(
    pending: Pending | undefined,
    ticket: HeldTicket | undefined,
    model: LoadedModel | SwitchyardError | undefined,
  ): Promise<ClaimAnswer | undefined> {
    let commit = pending?.commit;
    let claimed: ClaimAnswer | undefined;
    for (;;) {
      const wish = ticket && model && !claimed ? this.#wish(ticket, model) : undefined;
      try {
        const answer = await this.#parts.claims.exchange(commit, wish);
        claimed ??= answer.claim;
        commit = this.#afterCommit(commit, answer.committed);
      } catch (error) {
        if (error instanceof ExchangeError) claimed ??= error.claim;
        await this.#parts.clock.sleep(retryExchangeMs);
        continue;
      }
      // an earlier claim still has jobs: their outputs did not fit into the store
      if (claimed?.kind === "uncommitted" && commit) claimed = undefined;
      if (!commit) return claimed;
      await this.#parts.clock.sleep(retryExchangeMs);
    }
  }

  /** What must be committed again: jobs whose outputs the store refused. */
  #afterCommit(commit: Commit | undefined, answers: readonly string[]): Commit | undefined {
    if (!commit) return undefined;
    if (answers[0] === "barred") this.#parts.tell({ kind: "barred" });
    const again = commit.results.filter((_result, at) => answers[at] === "no_output");
    return again.length > 0 ? { ...commit, results: again } : undefined;
  }

  async #follow(ticket: HeldTicket, claim: ClaimAnswer, model: LoadedModel | SwitchyardError | undefined): Promise<Pending | undefined> {
    switch (claim.kind) {
      case "batch":
        ticket.mode = "active";
        return { ticket, commit: await this.#runBatch(ticket, claim, model as LoadedModel | SwitchyardError) };
      case "empty":
        this.#rotation.linger(ticket, this.#parts.clock.monotonicMs() + this.#parts.lingerMs);
        return undefined;
      case "barred":
        this.#end(ticket, false);
        this.#parts.tell({ kind: "barred" });
        return undefined;
      case "uncommitted": // the sweeper returns what this host no longer knows
      case "retired":
      case "later":
      case "not_yours":
      case "stale_sequence":
        this.#end(ticket, claim.kind === "uncommitted" || claim.kind === "stale_sequence");
        return undefined;
    }
  }

  async #runBatch(ticket: HeldTicket, claim: ClaimAnswer & { kind: "batch" }, model: LoadedModel | SwitchyardError): Promise<Commit> {
    const { tag } = ticket.version;
    this.#parts.board.write(tag, claim.sequence);
    let results: JobResult[];
    let runMs = 0;
    let items = 0;
    if (model instanceof SwitchyardError) {
      const error = { code: "model_not_ready", detail: model.message, retryable: true };
      results = claim.jobs.map((job) => failedResult(job, error, claim.nowMs));
    } else {
      const frames = await this.#inputs(tag, claim);
      const run = await runClaim(model, claim.jobs, frames, claim.nowMs);
      ({ runMs, items } = run);
      results = await this.#parts.largeValues.stored(run.results, (result, why) => this.#unstored(result, why, claim));
      this.#longestRunMs.set(tag, Math.max(runMs, 0.95 * (this.#longestRunMs.get(tag) ?? 0)));
    }
    this.#report(tag, claim, results, runMs, items);
    return { tag, ticketId: ticket.ticketId, runMs, batchItems: items, results };
  }

  async #inputs(tag: string, claim: ClaimAnswer & { kind: "batch" }): Promise<InputFrame[]> {
    for (;;) {
      try {
        return await this.#parts.largeValues.fetched(await this.#parts.claims.inputs(tag, claim.jobs));
      } catch {
        await this.#parts.clock.sleep(retryExchangeMs);
      }
    }
  }

  #unstored(result: JobResult, why: SwitchyardError, claim: ClaimAnswer & { kind: "batch" }): JobResult {
    const job = claim.jobs.find(({ id }) => id === result.id);
    if (!job) throw new Error(`job ${result.id} is not of this claim`);
    return failedResult(job, { code: why.code, detail: why.message, retryable: why.retryable }, claim.nowMs);
  }

  #report(tag: string, claim: ClaimAnswer & { kind: "batch" }, results: JobResult[], runMs: number, items: number): void {
    const outcomes: Record<string, number> = {};
    for (const result of results) outcomes[result.outcome] = (outcomes[result.outcome] ?? 0) + 1;
    const queueMs = claim.jobs.map((job) => claim.nowMs - job.createdMs);
    this.#parts.tell({ kind: "ran", tag, jobs: claim.jobs.length, items, runMs, queueMs, outcomes });
  }

  #end(ticket: HeldTicket, release: boolean): void {
    this.#rotation.end(ticket.ticketId);
    this.#parts.tell({ kind: "ended", ticketId: ticket.ticketId, release });
  }

  /** Sleeps until a ticket, a wake-up or the end of a linger. */
  async #idle(): Promise<void> {
    const endMs = this.#rotation.nextEndMs();
    await new Promise<void>((resolve) => {
      const cancel =
        endMs === undefined ? () => {} : this.#parts.clock.after(Math.max(0, endMs - this.#parts.clock.monotonicMs()), resolve);
      this.#nudge = () => {
        cancel();
        resolve();
      };
    });
    this.#nudge = () => {};
  }

  #giveUp(): void {
    for (const ticket of this.#rotation.all()) this.#end(ticket, true);
    this.#parts.tell({ kind: "drained" });
  }
}
