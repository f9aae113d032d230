/** What the host's main loop and its runner thread say to each other. Tensors never cross: the runner has its own connection. */

import type { ModelVersion } from "@switchyard/protocol";

export interface RunnerOptions {
  redisUrl: string;
  incarnation: string;
  hostId: string;
  /** Root of the model repository. */
  modelsFolder: string;
  /** The folder for values too large for Redis, as far as this host sees it. */
  blobsFolder: string;
  /** A coordinator that hands over large values where the folder is not seen. */
  coordinatorUrl: string | undefined;
  lingerMs: number;
  cacheBytes: number;
  cacheModels: number;
  threads: number;
  providers: string[];
  /** KnownClaim, see below. */
  claimBoard: SharedArrayBuffer;
}

export type ToRunner =
  | { kind: "serve"; ticketId: string; version: ModelVersion }
  | { kind: "load"; version: ModelVersion }
  /** Finish the claim at hand, give every ticket up, then answer `drained`. */
  | { kind: "drain" };

export type FromRunner =
  | { kind: "started"; providers: string[] }
  /** The ticket is over; `release` when it was not retired in Redis and must be given up there. */
  | { kind: "ended"; ticketId: string; release: boolean }
  | { kind: "loaded"; tag: string; maxItems: number; reason: string; loadMs: number; sizeBytes: number }
  | { kind: "load_failed"; tag: string; reason: string }
  | { kind: "evicted"; tag: string }
  | { kind: "ran"; tag: string; jobs: number; items: number; runMs: number; queueMs: number[]; outcomes: Record<string, number> }
  | { kind: "barred" }
  | { kind: "drained" };

/**
 * The claim that the runner has in hand, readable while its thread is blocked in a run: the main loop reports it with each heartbeat, so
 * that a claim whose reply was lost can be told from one that runs.
 */
export class ClaimBoard {
  static readonly sizeBytes = 16;
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;

  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Uint32Array(buffer, 0, 1);
    this.#bytes = new Uint8Array(buffer, 4, 10);
  }

  write(tag: string, sequence: number): void {
    for (let at = 0; at < 10; at++) this.#bytes[at] = tag.charCodeAt(at);
    Atomics.store(this.#words, 0, sequence);
  }

  /** `<tag>=<sequence>`, or nothing before the first claim. */
  read(): string {
    const sequence = Atomics.load(this.#words, 0);
    return sequence === 0 ? "" : `${String.fromCharCode(...this.#bytes)}=${sequence}`;
  }
}
