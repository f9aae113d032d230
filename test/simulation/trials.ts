/** Runs a trial under a policy and judges it. */

import { Cluster } from "./cluster.ts";
import { deviceMsBy, type Figures, figuresOf, jainIndex, quantile, waitsOf } from "./figures.ts";
import { meanRunMs } from "./machines.ts";
import { attainable } from "./oracle.ts";
import { type PolicyName, policies } from "./policies.ts";
import type { RunLog } from "./run-log.ts";
import type { Trial } from "./scenarios.ts";

export interface Judged extends Figures {
  policy: PolicyName;
  load: number;
}

export function runTrial(trial: Trial, policy: PolicyName): RunLog {
  return new Cluster({ ...trial, policy: policies[policy] }).run();
}

/** What an oracle would have met; the same for every policy. */
export function oracleOf(trial: Trial): Uint8Array {
  const leastMs = Math.min(...trial.models.flatMap((model) => trial.hosts.map((host) => meanRunMs(model, host, 1))));
  return attainable(trial.arrivals, { perMs: trial.perMs, leastMs });
}

export function judge(trial: Trial, log: RunLog, oracle: Uint8Array): Figures {
  return figuresOf(log, trial.span, { perMs: trial.perMs, oracle });
}

/** Device time of each tenant over its weight, and how evenly it is divided. */
export function tenantShares(trial: Trial, log: RunLog): { perWeight: Map<string, number>; jain: number } {
  const weights = new Map(trial.arrivals.map(({ tenant, tenantWeight }) => [tenant, tenantWeight]));
  const spent = deviceMsBy(log, trial.span, ({ tenant }) => tenant);
  const perWeight = new Map([...spent].sort().map(([tenant, ms]) => [tenant, ms / (weights.get(tenant) ?? 1)]));
  return { perWeight, jain: jainIndex([...perWeight.values()]) };
}

/** Parts of the device time by class. */
export function classShares(trial: Trial, log: RunLog): Map<string, number> {
  const spent = deviceMsBy(log, trial.span, (arrival) => arrival.class);
  const sum = [...spent.values()].reduce((total, ms) => total + ms, 0);
  return new Map([...spent].sort().map(([one, ms]) => [one, ms / sum]));
}

/** How long a tenant's jobs waited among others, and how long when it was alone. */
export function tenantWaits(trial: Trial, log: RunLog, tenant: string, policy: PolicyName): { p99Ms: number; aloneMs: number } {
  const alone = { ...trial, arrivals: trial.arrivals.filter((arrival) => arrival.tenant === tenant) };
  const p99 = (of: RunLog): number => quantile(waitsOf(of, trial.span, (arrival) => arrival.tenant === tenant), 0.99);
  return { p99Ms: p99(log), aloneMs: p99(runTrial(alone, policy)) };
}
