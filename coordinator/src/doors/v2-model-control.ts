/** The repository extension's load and unload. */

import { quoted, SwitchyardError } from "@switchyard/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { LoadRequest, ModelControl } from "../application/model-control.ts";
import { sendJson } from "./answers.ts";
import type { DoorContext } from "./door-context.ts";
import { callerOf } from "./guard.ts";
import { jsonBody } from "./json-body.ts";
import { httpLine } from "./open-calls.ts";
import { badRequest } from "./request-options.ts";
import { addRoute } from "./routes.ts";

const filePrefix = "file:";
/** The usual limit of small bodies. */
const withoutFiles = { advice: "Files of models may be sent only with an API key that has the scope 'admin'" };

export function addModelControl(app: FastifyInstance, context: DoorContext): void {
  addRoute(app, "/v2/repository/models/:model/load", { POST: (request, reply) => answerLoad(context, request, reply) });
  addRoute(app, "/v2/repository/models/:model/unload", { POST: (request, reply) => answerUnload(context, request, reply) });
}

async function answerLoad(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const caller = callerOf(request);
  const held = context.bodies.body();
  try {
    const reading = caller.scopes.has("admin") ? { maxBytes: context.config.maxJsonBytes, held } : withoutFiles;
    const wanted = loadRequestIn(parametersIn(await jsonBody(request, reading)));
    const call = context.calls.waiting(httpLine(reply.raw));
    try {
      await controlOf(context).load(modelIn(request), wanted, caller, call.signal);
    } finally {
      call.end();
    }
  } finally {
    held.leave();
  }
  return sendJson(request, reply, {});
}

async function answerUnload(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  checkUnload(parametersIn(await jsonBody(request)));
  await controlOf(context).unload(modelIn(request));
  return sendJson(request, reply, {});
}

function parametersIn({ parameters = {} }: Record<string, unknown>): Record<string, unknown> {
  if (typeof parameters === "object" && parameters !== null && !Array.isArray(parameters)) return parameters as Record<string, unknown>;
  throw badRequest("/parameters", "an object", quoted(parameters));
}

/** Throws `invalid_request`, naming the parameter. There are no dependents, so none to spare. */
export function checkUnload({ unload_dependents: dependents = false, ...others }: Record<string, unknown>): void {
  if (typeof dependents !== "boolean") throw badRequest("/parameters/unload_dependents", "true or false", quoted(dependents));
  refuseOthers(others, "unload_dependents");
}

/** Files are base64 text, or bytes where the protocol has them. Throws `invalid_request`, naming the parameter. */
export function loadRequestIn(parameters: Record<string, unknown>): LoadRequest {
  const { config, ...others } = parameters;
  if (config !== undefined && typeof config !== "string") throw badRequest("/parameters/config", "JSON as a string", quoted(config));
  const files = new Map<string, Uint8Array>();
  for (const [name, value] of Object.entries(others)) {
    if (!name.startsWith(filePrefix)) continue;
    const bytes = value instanceof Uint8Array ? value : bytesOfBase64(value);
    if (bytes === undefined) throw badRequest(`/parameters/${name}`, "base64 text", typeof value);
    files.set(name.slice(filePrefix.length), bytes);
    delete others[name];
  }
  refuseOthers(others, "config and file:<version>/model.onnx");
  return { files, ...(config !== undefined && { config }) };
}

const bytesOfBase64 = (value: unknown): Uint8Array | undefined =>
  typeof value === "string" && /^[A-Za-z0-9+/]*={0,2}$/.test(value) ? Buffer.from(value, "base64") : undefined;

function refuseOthers(others: Record<string, unknown>, known: string): void {
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw badRequest(`/parameters/${unknown}`, `absent: known is ${known}`, unknown);
}

const modelIn = (request: FastifyRequest): string => (request.params as { model: string }).model;

export function controlOf({ control }: DoorContext): ModelControl {
  if (control === undefined) throw new SwitchyardError("unsupported", "This coordinator loads no models by request");
  return control;
}
