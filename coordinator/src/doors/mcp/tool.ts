/** What a tool is here: its definition as clients read it and what is done when they call it, in one place. */

import type { CallToolResult, InputRequiredResult, RequestMeta, Result, Tool } from "@modelcontextprotocol/server";
import type { TraceContext } from "@switchyard/protocol";
import type { Scope } from "@switchyard/protocol/api-keys";
import type { Caller } from "../../application/caller.ts";
import type { DoorContext } from "../door-context.ts";
import type { Line } from "../open-calls.ts";
import type { Progress } from "./progress.ts";
import type { Questions } from "./questions.ts";

/** What the client at the other end can do, as it says. */
export interface ClientAbilities {
  /** Ask its user for something. */
  asksUsers: boolean;
  /** Be given a task in the place of a result. */
  takesTasks: boolean;
}

export interface ToolCall {
  context: DoorContext;
  caller: Caller;
  name: string;
  args: Readonly<Record<string, unknown>>;
  /** The arguments with whole numbers beyond 2^53 as strings of digits. */
  exactArgs(): Readonly<Record<string, unknown>> | undefined;
  meta: RequestMeta | undefined;
  /** The client's end: it goes when the client cancels the call, or leaves where that means the same. */
  line: Line;
  client: ClientAbilities;
  progress: Progress;
  questions: Questions;
  /** The request's id, by which advice is spread. */
  requestId: string;
  spentMs: number;
  /** What jobs of this call belong to; only where tracing is on. */
  trace: TraceContext | undefined;
}

export type ToolAnswer = CallToolResult | InputRequiredResult | Result;

export interface ToolHandler {
  definition: Tool;
  /** Of which a key needs one. */
  scopes: readonly [Scope, ...Scope[]];
  /** Throws SwitchyardErrors, which become results. */
  call(call: ToolCall): Promise<ToolAnswer>;
}

/** Of an object that has these members and no others. */
export function schemaOf(
  properties: Record<string, unknown>,
  required: readonly string[],
): Tool["inputSchema"] & { properties: Record<string, unknown> } {
  const schema = {
    type: "object" as const,
    properties,
    ...(required.length > 0 && { required: [...required] }),
    additionalProperties: false,
  };
  return schema as Tool["inputSchema"] & { properties: Record<string, unknown> };
}

/** Whose call ends with the signal. */
export function signalLine(signal: AbortSignal): Line {
  return {
    isGone: () => signal.aborted,
    onGone(heard) {
      signal.addEventListener("abort", heard, { once: true });
      return () => signal.removeEventListener("abort", heard);
    },
  };
}
