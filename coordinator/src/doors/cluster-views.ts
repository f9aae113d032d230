/** Hosts, models and what is known of their run times as /v1 and MCP show them. */

import { type EstimatesView, type HostView, type ModelView, SwitchyardError } from "@switchyard/protocol";
import type { Caller } from "../application/caller.ts";
import type { ModelEstimates } from "../application/job-service.ts";
import type { ModelRegistry, ModelStatus } from "../ports/model-registry.ts";
import type { DoorContext } from "./door-context.ts";
import { tensorView } from "./model-views.ts";

/** Throws `host_not_found`. */
export function hostOf(context: Pick<DoorContext, "hosts">, id: string): HostView {
  const host = context.hosts.list().find((candidate) => candidate.id === id);
  if (host !== undefined) return host;
  throw new SwitchyardError("host_not_found", `No host '${id.slice(0, 64)}' is registered`);
}

/** Hosts are shown to operators only. */
export function toModelView(status: ModelStatus, caller: Caller): ModelView {
  const { version } = status;
  const view: ModelView = {
    model: version.model,
    version: version.version,
    digest: version.digest,
    size_bytes: version.sizeBytes,
    state: status.state,
    inputs: version.signature.inputs.map(tensorView),
    outputs: version.signature.outputs.map(tensorView),
    config: { ...version.config },
  };
  if (caller.scopes.has("operate")) view.warm_on = status.warmOn;
  if (status.reason !== undefined) view.reason = status.reason;
  if (status.missing !== undefined) view.missing = [...status.missing];
  if (status.batching !== undefined) view.batching = { max_items: status.batching.maxItems, reason: status.batching.reason };
  if (version.labels !== undefined) view.labels = version.labels;
  return view;
}

/** As /v1 lists them: of each model the version that requests without one get is marked. */
export function toModelViews(models: Pick<ModelRegistry, "usual">, listed: readonly ModelStatus[], caller: Caller): ModelView[] {
  const usual = new Map<string, number | undefined>();
  for (const { version } of listed) if (!usual.has(version.model)) usual.set(version.model, usualVersion(models, version.model));
  return listed.map((status) => {
    const view = toModelView(status, caller);
    return usual.get(view.model) === view.version ? { ...view, default: true } : view;
  });
}

function usualVersion(models: Pick<ModelRegistry, "usual">, model: string): number | undefined {
  try {
    return models.usual(model).version.version;
  } catch (error) {
    if (error instanceof SwitchyardError) return undefined; // the alias stands for a version that is not there
    throw error;
  }
}

export function toEstimatesView({ model, version, networkMs, devices }: ModelEstimates): EstimatesView {
  const tenths = (ms: number): number => Math.round(10 * ms) / 10;
  return {
    model,
    version,
    network_ms: tenths(networkMs),
    devices: devices.map((one) => ({
      device: one.device,
      size_class: one.size,
      source: one.source,
      samples: one.samples,
      item_ms: Math.round(1000 * one.itemMs) / 1000,
      runs: one.ladder.map(([items, ms]) => ({ items, ms: Math.round(1000 * ms) / 1000 })),
      ...(one.newestMs !== undefined && { newest_sample: new Date(one.newestMs).toISOString() }),
      ...(one.loadMs !== undefined && { load_ms: tenths(one.loadMs) }),
      ...(one.overheadMs !== undefined && { overhead_ms: tenths(one.overheadMs) }),
      host_share: Math.round(1000 * one.sharing.share) / 1000,
      idle_ms: Math.round(1000 * one.sharing.idleMs) / 1000,
    })),
  };
}
