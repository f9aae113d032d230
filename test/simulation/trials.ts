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
  /** What only this kind of load shows: shares and waits of tenants and classes. */
  notes: string;
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

export function judged(trial: Trial, log: RunLog, oracle: Uint8Array, of: { policy: PolicyName; load: number }): Judged {
  return { ...of, ...judge(trial, log, oracle), notes: notesOf(trial, log, of.policy) };
}

function notesOf(trial: Trial, log: RunLog, policy: PolicyName): string {
  const notes: string[] = [];
  const classes = classShares(trial, log);
  if (classes.size > 1) notes.push([...classes].map(([one, share]) => `${one} ${(100 * share).toFixed(1)}%`).join(" "));
  const tenants = new Set(trial.arrivals.map(({ tenant }) => tenant));
  if (tenants.has("light")) {
    const { p99Ms, aloneMs } = tenantWaits(trial, log, "light", policy);
    notes.push(`light p99 ${p99Ms.toFixed(1)} ms, alone ${aloneMs.toFixed(1)} ms`);
  } else if (tenants.size > 1) notes.push(`jain ${tenantShares(trial, log).jain.toFixed(4)}`);
  return notes.join("; ");
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
  const p99 = (of: RunLog): number =>
    quantile(
      waitsOf(of, trial.span, (arrival) => arrival.tenant === tenant),
      0.99,
    );
  return { p99Ms: p99(log), aloneMs: p99(runTrial(alone, policy)) };
}
