/** What the Open Inference Protocol says of the server and its models, whichever way it is asked. */

import { type Counted, SwitchyardError, type TensorSignature } from "@switchyard/protocol";
import { type Caller, mayUse } from "../application/caller.ts";
import { beingRemoved } from "../application/version-removal.ts";
import type { VersionStatistics } from "../application/version-statistics.ts";
import type { ModelStatus } from "../ports/model-registry.ts";
import type { DoorContext } from "./door-context.ts";

/** Only what is served whole: clients switch features on by this list. */
const extensions = [
  "binary_tensor_data",
  "classification",
  "model_configuration",
  "schedule_policy",
  "parameters",
  "statistics",
  "model_repository",
  "model_repository(unload_dependents)",
];

export const serverMetadata = (context: DoorContext) => ({ name: "switchyard", version: context.version, extensions });

/** Whether at least one model can be served. */
export function isReady(context: DoorContext): boolean {
  if (context.leaving() || context.jobs.unready().length > 0) return false;
  return context.models.list().some((status) => canServe(status, context));
}

/** A live host holds it or may load it. */
export function canServe(status: ModelStatus, context: DoorContext): boolean {
  return status.state === "ready" || (status.state === "available" && context.hosts.matching(status.version.tag) > 0);
}

export function modelMetadata(status: ModelStatus, context: DoorContext, oneVersion: boolean): unknown {
  const { model, version, signature } = status.version;
  const served = context.models.versions(model).filter(({ state }) => state !== "failed" && state !== "leaving");
  const versions = oneVersion ? [String(version)] : served.map((other) => String(other.version.version)).reverse();
  return {
    name: model,
    versions,
    platform: "onnxruntime_onnx",
    inputs: signature.inputs.map(tensorView),
    outputs: signature.outputs.map(tensorView),
  };
}

export function tensorView({ name, datatype, shape }: TensorSignature) {
  return { name, datatype, shape };
}

/** The configuration in the words of model servers that use protobuf text: `dims` leave out the batch axis when there is one. */
export function modelConfiguration(status: ModelStatus): unknown {
  const { model, version, signature, config } = status.version;
  // Until a host has loaded the model its own word counts: clients keep this answer, and build their requests on it.
  const batchItems = status.batching?.maxItems ?? config.max_batch_items ?? 1;
  const batched = batchItems > 1;
  const tensor = ({ name, datatype, shape }: TensorSignature) => ({
    name,
    data_type: `TYPE_${datatype === "BYTES" ? "STRING" : datatype}`,
    dims: batched ? shape.slice(1) : shape,
  });
  const onGpu = config.require?.providers?.some((provider) => provider !== "cpu") ?? false;
  return {
    name: model,
    platform: "onnxruntime_onnx",
    backend: "onnxruntime",
    version_policy: { specific: { versions: [version] } },
    max_batch_size: batched ? batchItems : 0,
    input: signature.inputs.map(tensor),
    output: signature.outputs.map((output) => {
      const labels = config.outputs?.[output.name]?.labels;
      return { ...tensor(output), ...(labels !== undefined && { label_filename: labels }) };
    }),
    instance_group: [{ kind: onGpu ? "KIND_GPU" : "KIND_CPU", count: Math.max(1, status.warmOn.length) }],
    ...(batched && {
      dynamic_batching: { preferred_batch_size: [batchItems], max_queue_delay_microseconds: Math.round((config.max_delay_ms ?? 0) * 1000) },
    }),
    ...(config.cache !== undefined && { response_cache: { enable: true } }),
    model_transaction_policy: { decoupled: false },
  };
}

/** Throws `model_unloaded`, `model_failed` and `model_not_ready` for a version that is told of nobody. */
export function mustBeServed(status: ModelStatus): ModelStatus {
  const { reason, state } = status;
  const { model, version } = status.version;
  if (state === "unloaded")
    throw new SwitchyardError("model_unloaded", `Request for unknown model: '${model}' has no available versions: ${reason}`);
  if (state === "leaving") throw beingRemoved(status.version);
  if (state === "failed")
    throw new SwitchyardError("model_failed", `'${model}' version ${version} failed to load: ${reason ?? "no reason known"}`);
  return status;
}

export interface IndexEntry {
  name: string;
  version: string;
  state: "READY" | "UNAVAILABLE" | "LOADING" | "UNLOADING";
  reason: string;
}

export function repositoryIndex(context: DoorContext, caller: Caller, onlyReady: boolean): IndexEntry[] {
  const listed = context.models.list().filter(({ version }) => mayUse(caller, version.model));
  const entries = listed.map(
    (status): IndexEntry => ({
      name: status.version.model,
      version: String(status.version.version),
      ...indexState(status),
    }),
  );
  return onlyReady ? entries.filter((entry) => entry.state === "READY") : entries;
}

/** What loads on first demand is as good as ready: whoever asks gets an answer. */
function indexState({ loading, reason, state, warmOn }: ModelStatus): Pick<IndexEntry, "state" | "reason"> {
  if (state === "failed") return { state: "UNAVAILABLE", reason: reason ?? "failed to load" };
  if (state === "unloaded") return { state: warmOn.length > 0 ? "UNLOADING" : "UNAVAILABLE", reason: reason ?? "unloaded" };
  if (state === "leaving") return { state: "UNLOADING", reason: reason ?? "it is being removed" };
  return { state: loading ? "LOADING" : "READY", reason: "" };
}

interface Duration {
  count: number;
  ns: number;
}

/** Clients read unsigned 64-bit numbers; the largest that a double has below that end. */
const mostNs = 2 ** 64 - 2 ** 11;

const duration = (counted: number, ms: number): Duration => ({ count: counted, ns: Math.min(Math.round(ms * 1_000) * 1_000, mostNs) });
const durationOf = ({ count, ms }: Counted): Duration => duration(count, ms);

/** In the words of the statistics extension, which are the same over HTTP and gRPC. Clients ask for every entry, also where it is zero. */
export function modelStatistics(statistics: readonly VersionStatistics[]) {
  return { model_stats: statistics.map(versionStatistics) };
}

function versionStatistics({ model, tally, version }: VersionStatistics) {
  return {
    name: model,
    version: String(version),
    last_inference: tally.lastMs,
    inference_count: tally.items,
    execution_count: tally.runs,
    inference_stats: {
      success: durationOf(tally.success),
      fail: durationOf(tally.fail),
      queue: durationOf(tally.queue),
      compute_input: durationOf(tally.input),
      compute_infer: durationOf(tally.infer),
      compute_output: durationOf(tally.output),
      cache_hit: durationOf(tally.hit),
      cache_miss: durationOf(tally.miss),
    },
    response_stats: {},
    batch_stats: [...tally.batches]
      .sort(([left], [right]) => left - right)
      .map(([size, { inferMs, inputMs, outputMs, runs }]) => ({
        batch_size: size,
        compute_input: duration(runs, inputMs),
        compute_infer: duration(runs, inferMs),
        compute_output: duration(runs, outputMs),
      })),
    memory_usage: [],
  };
}
