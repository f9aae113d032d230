/**
 * What doors and application count. Calls are cheap and never throw; times are seconds. Labels are bounded: models that are known,
 * classes, outcomes, error codes and route patterns, never ids.
 */

import type { ErrorCode, HostView, JobClass, JobState, SpanResult } from "@switchyard/protocol";
import type { StoreServerFigures } from "./store-figures.ts";

export type Outcome = Extract<JobState, "succeeded" | "failed" | "cancelled" | "expired">;

export interface Finished {
  /** From admission to outcome. */
  e2eSeconds: number;
  /** From admission to the claim; only when the job was started. */
  queueSeconds?: number;
  /** It ended after its deadline, or because of it. */
  missed?: boolean;
  tenant?: string;
  /** The job's part of the run that it was in. */
  deviceSeconds?: number;
  /** Where the job is traced. */
  traceId?: string;
}

export interface Metrics extends ClusterMetrics, ToolServerMetrics {
  /** Starts the model's counters at 0; an alert on an absent series never fires. Idempotent. */
  modelKnown(model: string): void;
  /** Removes every series of the model. */
  modelGone(model: string): void;
  admitted(model: string, jobClass: JobClass): void;
  rejected(model: string, jobClass: JobClass, reason: ErrorCode, tenant?: string): void;
  /** From the check of the inputs to the refusal. */
  refusalTook(seconds: number): void;
  /** Of a job whose model is gone, without `model`, only what its tenant has is counted. */
  finished(model: string | undefined, jobClass: JobClass, outcome: Outcome, how: Finished): void;
  /** One request of a model that has a response cache. `joined`: it waits for an equal one. */
  cacheAsked(model: string, result: "hit" | "miss" | "joined"): void;
  /** One request of an alias with a shadow. `skipped`: too many were under way. */
  shadowed(model: string, result: "succeeded" | "failed" | "skipped"): void;
  cacheEvicted(model: string, count: number): void;
  /** A ticket was handed to the ticket queue, or could not be. */
  ticketOffered(accepted: boolean): void;
  /** Jobs that came back from hosts that were lost, or whose claim was unknown to its host. */
  jobsReturned(reason: "handed_late" | "lost_host" | "unknown_claim", count: number): void;
  hostLost(): void;
  storeAnswering(answering: boolean): void;
  storeRoundtrip(seconds: number): void;
  /** Spans that this process was to deliver to the collector. */
  spans(result: SpanResult, count: number): void;
  /** `route` is the pattern, never the path as it came. */
  httpAnswered(route: string, method: string, status: number, seconds: number): void;
  /** `method` is one that the door knows, `code` the word of the status; each message of a stream counts. */
  grpcAnswered(method: string, code: string, seconds: number): void;
}

/** A version has one queue, and one more for each set of requirements that jobs bring themselves. */
export interface QueueName {
  model: string;
  version: number;
  tag: string;
}

export interface QueueGauges {
  waiting: number;
  running: number;
  oldestSeconds: number;
  dead: number;
}

/**
 * What is true of the cluster, not of one coordinator. Everybody may tell it; only the one coordinator that leads exports it, so that a sum over
 * coordinators is right.
 */
export interface ClusterMetrics {
  /** Whether this coordinator leads now. One that does not exports no series of the cluster. */
  leading(leads: boolean): void;
  /** The latest figures of one queue; the series of a model are the sums over its queues. */
  queueFigures(queue: QueueName, figures: QueueGauges): void;
  /** The queue's version is gone, or nobody asks any more for what its jobs required. */
  queueGone(tag: string): void;
  hostsSeen(byState: ReadonlyMap<HostView["state"], number>): void;
  /** Jobs that wait, by tenant; those without any may be left out. */
  tenantsWaiting(jobs: ReadonlyMap<string, number>): void;
  storeServers(servers: readonly StoreServerFigures[]): void;
}

/** What became of a call of a tool, in the audit trail's words: `tool_error` is the tool's own failure, the rest are codes of the error table. */
export type ToolOutcome = "ok" | "tool_error" | ErrorCode;

/** Of MCP servers whose tools are used here, by their names in the operator's file. What is told of another name is passed over. */
export interface ToolServerMetrics {
  /** It is used from now on: its counters start at 0, and it counts as not connected. Idempotent. */
  toolServerKnown(server: string): void;
  /** It is used no more: removes every series of it. */
  toolServerGone(server: string): void;
  toolServerConnected(server: string, isConnected: boolean): void;
  /** A connection ended, or could not be made. */
  toolServerLost(server: string): void;
  /** A call has ended. `seconds`: its waiting included; only of calls that may have run. */
  toolCalled(server: string, outcome: ToolOutcome, seconds?: number): void;
}
