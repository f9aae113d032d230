/**
 * What is served at `/mcp`: the cluster's models as tools, its jobs as tasks, and all of it as resources. One server is made for each request of the modern era and for
 * each session of the legacy era; what they share stands outside.
 */

import { randomBytes } from "node:crypto";
import { type JSONRPCRequest, type Result, Server, type ServerContext } from "@modelcontextprotocol/server";
import type { DoorContext } from "../door-context.ts";
import { instructionsFor } from "./instructions.ts";
import { jobTasks } from "./job-tasks.ts";
import { asProtocolError } from "./protocol-errors.ts";
import { StateCodec } from "./questions.ts";
import { factsIn } from "./request-facts.ts";
import { openResources } from "./resource-part.ts";
import type { MakeServer, Served } from "./serving.ts";
import { addTaskHandlers, tasksExtension } from "./task-protocol.ts";
import { addToolHandlers } from "./tools.ts";

/** How long clients may keep what they were told. Changes are told of besides. */
const listLivesMs = 10_000;
const aboutLivesMs = 60_000;

export function served(context: DoorContext): Served {
  const own = randomBytes(32);
  const codec = new StateCodec(context.secret ?? { read: async () => own });
  const tasks = jobTasks(context);
  const resources = openResources(context);
  const info = { name: "switchyard", title: "Switchyard", version: context.version };
  const make: MakeServer = async (asked) => {
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
    resources.add(server, asked);
    return server;
  };
  return { make, listen: (factory) => resources.streams(factory), close: () => resources.close() };
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
        if (this.log === undefined) throw error;
        throw asProtocolError(error, { method, log: this.log, traceId: factsIn(context).requestId });
      }
    });
  }
}
