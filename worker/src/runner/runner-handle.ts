/** The main loop's side of the runner thread: starts it, passes tickets, and resolves when a ticket is over. */

import { Worker } from "node:worker_threads";
import type { ModelVersion } from "@switchyard/protocol";
import { ClaimBoard, type FromRunner, type RunnerOptions, type ToRunner, type Unready } from "./messages.ts";

/** How a runner thread ended: anything but the end of a drain is a broken promise, with what it died of where that is known. */
export interface RunnerEnd {
  code: number;
  error?: Error;
}

/** `lost`: its thread ended, and nobody knows what it had begun. */
export type TicketEnd = "retired" | "release" | "lost";

export class RunnerHandle {
  readonly #thread: Worker;
  readonly #board: ClaimBoard;
  readonly #tickets = new Map<string, PromiseWithResolvers<TicketEnd>>();
  readonly #started: Promise<string[]>;
  readonly #ended: Promise<RunnerEnd>;

  constructor(options: Omit<RunnerOptions, "claimBoard">, listen: (message: FromRunner) => void) {
    const buffer = new SharedArrayBuffer(ClaimBoard.sizeBytes);
    this.#board = new ClaimBoard(buffer);
    const workerData: RunnerOptions = { ...options, claimBoard: buffer };
    this.#thread = new Worker(new URL("./runner-thread.ts", import.meta.url), { workerData });
    const started = Promise.withResolvers<string[]>();
    this.#started = started.promise;
    started.promise.catch(() => {}); // the end tells it too
    let error: Error | undefined;
    this.#thread.once("error", (cause: unknown) => {
      error = cause instanceof Error ? cause : new Error(String(cause));
      started.reject(error);
    });
    this.#ended = new Promise((resolve) => {
      this.#thread.once("exit", (code) => {
        if (code !== 0) started.reject(new Error(`the runner thread ended with code ${code} before it had started`));
        for (const ticketId of [...this.#tickets.keys()]) this.#finish(ticketId, "lost");
        resolve(error ? { code, error } : { code });
      });
    });
    const hear = (message: FromRunner): void => {
      if (message.kind === "together") {
        for (const one of message.messages) hear(one);
        return;
      }
      if (message.kind === "started") started.resolve(message.providers);
      if (message.kind === "ended") this.#finish(message.ticketId, message.release ? "release" : "retired");
      listen(message);
    };
    this.#thread.on("message", hear);
  }

  #finish(ticketId: string, end: TicketEnd): void {
    this.#tickets.get(ticketId)?.resolve(end);
    this.#tickets.delete(ticketId);
  }

  #send(message: ToRunner): void {
    this.#thread.postMessage(message);
  }

  /** Execution providers, once the thread runs; rejects when it cannot start. Stays open when it was drained before. */
  started(): Promise<string[]> {
    return this.#started;
  }

  /** Resolves when the thread has ended. Never rejects. */
  ended(): Promise<RunnerEnd> {
    return this.#ended;
  }

  /** Resolves when the ticket is over. A ticket that is redelivered while it is served (its lease ran out) is the same ticket. */
  serve(ticketId: string, version: ModelVersion, unready: Unready): Promise<TicketEnd> {
    const held = this.#tickets.get(ticketId);
    if (held) return held.promise;
    const ticket = Promise.withResolvers<TicketEnd>();
    this.#tickets.set(ticketId, ticket);
    this.#send({ kind: "serve", ticketId, version, unready });
    return ticket.promise;
  }

  load(version: ModelVersion): void {
    this.#send({ kind: "load", version });
  }

  /** Lets a model go that no run uses; it says `evicted` when it has. */
  unload(version: ModelVersion): void {
    this.#send({ kind: "unload", version });
  }

  keep(tags: readonly string[]): void {
    this.#send({ kind: "keep", tags });
  }

  drain(): void {
    this.#send({ kind: "drain" });
  }

  /** Tickets that the runner holds. */
  held(): string[] {
    return [...this.#tickets.keys()];
  }

  knownClaim(): string {
    return this.#board.read();
  }
}
