/** What `switchyard top` asks in one round, and what changed between two rounds. The differences are pure. */

import type { Switchyard } from "../../client.ts";
import { ClientError } from "../../client-errors.ts";
import type { HostView, ModelStatistics, TenantView } from "../../job-records.ts";

export interface ClusterSample {
  /** By a monotonic clock. */
  atMs: number;
  models: ModelStatistics[];
  hosts: HostView[];
  /** Jobs that wait, by `model@version`; undefined for whom it is not told. */
  waiting: Map<string, number> | undefined;
}

/** One model version between two samples. Means are undefined where nothing ran. */
export interface ModelRates {
  /** `model@version`. */
  name: string;
  /** Jobs that ended on a host, by second; failed ones, the expired among them, apart. */
  jobsPerSecond: number;
  failedPerSecond: number;
  waiting: number | undefined;
  queueMs: number | undefined;
  runMs: number | undefined;
  /** Items of a run. */
  batchItems: number | undefined;
}

/** Throws what the client throws. Who waits is told only to keys that may know; `asksWaiting` false: do not even ask. */
export async function sampleCluster(
  client: Switchyard,
  options: { atMs: () => number; signal: AbortSignal | undefined; asksWaiting: boolean },
): Promise<ClusterSample> {
  const { signal } = options;
  const tenants = options.asksWaiting ? client.tenants({ signal }).catch(refusedToNobody) : undefined;
  const [models, hosts, waiting] = await Promise.all([client.statistics({ signal }), client.hosts({ signal }), tenants]);
  return { atMs: options.atMs(), models, hosts, waiting: waiting && waitingOf(waiting) };
}

function refusedToNobody(error: unknown): undefined {
  if (error instanceof ClientError && (error.status === 401 || error.status === 403 || error.status === 404)) return undefined;
  throw error;
}

function waitingOf(tenants: readonly TenantView[]): Map<string, number> {
  const sums = new Map<string, number>();
  for (const { waiting } of tenants) {
    for (const { jobs, model, version } of waiting) {
      const name = `${model}@${version}`;
      sums.set(name, (sums.get(name) ?? 0) + jobs);
    }
  }
  return sums;
}

/** Busiest first; a counter that has fallen began anew, and shows nothing for that once. */
export function ratesBetween(before: ClusterSample, after: ClusterSample): ModelRates[] {
  const seconds = Math.max(1e-3, (after.atMs - before.atMs) / 1_000);
  const earlier = new Map(before.models.map((model) => [nameOf(model), model]));
  const rates = after.models.map((model): ModelRates => {
    const name = nameOf(model);
    const old = earlier.get(name);
    const change = (read: (of: ModelStatistics) => number): number => (old === undefined ? 0 : Math.max(0, read(model) - read(old)));
    const mean = (part: "queue" | "compute_infer"): number | undefined => {
      const count = change((of) => of.inference_stats[part].count);
      return count === 0 ? undefined : change((of) => of.inference_stats[part].ns) / count / 1e6;
    };
    const runs = change((of) => of.execution_count);
    return {
      name,
      jobsPerSecond: change((of) => of.inference_stats.success.count + of.inference_stats.fail.count) / seconds,
      failedPerSecond: change((of) => of.inference_stats.fail.count) / seconds,
      waiting: after.waiting && (after.waiting.get(name) ?? 0),
      queueMs: mean("queue"),
      runMs: mean("compute_infer"),
      batchItems: runs === 0 ? undefined : change((of) => of.inference_count) / runs,
    };
  });
  return rates.sort(
    (left, right) =>
      right.jobsPerSecond - left.jobsPerSecond || (right.waiting ?? 0) - (left.waiting ?? 0) || left.name.localeCompare(right.name),
  );
}

function nameOf({ name, version }: ModelStatistics): string {
  return `${name}@${version}`;
}
