/** Hosts, models and tenants as /v1 shows them, and the probes. */

import { errors, SwitchyardError } from "@switchyard/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { mayUse } from "../application/caller.ts";
import { readinessChecks } from "../application/readiness.ts";
import { sendJson } from "./answers.ts";
import { hostOf, toEstimatesView, toModelView, toModelViews } from "./cluster-views.ts";
import type { DoorContext } from "./door-context.ts";
import { callerOf } from "./guard.ts";
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
      return sendJson(request, reply, { items: toModelViews(context.models, listed, caller), links: {} });
    },
  });
  addRoute(app, "/v1/models/:model", {
    GET: (request, reply) => {
      const { model } = request.params as ModelPath;
      context.models.resolve(model);
      return sendJson(request, reply, {
        items: toModelViews(context.models, context.models.versions(model), callerOf(request)),
        links: {},
      });
    },
  });
  addRoute(app, "/v1/models/:model/versions/:version", {
    GET: (request, reply) => {
      const path = request.params as ModelPath;
      return sendJson(request, reply, toModelView(context.models.usual(path.model, versionIn(path)), callerOf(request)));
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

function answerReady(context: DoorContext, request: FastifyRequest, reply: FastifyReply): FastifyReply | Promise<FastifyReply> {
  const failed = [...context.jobs.unready(), ...(context.tools?.servers.unready() ?? [])];
  if (context.leaving()) failed.unshift({ check: "draining", detail: errors.draining.title });
  reply.header("cache-control", "no-store");
  const isVerbose = (request.query as Record<string, unknown>).verbose !== undefined;
  const more = isVerbose && { checks: ["draining", ...readinessChecks, ...(context.tools ? ["mcp_servers"] : [])].map(stateOf) };
  function stateOf(check: string): { check: string; state: "passed" | "failed"; details?: string[] } {
    const details = failed.flatMap((one) => (one.check === check ? one.detail : []));
    return details.length === 0 ? { check, state: "passed" } : { check, state: "failed", details };
  }
  if (failed.length === 0) return sendJson(request, reply, more ? { ready: true, failed, ...more } : { ready: true });
  const detail = failed.map((one) => `${one.check}: ${one.detail}`).join("; ");
  throw new SwitchyardError(context.leaving() ? "draining" : "model_not_ready", `Not ready. ${detail}`, {
    extra: { ready: false, failed, ...more },
  });
}
