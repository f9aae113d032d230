/** Everything of /v2 but the inference itself: server and model metadata, health, configuration, repository index. */

import { SwitchyardError } from "@switchyard/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ModelStatus } from "../ports/model-registry.ts";
import { sendPlainJson } from "./answers.ts";
import type { DoorContext } from "./door-context.ts";
import { callerOf } from "./guard.ts";
import { jsonBody } from "./json-body.ts";
import {
  canServe,
  isReady,
  modelConfiguration,
  modelMetadata,
  modelStatistics,
  mustBeServed,
  repositoryIndex,
  serverMetadata,
} from "./model-views.ts";
import { addRoute, type Handler } from "./routes.ts";
import { type ModelPath, versionIn } from "./v2-inference.ts";
import { addModelControl } from "./v2-model-control.ts";

export function addModels(app: FastifyInstance, context: DoorContext): void {
  addRoute(app, "/v2", { GET: (_request, reply) => sendPlainJson(reply, serverMetadata(context)) });
  addRoute(app, "/v2/health/live", { GET: (_request, reply) => sendPlainJson(reply, { live: true }) });
  addRoute(app, "/v2/health/ready", {
    GET: (_request, reply) => {
      const ready = isReady(context);
      return sendPlainJson(reply.code(ready ? 200 : 400), { ready });
    },
  });
  addModelRoute(app, "", (status, request) => modelMetadata(status, context, (request.params as ModelPath).version !== undefined), context);
  addModelRoute(app, "/config", modelConfiguration, context);
  addReadiness(app, context);
  const index: Handler = (request, reply) => answerIndex(context, request, reply);
  addRoute(app, "/v2/repository/index", { POST: index });
  addRoute(app, "/v2/repository/:repository/index", { POST: index });
  addModelControl(app, context);
  for (const url of ["/v2/models/stats", "/v2/models/:model/stats", "/v2/models/:model/versions/:version/stats"]) {
    addRoute(app, url, { GET: (request, reply) => answerStatistics(context, request, reply) });
  }
}

async function answerStatistics(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const path = request.params as Partial<ModelPath>;
  const version = path.model === undefined ? undefined : versionIn({ ...path, model: path.model });
  const statistics = await context.statistics.of({ model: path.model, version }, callerOf(request));
  return sendPlainJson(reply.header("cache-control", "no-store"), modelStatistics(statistics));
}

function addModelRoute(
  app: FastifyInstance,
  suffix: string,
  answer: (status: ModelStatus, request: FastifyRequest) => unknown,
  context: DoorContext,
): void {
  const handler: Handler = (request, reply) => {
    const path = request.params as ModelPath;
    const status = mustBeServed(context.models.usual(path.model, versionIn(path)));
    return sendPlainJson(reply, answer(status, request));
  };
  addRoute(app, `/v2/models/:model${suffix}`, { GET: handler });
  addRoute(app, `/v2/models/:model/versions/:version${suffix}`, { GET: handler });
}

function addReadiness(app: FastifyInstance, context: DoorContext): void {
  const handler: Handler = (request, reply) => {
    const path = request.params as ModelPath;
    const status = context.models.usual(path.model, versionIn(path));
    const ready = !context.leaving() && canServe(status, context);
    return sendPlainJson(reply.code(ready ? 200 : 400), { name: path.model, ready });
  };
  addRoute(app, "/v2/models/:model/ready", { GET: handler });
  addRoute(app, "/v2/models/:model/versions/:version/ready", { GET: handler });
}

async function answerIndex(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const onlyReady = readyFlag(await jsonBody(request));
  return sendPlainJson(reply, repositoryIndex(context, callerOf(request), onlyReady));
}

function readyFlag({ ready = false }: Record<string, unknown>): boolean {
  if (typeof ready !== "boolean") throw new SwitchyardError("invalid_request", "Invalid value for 'ready': it must be true or false");
  return ready;
}
