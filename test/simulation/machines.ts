/** Models and hosts as the simulation knows them: how long a run of b items takes on which kind of host, and what goes wrong. */

import type { Ladder } from "@switchyard/protocol";
import type { SeededRandom } from "../../scripts/seeded-random.ts";

export interface ModelSpec {
  name: string;
  /** A run of b items takes base + b × item milliseconds on a host of slowness 1, but for chance. */
  baseMs: number;
  itemMs: number;
  maxItems: number;
  /** How long a job may wait for company. */
  delayMs: number;
  loadMs: number;
  /** Standard deviation of the logarithm of a run's time. */
  noise: number;
}

export interface HostSpec {
  id: string;
  kind: string;
  slowness: number;
  /** Models that it may hold; loaded at the start unless `cold`. */
  models: readonly string[];
  cold?: boolean;
  diesMs?: number;
  returnsMs?: number;
}

const outlierShare = 0.01;
const outlierFactor = 3;

export function meanRunMs({ baseMs, itemMs }: ModelSpec, { slowness }: Pick<HostSpec, "slowness">, items: number): number {
  return slowness * (baseMs + itemMs * items) * (1 + outlierShare * (outlierFactor - 1));
}

export function drawRunMs(model: ModelSpec, { slowness }: HostSpec, items: number, random: SeededRandom): number {
  const outlier = random.next() < outlierShare ? outlierFactor : 1;
  const noise = Math.exp(model.noise * random.normal() - model.noise ** 2 / 2);
  return slowness * (model.baseMs + model.itemMs * items) * noise * outlier;
}

/** What a host measured when it loaded the model: a few runs of each size, the slowest of them. */
export function warmUpOf({ baseMs, itemMs, maxItems, noise }: ModelSpec, { slowness }: Pick<HostSpec, "slowness">): Ladder {
  const rungs: [number, number][] = [];
  for (let items = 1; ; items *= 2) {
    rungs.push([items, slowness * (baseMs + itemMs * items) * (1 + noise)]);
    if (items >= maxItems) return rungs;
  }
}

/** Items that all hosts together run in a millisecond when every batch is full. */
export function capacityOf(models: readonly ModelSpec[], hosts: readonly HostSpec[]): number {
  const most = models.map((model) => hosts.reduce((sum, host) => sum + model.maxItems / meanRunMs(model, host, model.maxItems), 0));
  return most.reduce((sum, one) => sum + one, 0) / models.length;
}
