/** The situations that policies are tried in. A scenario builds the same models, hosts and arrivals for every policy from a seed and a load. */

import type { SeededRandom } from "../../scripts/seeded-random.ts";
import type { ClusterSetup } from "./cluster.ts";
import type { Span } from "./figures.ts";
import { type Arrival, arrivalsOf, between, bursty, diurnal, fixed, type Rate, type Sender, steady } from "./loads.ts";
import { capacityOf, type HostSpec, type ModelSpec } from "./machines.ts";
import { type PolicyName, policyNames } from "./policies.ts";

export interface Trial extends Omit<ClusterSetup, "policy"> {
  span: Span;
  /** Items in a millisecond with full batches. */
  perMs: number;
}

export interface Scenario {
  title: string;
  loads: readonly number[];
  policies: readonly PolicyName[];
  /** `forMs`: for how long jobs arrive. */
  build(seed: number, load: number, forMs?: number): Trial;
}

const allLoads = [0.5, 0.8, 1.0, 1.2, 1.5, 2.0];
const settleMs = 2_000;

const model = (name: string): ModelSpec => ({ name, baseMs: 4, itemMs: 0.5, maxItems: 16, delayMs: 0, loadMs: 800, noise: 0.05 });
const gpus = (count: number, models: readonly string[] = ["m"]): HostSpec[] =>
  Array.from({ length: count }, (_one, at) => ({ id: `gpu-${at}`, kind: "gpu", slowness: 1, models }));

const anyone = (timeoutMs: (random: SeededRandom) => number): Sender[] => [{ share: 1, class: "standard", tenant: "t", timeoutMs }];

interface Wishes {
  senders: readonly Sender[];
  forMs: number | undefined;
  hosts?: HostSpec[];
  models?: ModelSpec[];
  zipf?: number;
  rate?: (perMs: number, forMs: number) => Rate;
}

function trial(seed: number, load: number, wishes: Wishes): Trial {
  const { senders, forMs = 20_000, hosts = gpus(4), models = [model("m")], zipf = 0, rate = steady } = wishes;
  const perMs = capacityOf(models, hosts);
  const names = models.map(({ name }) => name);
  const arrivals = arrivalsOf({ seed, untilMs: forMs, rate: rate(load * perMs, forMs), models: names, zipf, senders });
  return { seed, models, hosts, arrivals, untilMs: forMs + 6_000, span: { fromMs: settleMs, untilMs: forMs }, perMs };
}

export const scenarios = {
  steady: {
    title: "Poisson arrivals, four hosts, 50 to 500 ms to answer",
    loads: allLoads,
    policies: policyNames,
    build: (seed, load, forMs) => trial(seed, load, { senders: anyone(between(50, 500)), forMs }),
  },
  mixed: {
    title: "Poisson arrivals, four hosts, 20 ms to 5 s to answer",
    loads: allLoads,
    policies: policyNames,
    build: (seed, load, forMs) => trial(seed, load, { senders: anyone(between(20, 5_000)), forMs }),
  },
  bursty: {
    title: "ten times the calm rate for 2 s now and then, four hosts, 20 ms to 5 s to answer",
    loads: allLoads,
    policies: policyNames,
    build: (seed, load, forMs = 60_000) => trial(seed, load, { senders: anyone(between(20, 5_000)), forMs, rate: bursty }),
  },
  trace: {
    title: "a day in a minute, from a fifth of the peak to the peak, four hosts, 20 ms to 5 s to answer",
    loads: [0.5, 0.8, 1.0],
    policies: ["fifo-drop", "edf-drop", "fair"],
    build: (seed, load, forMs = 60_000) => trial(seed, load, { senders: anyone(between(20, 5_000)), forMs, rate: diurnal }),
  },
  lone: {
    title: "one host, 60 ms to answer: five full batches",
    loads: allLoads,
    policies: ["edf-drop", "fair"],
    build: (seed, load, forMs) => trial(seed, load, { senders: anyone(fixed(60)), hosts: gpus(1), forMs }),
  },
  shared: {
    title: "two models that share four hosts, 50 to 500 ms to answer",
    loads: allLoads,
    policies: ["edf-drop", "fair"],
    build: (seed, load, forMs) =>
      trial(seed, load, { senders: anyone(between(50, 500)), forMs, hosts: gpus(4, ["one", "two"]), models: ["one", "two"].map(model) }),
  },
  classes: {
    title: "three classes that each ask for a third of the load",
    loads: [0.8, 1.2, 2.0],
    policies: ["edf-drop", "admission", "fair"],
    build: (seed, load, forMs) => trial(seed, load, { senders: classSenders, forMs }),
  },
  sizes: {
    title: "three classes that each ask for a third of the load, the class batch in jobs as large as a full batch",
    loads: [0.8, 1.2, 2.0],
    policies: ["edf-drop", "admission", "fair"],
    build: (seed, load, forMs) =>
      trial(seed, load, { senders: classSenders.map((one) => (one.class === "batch" ? { ...one, items: 16 } : one)), forMs }),
  },
  backfill: {
    title: "interactive jobs for two fifths of the hosts' time, the class batch asks for the rest of the load",
    loads: [0.8, 1.0, 1.5, 2.0],
    policies: ["edf-drop", "admission", "fair"],
    build: (seed, load, forMs) => {
      const interactive: Sender = { share: 0.4, class: "interactive", tenant: "t", timeoutMs: between(100, 1_000) };
      const batch: Sender = { share: load - 0.4, class: "batch", tenant: "t", timeoutMs: between(1_000, 5_000) };
      return trial(seed, load, { senders: [interactive, batch], forMs });
    },
  },
  surges: {
    title: "three classes, ten times the calm rate for 2 s now and then",
    loads: [0.5, 1.0],
    policies: ["edf-drop", "fair"],
    build: (seed, load, forMs = 60_000) => trial(seed, load, { senders: classSenders, forMs, rate: bursty }),
  },
  tenants: {
    title: "one tenant sends a hundred times as much as the other",
    loads: [0.8, 1.2, 2.0],
    policies: ["edf-drop", "admission", "fair"],
    build: (seed, load, forMs) => trial(seed, load, { senders: [heavySender, lightSender], forMs }),
  },
  weights: {
    title: "three tenants of weights 1, 2 and 4 that each ask for all there is",
    loads: [3.0],
    policies: ["edf-drop", "admission", "fair"],
    build: (seed, load, forMs) => trial(seed, load, { senders: weighedSenders, forMs }),
  },
  unlike: {
    title: "a fast host, two of four times its run times and a CPU of ten, 20 ms to 5 s to answer",
    loads: [0.5, 0.8, 1.0, 1.5, 2.0],
    policies: ["edf-drop", "admission", "fair"],
    build: (seed, load, forMs) =>
      trial(seed, load, {
        senders: anyone(between(20, 5_000)),
        forMs,
        hosts: [
          { id: "fast", kind: "fast", slowness: 1, models: ["m"] },
          ...["slow-1", "slow-2"].map((id) => ({ id, kind: "slow", slowness: 4, models: ["m"] })),
          { id: "cpu", kind: "cpu", slowness: 10, models: ["m"] },
        ],
      }),
  },
  deaths: {
    title: "a host of four is killed and comes back, and one run in a thousand fails",
    loads: [0.5, 0.8],
    policies: ["edf-drop", "fair"],
    build: (seed, load, forMs) => {
      const hosts = gpus(4).map((host, at) => (at === 0 ? { ...host, diesMs: 6_000, returnsMs: 14_000 } : host));
      return { ...trial(seed, load, { senders: anyone(between(50, 8_000)), hosts, forMs }), failures: 0.001 };
    },
  },
  cold: {
    title: "a model that no host has loaded",
    loads: [0.5],
    policies: ["edf-drop", "fair"],
    build: (seed, load, forMs = 5_000) => ({
      ...trial(seed, load, { senders: anyone(between(200, 5_000)), hosts: gpus(4).map((host) => ({ ...host, cold: true })), forMs }),
      span: { fromMs: 0, untilMs: forMs },
    }),
  },
  wrong: {
    title: "estimates of before the start say ten times too much",
    loads: [0.8, 1.5],
    policies: ["fair"],
    build: (seed, load, forMs = 40_000) => {
      const base = trial(seed, load, { senders: anyone(fixed(30)), forMs });
      return { ...base, poisoned: 10, span: { fromMs: forMs / 2, untilMs: forMs } };
    },
  },
  large: {
    title: "a thousand hosts, a hundred models by Zipf's law",
    loads: [0.8, 2.0],
    policies: ["edf-drop", "fair"],
    build: (seed, load, forMs = 2_000) => largeTrial(seed, load, { hosts: 1_000, models: 100, forMs }),
  },
} satisfies Record<string, Scenario>;

export type ScenarioName = keyof typeof scenarios;

const classSenders: Sender[] = [
  { share: 1, class: "interactive", tenant: "t", timeoutMs: between(100, 1_000) },
  { share: 1, class: "standard", tenant: "t", timeoutMs: between(100, 2_000) },
  { share: 1, class: "batch", tenant: "t", timeoutMs: between(2_000, 10_000) },
];

const heavySender: Sender = { share: 100, class: "standard", tenant: "heavy", timeoutMs: between(100, 2_000) };
const lightSender: Sender = { share: 1, class: "standard", tenant: "light", timeoutMs: between(100, 2_000) };

const weighedSenders: Sender[] = [1, 2, 4].map((tenantWeight) => {
  return { share: 1, class: "standard", tenant: `weight-${tenantWeight}`, tenantWeight, timeoutMs: between(100, 2_000) };
});

/** Popular models are on more hosts: each host holds three, drawn by the same law as the arrivals. */
export function largeTrial(seed: number, load: number, size: { hosts: number; models: number; forMs: number }): Trial {
  const names = Array.from({ length: size.models }, (_one, at) => `m${at}`);
  const shares = names.map((_one, at) => 1 / (at + 1));
  const sum = shares.reduce((total, share) => total + share, 0);
  let owed = shares.map(() => 0);
  const hosts = Array.from({ length: size.hosts }, (_one, at): HostSpec => {
    owed = owed.map((have, which) => have + (shares[which] as number) / sum);
    const byNeed = names.map((_name, which) => which).sort((a, b) => (owed[b] as number) - (owed[a] as number) || a - b);
    const own = (byNeed[0] as number) % names.length;
    owed[own] = (owed[own] as number) - 1;
    const models = [own, (own + at) % names.length, (own + 7 * at + 1) % names.length].map((which) => names[which] as string);
    return { id: `h${at}`, kind: "gpu", slowness: 1, models: [...new Set(models)] };
  });
  // ten times as slow as the others: what is tried here is the number of hosts and queues
  const models = names.map((name) => ({ ...model(name), baseMs: 40, itemMs: 5 }));
  const perMs = capacityOf(models.slice(0, 1), hosts);
  const senders: Sender[] = ["a", "b", "c"].map((tenant) => ({ share: 1, class: "standard", tenant, timeoutMs: between(500, 5_000) }));
  const arrivals = arrivalsOf({ seed, untilMs: size.forMs, rate: steady(load * perMs), models: names, zipf: 1, senders });
  return { seed, models, hosts, arrivals, untilMs: size.forMs + 5_000, span: { fromMs: size.forMs / 4, untilMs: size.forMs }, perMs };
}

/** A trace on four hosts; models that it names are made. */
export function traceTrial(seed: number, arrivals: readonly Arrival[]): Trial {
  const names = [...new Set(arrivals.map((arrival) => arrival.model))];
  const models = names.map(model);
  const hosts = gpus(4, names);
  const untilMs = (arrivals.at(-1)?.atMs ?? 0) + 1;
  return { seed, models, hosts, arrivals, untilMs: untilMs + 6_000, span: { fromMs: 0, untilMs }, perMs: capacityOf(models, hosts) };
}
