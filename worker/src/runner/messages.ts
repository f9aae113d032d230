/** What the host's main loop and its runner thread say to each other. Tensors never cross: the runner has its own connection. */

import type { ModelVersion, QueueTally, RanTime } from "@switchyard/protocol";
import type { RedisTarget } from "@switchyard/protocol/redis";
import type { FollowedBatch, FollowedJob, Following, SettledJob } from "./followed-batch.ts";

export interface RunnerOptions {
  redisUrl: RedisTarget;
  incarnation: string;
  hostId: string;
  /** Root of the model repository. */
  modelsFolder: string;
  /** The folder for values too large for Redis, as far as this host sees it. */
  blobsFolder: string;
  /** A coordinator that hands over large values where the folder is not seen. */
  coordinatorUrl: string | undefined;
  /** Where files of uploaded versions are kept. */
  fetchedFolder: string;
  fetchedBytes: number;
  lingerMs: number;
  cacheBytes: number;
  cacheModels: number;
  threads: number;
  providers: string[];
  /** Servers that run models of further frameworks, by framework. */
  bridges: Record<string, string>;
  bridgeTimeoutMs: number;
  /** Whose jobs somebody wants to hear of one by one; absent: nobody's. */
  following?: Following;
  /** KnownClaim, see below. */
  claimBoard: SharedArrayBuffer;
}

/** A batch that somebody follows has begun. */
export interface ClaimTold {
  kind: "claimed";
  tag: string;
  jobs: FollowedJob[];
}

/** Jobs of it are settled: the store knows what became of them. */
export interface SettlementTold extends Omit<Required<FollowedBatch>, "jobs"> {
  kind: "settled";
  tag: string;
  settledMs: number;
  /** Of the model alone. */
  runMs: number;
  /** Of the whole batch. */
  items: number;
  jobs: SettledJob[];
}

/** `at`: the place of the job in its batch. */
export interface TracedJob {
  at: number;
  traceId: string;
}

/** One run of a model, as estimates are made of. */
export interface RunSample {
  /** Size class of its jobs. */
  size: number;
  items: number;
  runMs: number;
  /** By the store's clock. */
  atMs: number;
}

/**
 * What becomes of a ticket whose model does not load: it is left to a host that can load it, or its jobs are claimed all the same and told
 * why, because there is none.
 */
export type Unready = "leave" | "tell";

export type ToRunner =
  | { kind: "serve"; ticketId: string; version: ModelVersion; unready: Unready }
  | { kind: "load"; version: ModelVersion }
  | { kind: "unload"; version: ModelVersion }
  /** Models that a load must not push out. */
  | { kind: "keep"; tags: readonly string[] }
  /** Finish the claim at hand, give every ticket up, then answer `drained`. */
  | { kind: "drain" };

export type FromRunner =
  | { kind: "started"; providers: string[] }
  /** The ticket is over; `release` when it was not retired in Redis and must be given up there. */
  | { kind: "ended"; ticketId: string; release: boolean }
  | {
      kind: "loaded";
      tag: string;
      /** As it was loaded: the registry may have another one by now, or none. */
      version: ModelVersion;
      maxItems: number;
      reason: string;
      loadMs: number;
      /** Stands for the settings that it was loaded with. */
      config: string;
      sizeBytes: number;
      /** Items in a run, and the time that a run of so many took; empty when the model would not run on random inputs. */
      warmUpMs: [items: number, ms: number][];
    }
  | { kind: "load_failed"; tag: string; reason: string }
  | { kind: "evicted"; tag: string }
  | {
      kind: "ran";
      tag: string;
      /** That the model ran; 0 when nothing did, of jobs that were handed back, late, or without their model. */
      jobs: number;
      items: number;
      runMs: number;
      /** Of each job that was claimed, run or not. */
      queueMs: number[];
      /** From the claim to each job's deadline; below 0 where that had passed. */
      slackMs: number[];
      /** One of its jobs whose trace is recorded. */
      traced?: TracedJob;
      outcomes: Record<string, number>;
      /** Jobs that were over when the run began. */
      startedLate: number;
      /** What a claim costs beside its run. */
      overheadMs: number;
      /** Where the run is fit to predict others. */
      sample?: RunSample;
      /** Of the device, which other queues may have had meanwhile. */
      time?: RanTime;
    }
  | ClaimTold
  | SettlementTold
  /** What was counted since the last such message, by queue. */
  | { kind: "counted"; tallies: [tag: string, tally: QueueTally][] }
  /** What was said in the last moment, in order: every message wakes the main loop, and runs of light models are many. */
  | { kind: "together"; messages: FromRunner[] }
  /** Something that an operator should read; the runner goes on. */
  | { kind: "trouble"; tag?: string; message: string }
  | { kind: "barred" }
  | { kind: "drained" };

/**
 * The claims that the runner has in hand, readable while its thread is blocked in a run: the main loop reports them with each heartbeat,
 * so that a claim whose reply was lost can be told from one that runs or waits for its commit.
 */
export class ClaimBoard {
  static readonly #slots = 8;
  static readonly #slotBytes = 16;
  static readonly sizeBytes: number = ClaimBoard.#slots * ClaimBoard.#slotBytes;
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;

  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Uint32Array(buffer);
    this.#bytes = new Uint8Array(buffer);
  }

  /** The first claims are the ones that are told when there are too many. */
  write(claims: readonly { tag: string; sequence: number }[]): void {
    for (let slot = 0; slot < ClaimBoard.#slots; slot++) {
      const claim = claims[slot];
      const at = slot * ClaimBoard.#slotBytes;
      for (let index = 0; claim && index < 10; index++) this.#bytes[at + 4 + index] = claim.tag.charCodeAt(index);
      Atomics.store(this.#words, at / 4, claim?.sequence ?? 0);
    }
  }

  /** `<tag>=<sequence> …`, nothing before the first claim. */
  read(): string {
    const claims: string[] = [];
    for (let at = 0; at < ClaimBoard.sizeBytes; at += ClaimBoard.#slotBytes) {
      const sequence = Atomics.load(this.#words, at / 4);
      if (sequence !== 0) claims.push(`${String.fromCharCode(...this.#bytes.subarray(at + 4, at + 14))}=${sequence}`);
    }
    return claims.join(" ");
  }
}
