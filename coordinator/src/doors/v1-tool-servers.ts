/** /v1/mcp: the MCP servers whose tools this cluster uses: list them, call a tool, consent to it, read the audit trail. */

import { parseJson, quoted, SwitchyardError, type ToolCallView } from "@switchyard/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { boundArguments } from "../application/bound-arguments.ts";
import { requireScope } from "../application/caller.ts";
import { type Bindings, escaped, mostBindings, type Source } from "../application/tool-binding.ts";
import { requireTool } from "../application/tool-calls.ts";
import type { ToolService } from "../application/tool-service.ts";
import { sendJson } from "./answers.ts";
import type { DoorContext } from "./door-context.ts";
import { callerOf } from "./guard.ts";
import { linksOf } from "./job-filters.ts";
import { jsonBody } from "./json-body.ts";
import { httpLine } from "./open-calls.ts";
import { readBody } from "./request-body.ts";
import { badRequest } from "./request-options.ts";
import { addRoute } from "./routes.ts";
import { toAuditView, toConsentView, toServerView, toToolView } from "./tool-server-views.ts";

/** Of a call's body: what it carries goes on to another server as it is. */
const mostCallBytes = 4 << 20;
const mostDepth = 64;
const mostTimeoutMs = 24 * 3_600_000;
const usualEntries = 50;
const mostEntries = 200;

export function addToolServers(app: FastifyInstance, context: DoorContext): void {
  addRoute(app, "/v1/mcp/servers", {
    GET: (request, reply) => {
      const items = (context.tools?.servers.all() ?? []).map(toServerView);
      return sendJson(request, reply.header("cache-control", "no-store"), { items, links: {} });
    },
  });
  addRoute(app, "/v1/mcp/servers/:server", {
    GET: async (request, reply) => {
      const { desk, servers } = toolsOf(context);
      const server = servers.get(pathOf(request).server);
      const tools = await desk.judgeAll(server);
      return sendJson(request, reply.header("cache-control", "no-store"), { ...toServerView(server), tool_list: tools.map(toToolView) });
    },
  });
  addRoute(app, "/v1/mcp/servers/:server/tools/:tool", {
    GET: async (request, reply) => {
      const { desk, server, tool } = toolIn(context, request);
      return sendJson(request, reply.header("cache-control", "no-store"), toToolView(await desk.judge(server, tool)));
    },
    POST: (request, reply) => answerCall(context, request, reply),
  });
  addRoute(app, "/v1/mcp/servers/:server/tools/:tool/consent", {
    GET: async (request, reply) => {
      const { desk, server, tool } = toolIn(context, request);
      return sendJson(request, reply.header("cache-control", "no-store"), toConsentView(server, await desk.judge(server, tool)));
    },
    PUT: async (request, reply) => {
      const wanted = decisionIn(await jsonBody(request));
      const { desk, server, tool } = toolIn(context, request);
      const decided = await desk.decide(server, tool, { ...wanted, caller: callerOf(request) });
      return sendJson(request, reply.header("cache-control", "no-store"), toConsentView(server, decided));
    },
    DELETE: async (request, reply) => {
      const { desk, server, tool } = toolIn(context, request);
      await desk.forget(server, tool, callerOf(request));
      return reply.code(204).send();
    },
  });
  addRoute(app, "/v1/mcp/audit", { GET: (request, reply) => answerAudit(context, request, reply) });
}

async function answerCall(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  if (context.draining()) throw new SwitchyardError("draining", "This coordinator is shutting down; ask another one");
  const { server, tool } = pathOf(request);
  const { calls, servers } = toolsOf(context);
  servers.get(server); // before the body is read
  const caller = callerOf(request);
  const asked = await readCall(context, request);
  if (asked.bindings.size > 0) requireScope(caller, ["read"]); // what a tool is given, its caller may see
  const call = context.calls.held(httpLine(reply.raw));
  try {
    const called = await calls.callTool(
      {
        server,
        tool,
        arguments: asked.arguments,
        via: "http",
        ...(asked.bindings.size > 0 && { complete: () => boundArguments(context.jobs, asked, caller) }),
        ...(asked.timeoutMs !== undefined && { timeoutMs: asked.timeoutMs }),
      },
      caller,
      call.signal,
    );
    const view: ToolCallView = {
      server,
      tool,
      is_error: called.isError,
      content: called.content,
      ...(called.structuredContent !== undefined && { structured_content: called.structuredContent }),
      ms: called.ms,
    };
    return await sendJson(request, reply.header("cache-control", "no-store"), view);
  } catch (error) {
    const isLeft = call.toldToGo() && error instanceof SwitchyardError && error.code === "cancelled";
    throw isLeft ? new SwitchyardError("draining", "This coordinator is shutting down; the tool may have run", error.facts) : error;
  } finally {
    call.end();
  }
}

async function readCall(context: DoorContext, { raw }: FastifyRequest): Promise<AskedCall> {
  const held = context.bodies.body();
  try {
    const body = await readBody(raw, { maxBytes: mostCallBytes, held });
    const value = body.length === 0 ? {} : parseJson(body, mostDepth).value;
    if (!isObject(value)) throw badRequest("body", 'an object such as {"arguments": {}}', quoted(value));
    return callIn(value);
  } finally {
    held.leave();
  }
}

interface AskedCall {
  arguments: Record<string, unknown>;
  bindings: Bindings;
  timeoutMs: number | undefined;
}

function callIn(body: Record<string, unknown>): AskedCall {
  const { arguments: args = {}, bindings = {}, timeout_ms: timeoutMs, ...others } = body;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw badRequest(`/${unknown.slice(0, 64)}`, "absent: known are arguments, bindings and timeout_ms", unknown);
  if (!isObject(args)) throw badRequest("/arguments", "an object", quoted(args));
  if (!isObject(bindings)) throw badRequest("/bindings", "an object of sources by JSON pointer", quoted(bindings));
  if (
    timeoutMs !== undefined &&
    !(Number.isSafeInteger(timeoutMs) && (timeoutMs as number) >= 1 && (timeoutMs as number) <= mostTimeoutMs)
  ) {
    throw badRequest("/timeout_ms", `a whole number of milliseconds from 1 to ${mostTimeoutMs}`, quoted(timeoutMs));
  }
  const entries = Object.entries(bindings);
  if (entries.length > mostBindings) throw badRequest("/bindings", `at most ${mostBindings} bindings`, entries.length);
  return {
    arguments: args,
    bindings: new Map(entries.map(([target, source]) => [target, sourceIn(target, source)])),
    timeoutMs: timeoutMs as number | undefined,
  };
}

function sourceIn(target: string, source: unknown): Source {
  const at = `/bindings/${escaped(target.slice(0, 64))}`;
  if (!isObject(source)) throw badRequest(at, 'an object such as {"job": "…", "pointer": "/outputs/label/0"}', quoted(source));
  const { job, pointer, ...others } = source;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw badRequest(`${at}/${escaped(unknown.slice(0, 64))}`, "absent: known are job and pointer", unknown);
  if (typeof job !== "string") throw badRequest(`${at}/job`, "the id of a job", quoted(job));
  if (typeof pointer !== "string") throw badRequest(`${at}/pointer`, "a JSON pointer into the job", quoted(pointer));
  return { document: job, pointer };
}

function decisionIn(body: Record<string, unknown>): { decision: "allow" | "deny"; pin: string | undefined } {
  const { decision, pin, ...others } = body;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw badRequest(`/${unknown.slice(0, 64)}`, "absent: known are decision and pin", unknown);
  if (decision !== "allow" && decision !== "deny") throw badRequest("/decision", '"allow" or "deny"', quoted(decision));
  if (pin !== undefined && !(typeof pin === "string" && /^[0-9a-f]{64}$/.test(pin))) {
    throw badRequest("/pin", "the pin of the definition that was looked at, 64 hexadecimal digits", quoted(pin));
  }
  return { decision, pin };
}

async function answerAudit(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { cursor, limit = String(usualEntries), ...others } = request.query as Record<string, unknown>;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw badRequest(unknown.slice(0, 64), "one of cursor and limit", unknown);
  const count = Number(limit);
  if (!(Number.isSafeInteger(count) && count >= 1 && count <= mostEntries))
    throw badRequest("limit", `a whole number from 1 to ${mostEntries}`, limit);
  if (cursor !== undefined && !(typeof cursor === "string" && /^\d{1,20}-\d{1,20}$/.test(cursor))) {
    throw badRequest("cursor", "what an earlier answer gave", cursor);
  }
  const entries = (await context.tools?.audit.read({ limit: count, ...(cursor !== undefined && { before: cursor }) })) ?? [];
  const next = entries.length === count ? entries.at(-1)?.id : undefined;
  return sendJson(request, reply.header("cache-control", "no-store"), { items: entries.map(toAuditView), links: linksOf(request, next) });
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

interface ToolPath {
  server: string;
  tool: string;
}

const pathOf = (request: FastifyRequest): ToolPath => request.params as ToolPath;

function toolIn(context: DoorContext, request: FastifyRequest) {
  const path = pathOf(request);
  const { desk, servers } = toolsOf(context);
  const server = servers.get(path.server);
  return { desk, server, tool: requireTool(server, path.tool) };
}

function toolsOf({ tools }: DoorContext): ToolService {
  if (tools) return tools;
  throw new SwitchyardError(
    "not_found",
    "No MCP servers are configured: SWITCHYARD_MCP_SERVERS (--mcp-servers) names the file that lists them",
  );
}
