/** Aliases of models: names that requests may use for versions. Promoting waits until the version is loaded. */

import { type AliasView, type ModelAlias, quoted, SwitchyardError } from "@switchyard/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { AliasName, ModelAliases } from "../application/model-aliases.ts";
import { sendJson } from "./answers.ts";
import type { DoorContext } from "./door-context.ts";
import { jsonBody } from "./json-body.ts";
import { httpLine } from "./open-calls.ts";
import { badRequest } from "./request-options.ts";
import { addRoute } from "./routes.ts";

export function addAliases(app: FastifyInstance, context: DoorContext): void {
  addRoute(app, "/v1/models/:model/aliases", {
    GET: async (request, reply) => {
      const { model } = request.params as { model: string };
      const items = (await aliasesOf(context).list(model)).map(([alias, entry]) => toView({ model, alias }, entry));
      return sendJson(request, reply, { items, links: {} });
    },
  });
  addRoute(app, "/v1/models/:model/aliases/:alias", {
    GET: async (request, reply) => answer(request, reply, await aliasesOf(context).get(nameIn(request))),
    PUT: async (request, reply) => answer(request, reply, await aliasesOf(context).put(nameIn(request), await jsonBody(request))),
    DELETE: async (request, reply) => {
      await aliasesOf(context).remove(nameIn(request));
      return reply.code(204).send();
    },
  });
  addRoute(app, "/v1/models/:model/aliases/:alias/promote", {
    POST: async (request, reply) => {
      const to = promotionIn(await jsonBody(request));
      return held(context, reply, async (signal) => answer(request, reply, await aliasesOf(context).promote(nameIn(request), to, signal)));
    },
  });
  addRoute(app, "/v1/models/:model/aliases/:alias/rollback", {
    POST: (request, reply) =>
      held(context, reply, async (signal) => answer(request, reply, await aliasesOf(context).rollBack(nameIn(request), signal))),
  });
}

async function held<T>(context: DoorContext, reply: FastifyReply, act: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const call = context.calls.waiting(httpLine(reply.raw));
  try {
    return await act(call.signal);
  } finally {
    call.end();
  }
}

function promotionIn(body: Record<string, unknown>): { version?: number; from?: string } {
  const { from, version, ...others } = body;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw badRequest(`/${unknown}`, "absent: known are version and from", unknown);
  if (typeof from === "string" && version === undefined) return { from };
  if (Number.isSafeInteger(version) && (version as number) > 0 && from === undefined) return { version: version as number };
  throw badRequest("body", 'an object with either "version", a whole number, or "from", an alias', quoted(body));
}

function answer(request: FastifyRequest, reply: FastifyReply, entry: ModelAlias): FastifyReply | Promise<FastifyReply> {
  return sendJson(request, reply.header("cache-control", "no-store"), toView(nameIn(request), entry));
}

function toView({ alias, model }: AliasName, { previous, target, updatedMs }: ModelAlias): AliasView {
  const view: AliasView = { model, name: alias, target, updated_at: new Date(updatedMs).toISOString() };
  if (previous[0]) view.previous = previous[0];
  return view;
}

const nameIn = (request: FastifyRequest): AliasName => request.params as AliasName;

function aliasesOf({ aliases }: DoorContext): ModelAliases {
  if (aliases === undefined) throw new SwitchyardError("unsupported", "This coordinator has no aliases");
  return aliases;
}
