/** What every HTTP door is given. */

import type { ModelVersion } from "@switchyard/protocol";
import type { Access } from "../application/access.ts";
import type { DeadLetterService, JobService } from "../application/job-service.ts";
import type { ModelAliases } from "../application/model-aliases.ts";
import type { ModelControl } from "../application/model-control.ts";
import type { ModelUploads } from "../application/model-uploads.ts";
import type { Overview } from "../application/overview.ts";
import type { ToolService } from "../application/tool-service.ts";
import type { VersionRemoval } from "../application/version-removal.ts";
import type { StatisticsService } from "../application/version-statistics.ts";
import type { Clock } from "../clock.ts";
import type { BlobStore } from "../ports/blob-store.ts";
import type { DrainBoard } from "../ports/drain-board.ts";
import type { HostRegistry } from "../ports/host-registry.ts";
import type { Log } from "../ports/log.ts";
import type { Metrics } from "../ports/metrics.ts";
import type { ModelRegistry } from "../ports/model-registry.ts";
import type { SharedSecret } from "../ports/shared-secret.ts";
import type { Tracing } from "../ports/tracing.ts";
import { BodyBudget } from "./body-budget.ts";
import { OpenCalls } from "./open-calls.ts";
import type { SiblingDoors } from "./sibling-doors.ts";
import { StreamBudget, type StreamLimits } from "./stream-budget.ts";
import type { TurnWait } from "./turn-wait.ts";

/** Bodies of the largest size that may be held at once, being read or waiting to be decoded. */
const largestBodiesHeld = 4;

export function bodyBudget({ maxBodyBytes }: Pick<HttpConfig, "maxBodyBytes">): BodyBudget {
  return new BodyBudget(largestBodiesHeld * maxBodyBytes);
}

export interface HttpConfig {
  /** Largest body, also after decompression. */
  maxBodyBytes: number;
  /** Largest JSON body, or JSON part of a binary one: parsing it holds everybody else up. */
  maxJsonBytes: number;
  /** Largest file of a model that is uploaded. */
  maxModelBytes: number;
  /** Origins whose pages may call; `*` for all. Empty: none. */
  corsOrigins: readonly string[];
  /** How long results are kept; told to clients. */
  resultTtlMs: number;
  /** Streams of the overview that are open at once; absent: the usual. */
  streams?: StreamLimits;
  /** Models that have a tool of their own, in the Model Context Protocol, as long as there are not more. */
  mostModelTools: number;
}

export interface DoorContext {
  jobs: JobService;
  deadLetters: DeadLetterService;
  statistics: StatisticsService;
  models: ModelRegistry;
  hosts: HostRegistry;
  drains: DrainBoard;
  overview: Overview;
  access: Access;
  /** Absent: large values are not served to hosts. */
  blobs?: BlobStore;
  /** Absent: there are none. */
  aliases?: ModelAliases;
  /** Absent: nothing is loaded or unloaded by request. */
  control?: ModelControl;
  /** Absent: what was uploaded stays. */
  removal?: VersionRemoval;
  /** Absent: no models are taken. */
  uploads?: ModelUploads;
  /** With what is signed that clients keep for the cluster. Absent: each server has one of its own. */
  secret?: SharedSecret;
  /** Coordinators that share this one's address. Absent: there are none. */
  siblings?: SiblingDoors;
  /** Absent: no servers of tools are configured. */
  tools?: ToolService;
  /** Absent: nothing is traced. */
  tracing?: Tracing;
  /** Where the built console lies; absent: none is served. */
  consoleFolder?: string;
  config: HttpConfig;
  clock: Clock;
  metrics: Metrics;
  log: Log;
  /** Whether this coordinator is about to shut down: it serves, and tells everybody to go elsewhere. */
  leaving(): boolean;
  /** Whether this coordinator is shutting down: new work is refused. */
  draining(): boolean;
  version: string;
  calls: OpenCalls;
  /** Of the overview. */
  streams: StreamBudget;
  turns: TurnWait;
  bodies: BodyBudget;
}

type Optional = "maxJsonBytes" | "maxModelBytes" | "mostModelTools";

const usualModelTools = 40;

/** What a server is made of; JSON has the limit of all bodies unless a smaller one is given. Servers of one process share the budget of bodies. */
export type DoorParts = Omit<DoorContext, "calls" | "config" | "streams"> & {
  config: Omit<HttpConfig, Optional> & Partial<Pick<HttpConfig, Optional>>;
};

/** What the handlers of one server are given; it drains from its own end on, too. */
export function doorContext(parts: DoorParts, isClosing: () => boolean): DoorContext {
  return {
    ...parts,
    config: {
      maxJsonBytes: parts.config.maxBodyBytes,
      maxModelBytes: parts.config.maxBodyBytes,
      mostModelTools: usualModelTools,
      ...parts.config,
    },
    leaving: () => isClosing() || parts.leaving(),
    draining: () => isClosing() || parts.draining(),
    calls: new OpenCalls(),
    streams: new StreamBudget(parts.config.streams),
  };
}

/** The class names of the version that a job ran on; undefined when it has none, or is no longer served: results outlive it. */
export function labelsOf({ models }: DoorContext, ran: { model: string; version: number }): ModelVersion["labels"] {
  return models.versions(ran.model).find(({ version }) => version.version === ran.version)?.version.labels;
}
