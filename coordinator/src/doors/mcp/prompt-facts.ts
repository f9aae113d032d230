/** What prompts are filled with: the cluster as it is now, for one caller. Every fact is a view that /v1 shows, or follows from one. */

import {
  type ErrorCode,
  type EstimatesView,
  errors,
  isErrorCode,
  isTerminal,
  type JobView,
  type ModelView,
  type QueueView,
  type TimelineView,
} from "@switchyard/protocol";
import { type Caller, mayUse, requireModel } from "../../application/caller.ts";
import { timelineOf } from "../../application/job-timeline.ts";
import type { ModelStatus } from "../../ports/model-registry.ts";
import { toEstimatesView, toModelView } from "../cluster-views.ts";
import type { DoorContext } from "../door-context.ts";
import { toJobView } from "../job-view.ts";
import { servedVersion } from "./model-tools.ts";
import { metricsView } from "./resource-views.ts";

const mostChoices = 30;
/** Asking for run times costs a look into the store. */
const mostMeasured = 10;
const classesShown = 10;
/** What a host should be busy for at most, so that a burst does not wait long. */
const usualLoad = 0.7;

/** A model to choose: the version that a request without one gets. */
export interface Choice extends Pick<ModelView, "model" | "version" | "state" | "inputs" | "outputs" | "batching"> {
  /** Some class names by output, of how many. */
  classes?: Record<string, { count: number; some: string[] }>;
  /** Milliseconds per item by device, as measured. */
  item_ms?: Record<string, number>;
}

/** Those that fit the words of the task first, then those that are loaded. Throws `store_unavailable`. */
export async function choices(context: DoorContext, caller: Caller, task: string): Promise<{ models: Choice[]; left_out: number }> {
  const names = new Set([...context.models.published()].map(({ model }) => model).filter((model) => mayUse(caller, model)));
  const served = [...names].map((model) => servedVersion(context.models, model)).filter((status) => status !== undefined);
  const words = task.toLowerCase().match(/[\p{L}\p{N}]{3,}/gu) ?? [];
  const rank = new Map(served.map((status) => [status, fit(status, words) + (status.state === "ready" ? 0.5 : 0)]));
  served.sort((one, other) => rank.get(other)! - rank.get(one)! || (one.version.model < other.version.model ? -1 : 1));
  const shown = served.slice(0, mostChoices);
  const models = await Promise.all(
    shown.map(async (status, at) => choiceOf(status, caller, at < mostMeasured ? await estimates(context, status) : undefined)),
  );
  return { models, left_out: served.length - shown.length };
}

/** How many of the words the model's name, its tensors or its classes have. */
function fit({ version }: ModelStatus, words: readonly string[]): number {
  const { labels = {}, model, signature } = version;
  const tensors = [...signature.inputs, ...signature.outputs].map(({ name }) => name);
  const text = [model, ...tensors, ...Object.values(labels).flat()].join(" ").toLowerCase();
  return words.filter((word) => text.includes(word)).length;
}

function choiceOf(status: ModelStatus, caller: Caller, measured: EstimatesView | undefined): Choice {
  const { batching, inputs, labels, model, outputs, state, version } = toModelView(status, caller);
  const choice: Choice = { model, version, state, inputs, outputs, ...(batching && { batching }) };
  if (labels !== undefined) {
    const some = (names: string[]) => ({ count: names.length, some: names.slice(0, classesShown) });
    choice.classes = Object.fromEntries(Object.entries(labels).map(([output, names]) => [output, some(names)]));
  }
  const devices = measured?.devices ?? [];
  if (devices.length > 0) choice.item_ms = Object.fromEntries(devices.map(({ device, item_ms }) => [device, item_ms]));
  return choice;
}

async function estimates({ jobs }: DoorContext, { version }: ModelStatus): Promise<EstimatesView> {
  return toEstimatesView(await jobs.estimates(version.model, version.version));
}

export interface JobCase {
  job: JobView;
  timeline: TimelineView;
  /** What the code of its error stands for. */
  error_means?: { title: string; retryable: boolean };
  /** Absent where its version is no longer there. */
  model?: ModelView;
  /** The queue of its model version as it is now. */
  queue?: QueueView;
}

/** All that is known of one job. Throws `job_not_found`, `result_expired`, `store_unavailable`. */
export async function jobCase(context: DoorContext, caller: Caller, id: string): Promise<JobCase> {
  const history = await context.jobs.history(id, caller);
  const { record } = history;
  const about: JobCase = { job: toJobView(record, caller), timeline: timelineOf(history, caller) };
  const code: ErrorCode | undefined = codeOf(record.error?.code, record.state);
  if (code !== undefined) about.error_means = { title: errors[code].title, retryable: errors[code].retryable };
  const status = context.models.versions(record.model).find(({ version }) => version.version === record.version);
  if (status !== undefined) about.model = { ...toModelView(status, caller), labels: undefined };
  const queues = await context.overview.queues(caller);
  const queue = queues.find(({ model, version }) => model === record.model && version === record.version);
  if (queue !== undefined) about.queue = queue;
  return about;
}

function codeOf(word: string | undefined, state: string): ErrorCode | undefined {
  if (word !== undefined && isErrorCode(word)) return word;
  return state === "expired" || state === "cancelled" ? state : undefined;
}

export const hasFailed = (state: JobView["state"]): boolean => isTerminal(state) && state !== "succeeded";

export interface Need {
  device: string;
  /** Of one host of this kind that does nothing else, in the batch size that serves most. */
  items_per_s: number;
  batch_items: number;
  /** That carry the rate while each is busy for 70 % of the time; absent where no rate was named. */
  hosts?: number;
}

export interface Capacity {
  metrics: Awaited<ReturnType<typeof metricsView>>;
  queues: QueueView[];
  /** Of the model that was named. */
  estimates?: EstimatesView;
  needs?: Need[];
}

/** Throws `model_not_found`, `forbidden`, `store_unavailable`. */
export async function capacity(
  context: DoorContext,
  caller: Caller,
  asked: { model?: string | undefined; itemsPerSecond?: number | undefined },
): Promise<Capacity> {
  const { itemsPerSecond, model } = asked;
  if (model !== undefined) {
    requireModel(caller, model);
    context.models.resolve(model);
  }
  const [metrics, queues, measured] = await Promise.all([
    metricsView(context, caller),
    context.overview.queues(caller),
    model === undefined ? undefined : context.jobs.estimates(model, undefined).then(toEstimatesView),
  ]);
  if (measured === undefined) return { metrics, queues };
  return { metrics, queues, estimates: measured, needs: needsOf(measured, itemsPerSecond) };
}

/** Pure. Of each device the size class that takes longest, so that the plan is not too small. */
export function needsOf({ devices }: EstimatesView, itemsPerSecond: number | undefined): Need[] {
  const slowest = new Map<string, Need>();
  for (const { device, overhead_ms = 0, runs } of devices) {
    const rates = runs.map(({ items, ms }) => ({ items, perSecond: (1_000 * items) / (ms + overhead_ms) }));
    const best = rates.reduce<(typeof rates)[number] | undefined>(
      (most, one) => (most && most.perSecond >= one.perSecond ? most : one),
      undefined,
    );
    if (best === undefined || !Number.isFinite(best.perSecond)) continue;
    const known = slowest.get(device);
    if (known && known.items_per_s <= best.perSecond) continue;
    const need: Need = { device, items_per_s: Math.round(10 * best.perSecond) / 10, batch_items: best.items };
    if (itemsPerSecond !== undefined) need.hosts = Math.max(1, Math.ceil(itemsPerSecond / (usualLoad * best.perSecond)));
    slowest.set(device, need);
  }
  return [...slowest.values()];
}
