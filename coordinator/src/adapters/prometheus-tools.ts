/** What one coordinator counts of MCP servers whose tools are used. Which tool was called is no label: a server lists as many as it likes. */

import { type ErrorCode, errors } from "@switchyard/protocol";
import type { ToolOutcome, ToolServerMetrics } from "../ports/metrics.ts";
import type { CurrentTraceId } from "../ports/trace-ids.ts";
import type { MetricsRegistry } from "./prometheus-registry.ts";

const outcomes: readonly ToolOutcome[] = ["ok", "tool_error", ...(Object.keys(errors) as ErrorCode[])];
/** These start at 0; the others are clients' own mistakes, and rare. */
const usualOutcomes: readonly ToolOutcome[] = [
  "ok",
  "tool_error",
  "tool_failed",
  "tool_unavailable",
  "expired",
  "cancelled",
  "consent_required",
  "forbidden",
  "queue_full",
];

/** Up to the longest that a call may take by default, its waiting included. */
const callEdges = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600];

export function prometheusTools(registry: MetricsRegistry, traceId: CurrentTraceId): ToolServerMetrics {
  const connected = registry.gauge("switchyard_mcp_server_connected", "1 while this coordinator is connected to the MCP server, else 0", [
    "server",
  ]);
  const losses = registry.counter("switchyard_mcp_server_losses_total", "Connections to the MCP server that ended or could not be made", [
    "server",
  ]);
  const calls = registry.counter(
    "switchyard_mcp_tool_calls_total",
    "Calls of the MCP server's tools, by outcome, in the words of the audit trail; calls of tools that there are not, and those refused before they were read, are counted here only",
    ["server", "outcome"],
  );
  const seconds = registry.histogram(
    "switchyard_mcp_tool_call_seconds",
    "Calls of the MCP server's tools that may have run: from their arrival to their end, their waiting included",
    ["server"],
    callEdges,
  );
  const known = new Set<string>();
  return {
    toolServerKnown(server) {
      if (known.has(server)) return;
      known.add(server);
      connected.set({ server }, 0);
      losses.of({ server });
      seconds.of({ server });
      for (const outcome of usualOutcomes) calls.of({ server, outcome });
    },
    toolServerGone(server) {
      if (!known.delete(server)) return;
      connected.remove({ server });
      losses.remove({ server });
      seconds.remove({ server });
      for (const outcome of outcomes) calls.remove({ server, outcome });
    },
    toolServerConnected(server, isConnected) {
      if (known.has(server)) connected.set({ server }, isConnected ? 1 : 0);
    },
    toolServerLost(server) {
      if (known.has(server)) losses.of({ server }).inc();
    },
    toolCalled(server, outcome, took) {
      // calls outlive their server's entry
      if (!known.has(server)) return;
      calls.of({ server, outcome }).inc();
      if (took !== undefined) seconds.of({ server }).observe(took, traceId());
    },
  };
}
