/**
 * Loaded before a coordinator or worker: SIGUSR2 switches off all that its metrics do, and on again. One process in turns with itself tells what they cost:
 * two processes of one kind differ by more, for their code is compiled at other moments and lies elsewhere.
 */

import { createRequire, registerHooks } from "node:module";
import type { PerformanceObserver } from "node:perf_hooks";

/** Asked at every call, by those that stand around the metrics. */
export const metricsSwitch = { isOn: true };

const around = [
  ["/coordinator/src/adapters/prometheus-metrics.ts", new URL("./switched-coordinator-metrics.ts", import.meta.url).href],
  ["/worker/src/host-metrics.ts", new URL("./switched-host-metrics.ts", import.meta.url).href],
] as const;

registerHooks({
  resolve(specifier, context, next) {
    const found = next(specifier, context);
    const stand = around.find(([path]) => found.url.endsWith(path))?.[1];
    return stand === undefined || context.parentURL === stand ? found : { ...found, url: stand };
  },
});

// what prom-client has watched of the process, from its first line on
const observers: PerformanceObserver[] = [];
const delays: ReturnType<typeof import("node:perf_hooks").monitorEventLoopDelay>[] = [];
const hooks = createRequire(import.meta.url)("node:perf_hooks") as typeof import("node:perf_hooks");
const { monitorEventLoopDelay, PerformanceObserver: Observer } = hooks;
hooks.PerformanceObserver = class extends Observer {
  constructor(...given: ConstructorParameters<typeof Observer>) {
    super(...given);
    observers.push(this);
  }
};
hooks.monitorEventLoopDelay = (options) => {
  const delay = monitorEventLoopDelay(options);
  delays.push(delay);
  return delay;
};

process.on("SIGUSR2", () => {
  metricsSwitch.isOn = !metricsSwitch.isOn;
  for (const observer of observers) {
    if (metricsSwitch.isOn) observer.observe({ entryTypes: ["gc"] });
    else observer.disconnect();
  }
  for (const delay of delays) {
    if (metricsSwitch.isOn) delay.enable();
    else delay.disable();
  }
});
