/** Servers and tools as /v1/mcp shows them. */

import type { ToolAuditView, ToolConsentView, ToolServerView, ToolView } from "@switchyard/protocol";
import { shownAnnotations, shownSchema } from "../application/shown-schemas.ts";
import type { JudgedTool } from "../application/tool-consent-desk.ts";
import { cleanText } from "../application/tool-names.ts";
import type { ToolServer } from "../application/tool-server.ts";
import type { AuditEntry } from "../ports/tool-audit.ts";
import type { ToolServerPlace } from "../ports/tool-servers.ts";

const mostDescriptionChars = 4_000;

export function toServerView(server: ToolServer): ToolServerView {
  const { name, place } = server.settings;
  const { lastError, nextAttemptMs, protocolVersion, rests, sinceMs, ...seen } = server.view();
  const view: ToolServerView = {
    name,
    state: seen.state,
    since: timestamp(sinceMs),
    transport: place.kind,
    endpoint: endpointOf(place),
    tools: server.tools.size,
    calls: { running: server.slots.running, waiting: server.slots.waiting },
    losses: seen.losses,
  };
  if (seen.era) view.era = seen.era;
  if (protocolVersion !== undefined) view.protocol_version = protocolVersion;
  if (seen.server) {
    view.server = { name: cleanText(seen.server.name, 100) ?? "", version: cleanText(seen.server.version, 100) ?? "" };
  }
  if (rests) view.given_rest = true;
  if (nextAttemptMs !== undefined) view.next_attempt_at = timestamp(nextAttemptMs);
  if (lastError) view.last_error = { at: timestamp(lastError.atMs), detail: cleanText(lastError.detail, 500) ?? "" };
  return view;
}

/** Arguments, paths and queries are where people put tokens. */
function endpointOf(place: ToolServerPlace): string {
  return place.kind === "stdio" ? place.command : new URL(place.url).origin;
}

export function toToolView(tool: JudgedTool): ToolView {
  const { annotations, inputSchema, name, outputSchema } = tool.definition;
  const title = cleanText(tool.definition.title ?? annotations?.title, 200);
  const description = cleanText(tool.definition.description, mostDescriptionChars);
  return {
    name,
    ...(title !== undefined && { title }),
    ...(description !== undefined && { description }),
    ...judgement(tool),
    input_schema: shownSchema(inputSchema),
    ...(outputSchema && { output_schema: shownSchema(outputSchema) }),
    ...(annotations && { annotations: { ...shownAnnotations(annotations) } }),
  };
}

export function toConsentView(server: ToolServer, tool: JudgedTool): ToolConsentView {
  return { server: server.settings.name, tool: tool.definition.name, ...judgement(tool) };
}

function judgement({ pin, stored, verdict }: JudgedTool) {
  const { asked, consent } = stored ?? {};
  return {
    decision: verdict.decision,
    reason: verdict.reason,
    pin,
    ...(consent && { consent: { decision: consent.decision, pin: consent.pin, by: consent.by, at: timestamp(consent.atMs) } }),
    ...(asked && { asked: { by: asked.by, pin: asked.pin, at: timestamp(asked.atMs), times: asked.times } }),
  };
}

export function toAuditView({ argumentsSha256, atMs, ...entry }: AuditEntry): ToolAuditView {
  return { ...entry, at: timestamp(atMs), ...(argumentsSha256 !== undefined && { arguments_sha256: argumentsSha256 }) };
}

function timestamp(ms: number): string {
  return new Date(ms).toISOString();
}
