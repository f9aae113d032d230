/** How many jobs a second a system answers when its clients never let it wait, measured in the run that relates to it. */

import { measureClients, type Noise } from "../cell.ts";
import { sumOf } from "../systems/prometheus-text.ts";
import type { RunningSwitchyard } from "../systems/switchyard.ts";
import type { SystemModel } from "../systems/system.ts";
import type { RowContext } from "./row.ts";
import { shown } from "./shown.ts";

export interface Capacity {
  perSecond: number;
  /** Mean run of a batch, as the worker counted. */
  runMs: number;
  noise: Noise;
}

/** Also the warm-up of what follows. The load must have been prepared for the model. */
export async function measureCapacity(
  running: RunningSwitchyard,
  of: { model: SystemModel; clients: number; seconds: number },
  { load, warmSeconds }: RowContext,
): Promise<Capacity> {
  const runs = async (): Promise<{ seconds: number; count: number }> => {
    const { worker } = await running.metrics();
    const [seconds = 0, count = 0] = ["sum", "count"].map((part) =>
      sumOf(worker, `switchyard_run_seconds_${part}`, { model: of.model.name }),
    );
    return { seconds, count };
  };
  const before = await runs();
  const plan = { ...of, warmClients: of.clients, warmSeconds, verifyEvery: 16 };
  const { figures, noise } = await measureClients(running, plan, load);
  const after = await runs();
  return { perSecond: figures.jobsPerSecond, runMs: (1000 * (after.seconds - before.seconds)) / (after.count - before.count), noise };
}

/** Of some rounds, in words. */
export function shownCapacity(capacities: readonly Capacity[]): string {
  const [rate, run] = [capacities.map(({ perSecond }) => perSecond), capacities.map(({ runMs }) => runMs)];
  return `capacity ${shown(rate, 0)} jobs/s, a run ${shown(run, 1)} ms`;
}
