/** What clients and hosts saw, in the order in which they saw it: all that the checker is given. Times are milliseconds of this machine's clock. */

import type { JobState } from "@switchyard/protocol";

/** `infer` holds the line on /v2, `held` on /v1 with `Prefer: wait`, `queued` submits and comes back. All send a key of their own. */
export const manners = ["infer", "held", "queued"] as const;
export type Manner = (typeof manners)[number];

export type LedgerEvent =
  | { kind: "submit"; key: string; number: number; manner: Manner; timeoutMs: number; atMs: number }
  /** A call without a key, which is not repeated; see bare-calls.ts. */
  | { kind: "called"; key: string; number: number; atMs: number }
  /** What such a caller heard of its job. Its record is there for a minute. */
  | { kind: "answered"; key: string; state: JobState; answer?: readonly number[]; atMs: number; tookMs: number }
  /** The job exists: 202, 200, or an answer that names its outcome. `isReplay`: an earlier try of the same key had made it. */
  | { kind: "ack"; key: string; id: string; isReplay: boolean; atMs: number; tookMs: number }
  /** Nothing was promised, and the client does not ask again. */
  | { kind: "refused"; key: string; status: number; code: string; atMs: number; tookMs: number }
  /** No answer: the job may exist. The client asks again with the same key. */
  | { kind: "unknown"; key: string; why: string; atMs: number; tookMs: number }
  /** An answer that says to come back: a store that is away, a coordinator that ends. The client asks again with the same key. */
  | { kind: "delayed"; key: string; status: number; code: string; atMs: number; tookMs: number }
  /** An acknowledged job that nobody knows any more, or of which nobody tells. */
  | { kind: "gone"; key: string; id: string; why: string; atMs: number }
  /** An answer that no state of a job and of the cluster explains. */
  | { kind: "broken"; key: string; what: string; atMs: number }
  | { kind: "outcome"; key: string; id: string; outcome: Outcome; atMs: number }
  | { kind: "fault"; what: string; atMs: number };

/** One look at a job that has ended. */
export interface Outcome {
  state: JobState;
  revision: number;
  attempt: number;
  /** The values that came back, where it succeeded. */
  answer?: readonly number[];
  code?: string;
  createdMs: number;
  startedMs?: number;
  finishedMs: number;
  deadlineMs: number;
}

/** One run of a batch, told by the device when it began. */
export interface Execution {
  host: string;
  /** Jobs by their number. */
  numbers: readonly number[];
  startedMs: number;
}

export class Ledger {
  readonly events: LedgerEvent[] = [];

  note(event: LedgerEvent): void {
    this.events.push(event);
  }

  fault(what: string): void {
    this.note({ kind: "fault", what, atMs: Date.now() });
  }

  count(kind: LedgerEvent["kind"]): number {
    return this.events.reduce((sum, event) => sum + Number(event.kind === kind), 0);
  }
}
