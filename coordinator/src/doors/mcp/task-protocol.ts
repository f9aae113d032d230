/**
 * The tasks extension as messages: `tasks/get`, `tasks/update`, `tasks/cancel` of 2026-07-28. Knows nothing of what tasks are; whoever has some
 * answers for them. Only for clients that declare the extension with each request.
 */

import {
  CLIENT_CAPABILITIES_META_KEY,
  type ClientCapabilities,
  MissingRequiredClientCapabilityError,
  type Result,
  type Server,
  type ServerContext,
} from "@modelcontextprotocol/server";
import { z } from "zod";

export const tasksExtension = "io.modelcontextprotocol/tasks";

/** A task as it is told, with what belongs to its status. */
export type Task = {
  taskId: string;
  statusMessage?: string;
  createdAt: string;
  lastUpdatedAt: string;
  /** From its creation; null: for ever. */
  ttlMs: number | null;
  pollIntervalMs?: number;
} & (
  | { status: "working" | "cancelled" }
  | { status: "input_required"; inputRequests: Record<string, unknown> }
  | { status: "completed"; result: Result }
  | { status: "failed"; error: { code: number; message: string; data?: unknown } }
);

/** Each throws the protocol's invalid-params error for a task that the caller has not. */
export interface Tasks {
  get(taskId: string, context: ServerContext): Promise<Task>;
  /** Answers to questions that were not asked are passed over. */
  update(taskId: string, responses: Readonly<Record<string, unknown>>, context: ServerContext): Promise<void>;
  cancel(taskId: string, context: ServerContext): Promise<void>;
}

const params = z.looseObject({ taskId: z.string() });

/** Of a server of the modern era. */
export function addTaskHandlers(server: Pick<Server, "setRequestHandler">, tasks: Tasks): void {
  server.setRequestHandler("tasks/get", { params }, async ({ taskId }, context) => {
    requireTasks(context);
    return { ...(await tasks.get(taskId, context)) };
  });
  server.setRequestHandler("tasks/update", { params }, async ({ taskId }, context) => {
    requireTasks(context);
    await tasks.update(taskId, context.mcpReq.inputResponses ?? {}, context);
    return {};
  });
  server.setRequestHandler("tasks/cancel", { params }, async ({ taskId }, context) => {
    requireTasks(context);
    await tasks.cancel(taskId, context);
    return {};
  });
}

/** The answer to a call that has become a task. */
export function taskResult(task: Task): Result {
  return { resultType: "task", ...task };
}

export function takesTasks({ mcpReq }: ServerContext): boolean {
  const declared = (mcpReq.envelope as Record<string, unknown> | undefined)?.[CLIENT_CAPABILITIES_META_KEY] as
    | ClientCapabilities
    | undefined;
  return declared?.extensions?.[tasksExtension] !== undefined;
}

function requireTasks(context: ServerContext): void {
  if (takesTasks(context)) return;
  throw new MissingRequiredClientCapabilityError({ requiredCapabilities: { extensions: { [tasksExtension]: {} } } });
}
