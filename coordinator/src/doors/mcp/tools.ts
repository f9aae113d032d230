/** The tools that a caller has: the fixed ones that its key opens, and one for each model while those are few. Lists them and calls them. */

import {
  type CallToolRequestParams,
  type CallToolResult,
  ProtocolError,
  ProtocolErrorCode,
  type Server,
  type ServerContext,
  type Tool,
} from "@modelcontextprotocol/server";
import { readTraceContext, SwitchyardError, type TraceContext } from "@switchyard/protocol";
import type { Caller } from "../../application/caller.ts";
import { requireScope } from "../../application/caller.ts";
import type { OpenSpan } from "../../ports/tracing.ts";
import type { DoorContext } from "../door-context.ts";
import { brokenInside } from "../problem.ts";
import { modelOf, servedModels, servedVersion } from "./model-tools.ts";
import { Progress } from "./progress.ts";
import { Questions, type StateCodec } from "./questions.ts";
import { factsIn } from "./request-facts.ts";
import type { Asked } from "./serving.ts";
import { takesTasks } from "./task-protocol.ts";
import { signalLine, type ToolAnswer, type ToolHandler } from "./tool.ts";
import { batchTool } from "./tool-batch.ts";
import { failedResult, failureOf } from "./tool-errors.ts";
import { inferTool, modelTool } from "./tool-infer.ts";
import { jobTools } from "./tool-jobs.ts";
import { modelsSearchTool } from "./tool-models.ts";

const core: readonly ToolHandler[] = [modelsSearchTool, inferTool, batchTool, ...jobTools];
const coreByName = new Map(core.map((tool) => [tool.definition.name, tool]));

export function addToolHandlers(server: Server, context: DoorContext, { caller, codec, era }: Asked & { codec: StateCodec }): void {
  server.setRequestHandler("tools/list", async ({ params }) => {
    if (params?.cursor !== undefined)
      throw new ProtocolError(ProtocolErrorCode.InvalidParams, "Unknown cursor: the tools come in one page");
    const tools = listedTools(context, caller);
    return { tools: era === "modern" ? tools : tools.map(withoutTasks) };
  });
  server.setRequestHandler("tools/call", ({ params }, its) => callTool(context, { params, its, server, codec }));
}

/** By name. Above so many models, hosts would pay more for the list than it is worth: `infer` runs them all. */
export function listedTools(context: DoorContext, caller: Caller): Tool[] {
  const mayCall = ({ scopes }: ToolHandler): boolean => scopes.some((scope) => caller.scopes.has(scope));
  const models = servedModels(context.models.list(), caller);
  const own = models.length > context.config.mostModelTools ? [] : models.flatMap((model) => toolOf(context, model) ?? []);
  const tools = [...core, ...own].filter(mayCall).map(({ definition }) => definition);
  return tools.sort((one, other) => (one.name < other.name ? -1 : 1));
}

/** The legacy era has none. */
function withoutTasks(tool: Tool): Tool {
  const { task: _task, ...properties } = tool.inputSchema.properties ?? {};
  return { ...tool, inputSchema: { ...tool.inputSchema, properties } };
}

function toolOf(context: DoorContext, model: string): ToolHandler | undefined {
  const status = servedVersion(context.models, model);
  return status && modelTool(status);
}

function toolNamed(context: DoorContext, name: string): ToolHandler {
  const fixed = coreByName.get(name);
  if (fixed !== undefined) return fixed;
  const model = modelOf(name, context.models);
  if (model === undefined)
    throw new ProtocolError(ProtocolErrorCode.InvalidParams, `Unknown tool: ${name.slice(0, 128)}; list the tools again`);
  return modelTool(context.models.resolve(model));
}

interface Called {
  params: CallToolRequestParams;
  its: ServerContext;
  server: Server;
  codec: StateCodec;
}

/** The library's types know nothing of results that are tasks. */
async function callTool(context: DoorContext, { codec, its, params, server }: Called): Promise<CallToolResult> {
  const { caller, exact, requestId, spentMs, trace } = factsIn(its);
  const { name, arguments: args = {} } = params;
  const span = spanOf(context, { name, its, trace });
  try {
    const tool = toolNamed(context, name);
    requireScope(caller, tool.scopes);
    if (context.draining()) throw new SwitchyardError("draining", "This coordinator is shutting down; ask another one");
    const asksUsers = mayAskUsers(server);
    const answer: ToolAnswer = await tool.call({
      context,
      caller,
      name,
      args,
      exactArgs: () => (exact?.() as { params?: { arguments?: Record<string, unknown> } } | undefined)?.params?.arguments,
      meta: its.mcpReq._meta,
      line: signalLine(its.mcpReq.signal),
      client: { asksUsers, takesTasks: takesTasks(its) },
      progress: new Progress(its, context.clock),
      questions: new Questions(its, codec, asksUsers),
      requestId,
      spentMs,
      trace: span?.context ?? trace,
    });
    return answer as CallToolResult;
  } catch (error) {
    if (error instanceof ProtocolError) throw error;
    const known =
      error instanceof SwitchyardError ? error : brokenInside(error, { trace_id: requestId, method: name, route: "/mcp" }, context.log);
    span?.add({ "error.type": known.code });
    return failedResult(failureOf(known, requestId));
  } finally {
    span?.end();
  }
}

/** Forms, that is: an empty declaration means those. */
function mayAskUsers(server: Server): boolean {
  const declared = server.getClientCapabilities()?.elicitation;
  return declared !== undefined && (declared.form !== undefined || declared.url === undefined);
}

/** The call in the trace that its message names, else in that of its HTTP request. */
function spanOf(
  { tracing }: DoorContext,
  { its, name, trace }: { its: ServerContext; name: string; trace: TraceContext | undefined },
): OpenSpan | undefined {
  if (!tracing) return undefined;
  const { traceparent, tracestate } = (its.mcpReq._meta ?? {}) as Record<string, unknown>;
  const told =
    typeof traceparent === "string" ? readTraceContext(traceparent, typeof tracestate === "string" ? tracestate : undefined) : undefined;
  const facts = { "mcp.method.name": "tools/call", "gen_ai.tool.name": name.slice(0, 128) };
  if (told !== undefined) return tracing.request(`tools/call ${name.slice(0, 128)}`, facts, told);
  return trace && tracing.step(`tools/call ${name.slice(0, 128)}`, facts, trace);
}
