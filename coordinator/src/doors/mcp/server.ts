/**
 * What is served at `/mcp`: the cluster's models as tools and its jobs as tasks. One server is made for each request of the modern era and for
 * each session of the legacy era; what they share stands outside.
 */

import { randomBytes } from "node:crypto";
import {
  type JSONRPCRequest,
  ProtocolError,
  ProtocolErrorCode,
  type Result,
  Server,
  type ServerContext,
} from "@modelcontextprotocol/server";
import { errors, SwitchyardError } from "@switchyard/protocol";
import type { DoorContext } from "../door-context.ts";
import { brokenInside } from "../problem.ts";
import { instructionsFor } from "./instructions.ts";
import { jobTasks } from "./job-tasks.ts";
import { StateCodec } from "./questions.ts";
import { factsIn } from "./request-facts.ts";
import type { Asked, MakeServer } from "./serving.ts";
import { addTaskHandlers, tasksExtension } from "./task-protocol.ts";
import { addToolHandlers } from "./tools.ts";

/** Adds its capabilities and handlers to a server that nobody is connected to yet. */
export type ServerPart = (server: Server, context: DoorContext, asked: Asked) => void;

/** How long clients may keep what they were told. Changes are told of besides. */
const listLivesMs = 10_000;
const aboutLivesMs = 60_000;

export function serverMaker(context: DoorContext, parts: readonly ServerPart[] = []): MakeServer {
  const own = randomBytes(32);
  const codec = new StateCodec(context.secret ?? { read: async () => own });
  const tasks = jobTasks(context);
  const info = { name: "switchyard", title: "Switchyard", version: context.version };
  return async (asked) => {
    const isModern = asked.era === "modern";
    const server = new GuardedServer(info, {
      capabilities: { tools: { listChanged: true }, ...(isModern && { extensions: { [tasksExtension]: {} } }) },
      instructions: await instructionsFor(context, isModern),
      // by what a key opens, so for its holder alone
      cacheHints: {
        "tools/list": { ttlMs: listLivesMs, cacheScope: "private" },
        "server/discover": { ttlMs: aboutLivesMs, cacheScope: "private" },
      },
      requestState: { verify: async (state, its) => (await codec.codec()).verify(state, its) },
    });
    server.log = context.log;
    addToolHandlers(server, context, { ...asked, codec });
    if (isModern) addTaskHandlers(server, tasks);
    for (const part of parts) part(server, context, asked);
    return server;
  };
}

type Handler = (request: JSONRPCRequest, context: ServerContext) => Promise<Result>;

/** Handlers throw the errors that all doors throw; nothing of a bug is told but where to look for it. */
class GuardedServer extends Server {
  log: DoorContext["log"] | undefined;

  protected override _wrapHandler(method: string, handler: Handler): Handler {
    return super._wrapHandler(method, async (request, context) => {
      try {
        return await handler(request, context);
      } catch (error) {
        if (error instanceof ProtocolError) throw error;
        throw this.#told(error, method, context);
      }
    });
  }

  #told(error: unknown, method: string, context: ServerContext): ProtocolError {
    const { requestId } = factsIn(context);
    const known =
      error instanceof SwitchyardError || this.log === undefined
        ? (error as SwitchyardError)
        : brokenInside(error, { trace_id: requestId, method, route: "/mcp" }, this.log);
    const code = errors[known.code].http < 500 ? ProtocolErrorCode.InvalidParams : ProtocolErrorCode.InternalError;
    const { retryAfterMs } = known.facts;
    return new ProtocolError(code, known.message, {
      code: known.code,
      ...(retryAfterMs !== undefined && { retry_after_ms: retryAfterMs }),
    });
  }
}
