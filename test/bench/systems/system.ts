/** A system under load: processes with roles behind one port. */

import type { Wire } from "../load/connection.ts";

/** Calls and microseconds by command so far. */
export type RedisCommands = Map<string, { calls: number; us: number }>;

/** A sample of runs, by script. */
export type ScriptTimes = Map<string, { calls: number; us: number }>;

/** The text of a metrics page, by role. */
export type MetricsPages = { door: string; worker: string };

export interface RunningSystem {
  port: number;
  /** What is spoken there; default: http. */
  wire?: Wire;
  /** Process ids by role: door, redis, worker. */
  roles: Record<string, number>;
  /** Jobs and runs so far, where the system knows how it batches. */
  batches?: () => Promise<{ jobs: number; runs: number }>;
  redisCommands?: () => Promise<RedisCommands>;
  /** Only while it is profiled. */
  redisScripts?: () => Promise<ScriptTimes>;
  /** Throws when one of the processes has ended by itself. */
  mustRun(): void;
  stop(): Promise<void>;
}

export interface SystemModel {
  name: string;
  /** Model repository that holds this model alone. */
  repository: string;
  path: string;
  maxBatchItems: number;
  itemShape: readonly number[];
}

export interface System {
  id: string;
  title: string;
  start(model: SystemModel): Promise<RunningSystem>;
}
