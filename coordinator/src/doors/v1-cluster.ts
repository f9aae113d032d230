/** Hosts, models and tenants as /v1 shows them, and the probes. */

import { type EstimatesView, errors, type HostView, type ModelView, SwitchyardError } from "@switchyard/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { type Caller, mayUse } from "../application/caller.ts";
import type { ModelEstimates } from "../application/job-service.ts";
import type { ModelStatus } from "../ports/model-registry.ts";
import { sendJson } from "./answers.ts";
import type { DoorContext } from "./door-context.ts";
import { callerOf } from "./guard.ts";
import { tensorView } from "./model-views.ts";
import { openApiDocument } from "./openapi.ts";
import { addRoute, addUnbuilt } from "./routes.ts";
import { traceIdOf } from "./traced-requests.ts";
import { putVersion, removeVersion } from "./v1-model-uploads.ts";
import { type ModelPath, versionIn } from "./v2-inference.ts";

export function addCluster(app: FastifyInstance, context: DoorContext): void {
  addRoute(app, "/livez", { GET: (request, reply) => sendJson(request, reply, { live: true }) });
  addRoute(app, "/readyz", { GET: (request, reply) => answerReady(context, request, reply) });
  addRoute(app, "/openapi.json", { GET: (request, reply) => sendJson(request, reply, openApiDocument(context.version)) });
  addRoute(app, "/v1/hosts", {
    GET: (request, reply) => sendJson(request, reply, { items: context.hosts.list(), links: {} }),
  });
  addRoute(app, "/v1/hosts/:id", {
    GET: (request, reply) => sendJson(request, reply, hostOf(context, (request.params as { id: string }).id)),
  });
  addRoute(app, "/v1/models", {
    GET: (request, reply) => {
      const caller = callerOf(request);
      const listed = context.models.list().filter(({ version }) => mayUse(caller, version.model));
      return sendJson(request, reply, { items: listed.map((status) => toModelView(status, caller)), links: {} });
    },
  });
  addRoute(app, "/v1/models/:model", {
    GET: (request, reply) => {
      const { model } = request.params as ModelPath;
      context.models.resolve(model);
      return sendJson(request, reply, {
        items: context.models.versions(model).map((status) => toModelView(status, callerOf(request))),
        links: {},
      });
    },
  });
  addRoute(app, "/v1/models/:model/versions/:version", {
    GET: (request, reply) => {
      const path = request.params as ModelPath;
      return sendJson(request, reply, toModelView(context.models.resolve(path.model, versionIn(path)), callerOf(request)));
    },
    PUT: putVersion(context),
    DELETE: removeVersion(context),
  });
  for (const path of ["/v1/models/:model/estimates", "/v1/models/:model/versions/:version/estimates"]) {
    addRoute(app, path, {
      GET: async (request, reply) => {
        const { model, version } = request.params as ModelPath;
        return sendJson(
          request,
          reply,
          toEstimatesView(await context.jobs.estimates(model, versionIn({ model, ...(version && { version }) }))),
        );
      },
    });
  }
  addRoute(app, "/v1/tenants", {
    GET: async (request, reply) => {
      const items = await context.overview.tenants(context.access.tenants());
      return sendJson(request, reply, { items, links: {} });
    },
  });
  addRoute(app, "/v1/hosts/:id/drain", {
    POST: (request, reply) => answerDrain(context, request, reply),
    DELETE: (request, reply) => answerLift(context, request, reply),
  });
  for (const [path, what] of [
    ["pipelines", "Pipelines"],
    ["training", "Training"],
  ]) {
    addUnbuilt(app, `/v1/${path}`, what!);
    addUnbuilt(app, `/v1/${path}/*`, what!);
  }
}

/** Hosts follow with their next beat, within a second: the view shows them as they are now. */
async function answerDrain(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const host = hostOf(context, (request.params as { id: string }).id);
  await context.drains.ask(host.id);
  context.log.info("drain_asked", { trace_id: traceIdOf(request), host: host.id, key: callerOf(request).keyId ?? "none" });
  return sendJson(request, reply.code(202).header("cache-control", "no-store"), host);
}

/** Also of a host that is not there: it would come back and take no jobs. */
async function answerLift(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { id } = request.params as { id: string };
  const wasAsked = await context.drains.lift(id);
  context.log.info("drain_lifted", { trace_id: traceIdOf(request), host: id.slice(0, 64), key: callerOf(request).keyId ?? "none" });
  reply.code(202).header("cache-control", "no-store");
  if (wasAsked && !context.hosts.list().some((host) => host.id === id)) return sendJson(request, reply, { id });
  return sendJson(request, reply, hostOf(context, id));
}

function hostOf(context: DoorContext, id: string): HostView {
  const host = context.hosts.list().find((candidate) => candidate.id === id);
  if (host !== undefined) return host;
  throw new SwitchyardError("host_not_found", `No host '${id.slice(0, 64)}' is registered`);
}

/** Hosts are shown to operators only. */
function toModelView(status: ModelStatus, caller: Caller): ModelView {
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

function toEstimatesView({ model, version, networkMs, devices }: ModelEstimates): EstimatesView {
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
    })),
  };
}

function answerReady(context: DoorContext, request: FastifyRequest, reply: FastifyReply): FastifyReply | Promise<FastifyReply> {
  const failed = [...context.jobs.unready(), ...(context.tools?.servers.unready() ?? [])];
  if (context.leaving()) failed.unshift({ check: "draining", detail: errors.draining.title });
  reply.header("cache-control", "no-store");
  const isVerbose = (request.query as Record<string, unknown>).verbose !== undefined;
  if (failed.length === 0) return sendJson(request, reply, isVerbose ? { ready: true, failed } : { ready: true });
  const detail = failed.map((one) => `${one.check}: ${one.detail}`).join("; ");
  throw new SwitchyardError(context.leaving() ? "draining" : "model_not_ready", `Not ready. ${detail}`, {
    extra: { ready: false, failed },
  });
}
