/** Coordinator, or door, and Redis keep to a core each as under `up`: on two cores, while both are busy. SWITCHYARD_BIND_CORES=no is heeded. */

import { systemClock } from "../../../coordinator/src/clock.ts";
import { CorePair, type CorePairPids, systemTimes } from "../../../coordinator/src/embedded/core-pair.ts";

const lookMs = 1_000;

export function benchCores(): [number, number] | undefined {
  return process.env.SWITCHYARD_BIND_CORES === "no" ? undefined : CorePair.cores();
}

/** From now on, until the answered function is called. */
export function keepBenchPair(pids: CorePairPids): () => void {
  const cores = benchCores();
  if (cores === undefined) return () => {};
  const events = { failed: (why: string) => console.log(`  nothing is bound to a core: ${why}`) };
  const pair = new CorePair({ cores, pids: () => pids, clock: systemClock, times: systemTimes, events });
  const looking = setInterval(() => void pair.look(), lookMs).unref();
  return () => clearInterval(looking);
}
