/** Tools of other MCP servers that this cluster offers on: their definitions as cleaned, and calls that go the way of all calls of such tools. */

import type { CallToolResult, Tool } from "@modelcontextprotocol/server";
import { SwitchyardError } from "@switchyard/protocol";
import { type ExposedTool, exposedTools, shownProgress } from "../../application/exposed-tools.ts";
import type { ToolProgress } from "../../ports/tool-servers.ts";
import type { DoorContext } from "../door-context.ts";
import type { ToolHandler } from "./tool.ts";

/** Between a server's name and its tool's: no tool of our own has it. */
const between = "__";

export async function upstreamTools({ tools }: DoorContext): Promise<ToolHandler[]> {
  return tools === undefined ? [] : (await exposedTools(tools)).map(handlerOf);
}

export async function upstreamTool(context: DoorContext, name: string): Promise<ToolHandler | undefined> {
  if (!name.includes(between)) return undefined;
  return (await upstreamTools(context)).find(({ definition }) => definition.name === name);
}

function handlerOf({ annotations, description, inputSchema, name, outputSchema, pin, server, title, tool }: ExposedTool): ToolHandler {
  return {
    definition: {
      name,
      ...(title !== undefined && { title }),
      description,
      inputSchema: inputSchema as Tool["inputSchema"],
      ...(outputSchema && { outputSchema: outputSchema as Tool["outputSchema"] }),
      // what a server leaves out is what the protocol has clients assume
      annotations: {
        readOnlyHint: annotations?.readOnlyHint ?? false,
        destructiveHint: annotations?.destructiveHint ?? true,
        idempotentHint: annotations?.idempotentHint ?? false,
        openWorldHint: annotations?.openWorldHint ?? true,
      },
      _meta: { "switchyard/server": server, "switchyard/pin": pin },
    },
    scopes: ["submit"],
    async call({ args, caller, context, line, progress }) {
      const open = context.calls.held(line);
      try {
        const onProgress = (told: ToolProgress): void => {
          const shown = shownProgress(server, told);
          if (shown) progress.report(shown.progress, shown);
        };
        const called = context.tools!.calls.callTool({ server, tool, arguments: { ...args }, via: "mcp", onProgress }, caller, open.signal);
        // its own numbers may be small ones: seconds that were told before would stand above them
        const { content, isError, structuredContent } = await progress.during(`waiting for ${server}`, called, { isMeasured: true });
        return {
          content: content as CallToolResult["content"],
          ...(structuredContent !== undefined && { structuredContent: structuredContent as CallToolResult["structuredContent"] }),
          ...(isError && { isError }),
        };
      } catch (error) {
        const isLeft = open.toldToGo() && error instanceof SwitchyardError && error.code === "cancelled";
        // not as draining, on which clients call again
        throw isLeft ? new SwitchyardError("cancelled", "This coordinator is shutting down; the tool may have run", error.facts) : error;
      } finally {
        open.end();
      }
    },
  };
}
