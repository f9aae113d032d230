/** What a client's language model is told of the cluster before it calls anything. */

import type { DoorContext } from "../door-context.ts";

const knownForMs = 30_000;
const told = new WeakMap<DoorContext, { untilMs: number; kept: string }>();

/** At most 500 words. */
export async function instructionsFor(context: DoorContext, hasTasks: boolean): Promise<string> {
  return [
    "Switchyard runs machine-learning models on a cluster of hosts.",
    "Call models_search to see which models there are, what they take and what they answer; a model may also have a tool of its own, infer_<model>.",
    "Call infer (or infer_<model>) and get the outputs in the answer; for many items of one model call infer_batch once instead of infer many times.",
    "Inputs are nested arrays, one level for each axis of the shape; the first axis is often the number of items. Models that take images accept a PNG as base64.",
    "For work that takes long: job_submit answers with a job_id at once, job_wait waits for the outcome, job_get looks, job_cancel ends it.",
    "Outputs that are too large for an answer are resources: read switchyard://jobs/<job_id>/output.",
    "An error says what to do next. Where it has retry_after_ms, wait that long before the same call.",
    "To be able to repeat a call safely, give it an idempotency_key of your own.",
    ...(hasTasks ? [`Calls that take longer than two seconds may be answered with a task, which ${await keptText(context)}.`] : []),
  ].join(" ");
}

/** Asked of the store now and then: this stands in every answer to who asks what is here. */
async function keptText(context: DoorContext): Promise<string> {
  const nowMs = context.clock.monotonicMs();
  const known = told.get(context);
  if (known !== undefined && nowMs < known.untilMs) return known.kept;
  let kept = "outlives every coordinator";
  try {
    const tier = await context.jobs.strongestTier();
    kept += `; the store keeps it with durability ${tier ?? "fast: when the store's machine dies, the last second may be lost"}`;
  } catch {
    return kept; // the store is away; the call itself will say so
  }
  told.set(context, { untilMs: nowMs + knownForMs, kept });
  return kept;
}
