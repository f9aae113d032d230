/**
 * Whether a tool of another server may run: by the configuration, by what was decided about it, and by what its definition says. Pure. A
 * decision holds for the definition and the server that it was made for; what has changed since is asked again.
 */

import { createHash } from "node:crypto";
import type { ToolDecision } from "@switchyard/protocol";
import type { StoredConsent } from "../ports/tool-consents.ts";
import type { ToolDefinition, ToolServerSettings } from "../ports/tool-servers.ts";

/** JSON with sorted keys: the same text for the same value. */
export function canonicalJson(value: unknown): string {
  return (
    JSON.stringify(value, (_key, member: unknown) =>
      typeof member === "object" && member !== null && !Array.isArray(member)
        ? Object.fromEntries(Object.entries(member).sort(([one], [other]) => (one < other ? -1 : 1)))
        : member,
    ) ?? "null"
  );
}

export function sha256Of(value: unknown): string {
  return createHash("sha256").update(canonicalJson(value)).digest("hex");
}

/** SHA-256 of everything that a tool's definition says. */
export function pinOf({ annotations, description, inputSchema, name, outputSchema, title }: ToolDefinition): string {
  return sha256Of({ name, title, description, inputSchema, outputSchema, annotations });
}

/**
 * SHA-256 of where a server comes from: its program with arguments as they were written, or its address. What variables stand for does not count
 * in a program: secrets change without a reason to ask, and paths differ between coordinators.
 */
export function originOf({ place }: Pick<ToolServerSettings, "place">): string {
  return sha256Of(place.kind === "stdio" ? place.written : { kind: place.kind, url: place.url });
}

/** Whether one of `patterns`, names or beginnings with `*` after them, means this tool. */
export function isNamed(patterns: readonly string[], tool: string): boolean {
  return patterns.some((pattern) => (pattern.endsWith("*") ? tool.startsWith(pattern.slice(0, -1)) : tool === pattern));
}

/** Hints that a server leaves out have the protocol's pessimistic defaults. */
export function hintsOf({ annotations = {} }: Pick<ToolDefinition, "annotations">) {
  const readOnly = annotations.readOnlyHint ?? false;
  return {
    readOnly,
    destructive: !readOnly && (annotations.destructiveHint ?? true),
    idempotent: readOnly || (annotations.idempotentHint ?? false),
    openWorld: annotations.openWorldHint ?? true,
  };
}

export interface Verdict {
  decision: ToolDecision;
  /** In words. */
  reason: string;
  /** The configuration allows it, and nothing is pinned yet: whoever calls it first pins this definition. */
  pinsNow?: boolean;
}

type PolicySettings = Pick<ToolServerSettings, "allowTools" | "denyTools" | "trust">;

export interface PolicyView {
  settings: PolicySettings;
  tool: Pick<ToolDefinition, "name" | "annotations">;
  /** Of the definition and the server as they are now. */
  pin: string;
  origin: string;
  stored: StoredConsent | undefined;
}

export function decide(view: PolicyView): Verdict {
  const { pin, settings, stored, tool } = view;
  if (isNamed(settings.denyTools, tool.name)) return { decision: "deny", reason: "denied by denyTools in the configuration" };
  const consent = stored?.consent;
  if (consent?.decision === "deny") return { decision: "deny", reason: `refused by ${consent.by}` };
  const isConfigured = consent?.by === configured;
  if (consent && !isConfigured) {
    if (consent.origin !== view.origin) return { decision: "ask", reason: "another server answers to this name since somebody consented" };
    if (consent.pin !== pin) return { decision: "ask", reason: "the definition has changed since somebody consented" };
    return { decision: "allow", reason: `allowed by ${consent.by}` };
  }
  const standing = byConfiguration(settings, tool);
  if (standing.decision !== "allow") return standing;
  // where the server itself was replaced, that was the configuration's doing, too
  if (consent === undefined || consent.origin !== view.origin) return { ...standing, pinsNow: true };
  if (consent.pin !== pin) return { decision: "ask", reason: "the definition has changed since its first use" };
  return standing;
}

/** In the place of a key's id, and none could be written so: nobody decided, the configuration did. */
export const configured = "(configuration)";

function byConfiguration({ allowTools, trust }: PolicySettings, tool: Pick<ToolDefinition, "name" | "annotations">): Verdict {
  if (isNamed(allowTools, tool.name)) return { decision: "allow", reason: "allowed by allowTools in the configuration" };
  if (trust === "full") return { decision: "allow", reason: "the server is trusted in full" };
  const { destructive, openWorld, readOnly } = hintsOf(tool);
  if (destructive) return { decision: "deny", reason: "it may destroy, by its hints or for want of them, and nobody has allowed it" };
  if (openWorld) return { decision: "deny", reason: "it reaches outside, by its hints or for want of them, and nobody has allowed it" };
  if (trust === "hints" && readOnly) return { decision: "allow", reason: "it only reads, by its hints, and these are trusted" };
  return { decision: "ask", reason: "nobody has consented yet" };
}
