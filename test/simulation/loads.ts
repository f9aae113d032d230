/** What clients send, as a list in the order of time. Chance comes from a seed, so the same load is offered to every policy. */

import type { JobClass } from "@switchyard/protocol";
import { type SeededRandom, seededRandom } from "../../scripts/seeded-random.ts";

export interface Arrival {
  atMs: number;
  model: string;
  class: JobClass;
  tenant: string;
  tenantWeight: number;
  timeoutMs: number;
  items: number;
}

/** What one kind of client sends; `share` of all items. */
export interface Sender {
  share: number;
  /** Of each job; default 1. */
  items?: number;
  class: JobClass;
  tenant: string;
  tenantWeight?: number;
  timeoutMs: (random: SeededRandom) => number;
}

export interface Load {
  seed: number;
  untilMs: number;
  /** Items that arrive in a millisecond, at a moment. */
  rate: Rate;
  models: readonly string[];
  /** Zipf's exponent over the models; 0: all alike. */
  zipf: number;
  senders: readonly Sender[];
}

/** The rate now, and until when it holds. */
export type Rate = (atMs: number, random: SeededRandom) => { perMs: number; untilMs: number };

export const steady =
  (perMs: number): Rate =>
  () => ({ perMs, untilMs: Number.POSITIVE_INFINITY });

/** Ten times the calm rate for 2 s, every 20 s on average; `perMs` is the mean over all time. */
export function bursty(perMs: number): Rate {
  const [factor, burstMs, betweenMs] = [10, 2_000, 18_000];
  const calm = (perMs * (burstMs + betweenMs)) / (betweenMs + factor * burstMs);
  let bursts = true;
  return (atMs, random) => {
    bursts = !bursts;
    if (bursts) return { perMs: factor * calm, untilMs: atMs + burstMs };
    return { perMs: calm, untilMs: atMs - betweenMs * Math.log(1 - random.next()) };
  };
}

/** A day in so many milliseconds: from a fifth of the peak at night to the peak, with the mean that is given. */
export function diurnal(perMs: number, dayMs: number): Rate {
  return (atMs) => {
    const height = 0.6 - 0.4 * Math.cos((2 * Math.PI * atMs) / dayMs);
    return { perMs: (perMs * height) / 0.6, untilMs: atMs + dayMs / 96 };
  };
}

export const fixed = (ms: number) => (): number => ms;
export const between =
  (leastMs: number, mostMs: number) =>
  (random: SeededRandom): number =>
    Math.round(leastMs * (mostMs / leastMs) ** random.next());

export function arrivalsOf({ seed, untilMs, rate, models, zipf, senders }: Load): Arrival[] {
  const random = seededRandom(seed);
  const pickModel = weighted(models.map((_one, at) => 1 / (at + 1) ** zipf));
  const shares = senders.map(({ items = 1, share }) => share / items);
  const pickSender = weighted(shares);
  const sumOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);
  const jobsPerItem = sumOf(shares) / sumOf(senders.map(({ share }) => share));
  const arrivals: Arrival[] = [];
  let now = 0;
  let phase = rate(0, random);
  for (;;) {
    now -= Math.log(1 - random.next()) / (phase.perMs * jobsPerItem);
    if (now >= phase.untilMs) {
      // the exponential has no memory: what was drawn beyond the phase is drawn again in the next one
      now = phase.untilMs;
      if (now >= untilMs) return arrivals;
      phase = rate(now, random);
      continue;
    }
    if (now >= untilMs) return arrivals;
    const sender = senders[pickSender(random)] as Sender;
    const { class: one, items = 1, tenant, tenantWeight = 1 } = sender;
    const model = models[pickModel(random)] as string;
    arrivals.push({ atMs: now, model, class: one, tenant, tenantWeight, timeoutMs: sender.timeoutMs(random), items });
  }
}

function weighted(weights: readonly number[]): (random: SeededRandom) => number {
  const sums: number[] = [];
  let sum = 0;
  for (const weight of weights) {
    sum += weight;
    sums.push(sum);
  }
  return (random) => {
    const wanted = random.next() * sum;
    const found = sums.findIndex((upTo) => wanted < upTo);
    return found === -1 ? sums.length - 1 : found;
  };
}
