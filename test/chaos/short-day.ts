/**
 * Loaded into every process of a cluster (`--import`) to make the day short for which it is known that there was a job, so that a soak sees
 * many of them. CHAOS_DAY_MS says how short.
 */

import { patchScripts } from "./faults/patched-scripts.ts";

const dayMs = process.env.CHAOS_DAY_MS;
if (dayMs !== undefined) patchScripts((_, text) => text.replaceAll(/\b86400000\b/g, dayMs));
