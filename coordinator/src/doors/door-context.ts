/** What every HTTP door is given. */

import type { ModelVersion } from "@switchyard/protocol";
import type { Access } from "../application/access.ts";
import type { DeadLetterService, JobService } from "../application/job-service.ts";
import type { ModelAliases } from "../application/model-aliases.ts";
import type { ModelControl } from "../application/model-control.ts";
import type { ModelUploads } from "../application/model-uploads.ts";
import type { Clock } from "../clock.ts";
import type { BlobStore } from "../ports/blob-store.ts";
import type { HostRegistry } from "../ports/host-registry.ts";
import type { Log } from "../ports/log.ts";
import type { Metrics } from "../ports/metrics.ts";
import type { ModelRegistry } from "../ports/model-registry.ts";
import type { BodyBudget } from "./body-budget.ts";
import type { OpenCalls } from "./open-calls.ts";
import type { TurnWait } from "./turn-wait.ts";

/** Bodies of the largest size that may be held at once, being read or waiting to be decoded. */
export const largestBodiesHeld = 4;

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
}

export interface DoorContext {
  jobs: JobService;
  deadLetters: DeadLetterService;
  models: ModelRegistry;
  hosts: HostRegistry;
  access: Access;
  /** Absent: large values are not served to hosts. */
  blobs?: BlobStore;
  /** Absent: there are none. */
  aliases?: ModelAliases;
  /** Absent: nothing is loaded or unloaded by request. */
  control?: ModelControl;
  /** Absent: no models are taken. */
  uploads?: ModelUploads;
  config: HttpConfig;
  clock: Clock;
  metrics: Metrics;
  log: Log;
  /** Whether this coordinator is shutting down: new work is refused. */
  draining(): boolean;
  version: string;
  calls: OpenCalls;
  turns: TurnWait;
  bodies: BodyBudget;
}

/** The class names of the version that a job ran on; undefined when it has none, or is no longer served: results outlive it. */
export function labelsOf({ models }: DoorContext, ran: { model: string; version: number }): ModelVersion["labels"] {
  return models.versions(ran.model).find(({ version }) => version.version === ran.version)?.version.labels;
}
