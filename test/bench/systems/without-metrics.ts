/**
 * Loaded before a coordinator or worker: they then count nothing. What stands in place of their metrics takes the same calls, so that what is left out is what
 * the metrics do.
 */

import { registerHooks } from "node:module";

const stands = [
  ["/coordinator/src/adapters/prometheus-metrics.ts", new URL("./silent-coordinator-metrics.ts", import.meta.url).href],
  ["/worker/src/host-metrics.ts", new URL("./silent-host-metrics.ts", import.meta.url).href],
] as const;

registerHooks({
  resolve(specifier, context, next) {
    const found = next(specifier, context);
    const silent = stands.find(([path]) => found.url.endsWith(path));
    return silent ? { ...found, url: silent[1] } : found;
  },
});
