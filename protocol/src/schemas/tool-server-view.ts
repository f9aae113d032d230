/** What /v1/mcp shows of the Model Context Protocol servers whose tools this cluster uses: servers, tools, consent, calls, the audit trail. */

import { z } from "zod";
import { protocolEras, toolDecisions, toolServerStates, toolTransports } from "../tool-servers.ts";

const timestamp = z.string(); // RFC 3339 UTC with milliseconds
const whole = z.number().int();

/** What a server says of its tool; absent hints have the protocol's pessimistic defaults. Believed only as far as the server is trusted. */
const annotationsSchema = z.looseObject({
  title: z.string().optional(),
  readOnlyHint: z.boolean().optional(),
  destructiveHint: z.boolean().optional(),
  idempotentHint: z.boolean().optional(),
  openWorldHint: z.boolean().optional(),
});

export const toolConsentViewSchema = z.object({
  server: z.string(),
  tool: z.string(),
  /** What happens to a call now. */
  decision: z.enum(toolDecisions),
  /** Why, in words. */
  reason: z.string(),
  /** SHA-256 of the definition as it is now. */
  pin: z.string(),
  /** What somebody decided, or was pinned at the first use of a tool that the configuration allows. */
  consent: z
    .object({
      decision: z.enum(["allow", "deny"]),
      /** SHA-256 of the definition that was decided on. */
      pin: z.string(),
      /** The key's id; `(configuration)` for a first use, `local` without a key file. */
      by: z.string(),
      at: timestamp,
    })
    .optional(),
  /** The last call that was refused for want of consent, since the last decision. */
  asked: z.object({ by: z.string(), pin: z.string(), at: timestamp, times: whole }).optional(),
});

export type ToolConsentView = z.infer<typeof toolConsentViewSchema>;

export const toolViewSchema = toolConsentViewSchema.omit({ server: true, tool: true }).extend({
  name: z.string(),
  title: z.string().optional(),
  /** As the server wrote it, without control characters, shortened. */
  description: z.string().optional(),
  input_schema: z.record(z.string(), z.unknown()),
  output_schema: z.record(z.string(), z.unknown()).optional(),
  annotations: annotationsSchema.optional(),
});

export type ToolView = z.infer<typeof toolViewSchema>;

export const toolServerViewSchema = z.object({
  name: z.string(),
  state: z.enum(toolServerStates),
  since: timestamp,
  transport: z.enum(toolTransports),
  /** The program, or the address without its query; never arguments, environment or headers. */
  endpoint: z.string(),
  era: z.enum(protocolEras).optional(),
  protocol_version: z.string().optional(),
  /** As it calls itself. */
  server: z.object({ name: z.string(), version: z.string() }).optional(),
  tools: whole,
  /** Calls of this coordinator. */
  calls: z.object({ running: whole, waiting: whole }),
  /** How often it was lost since it was configured. */
  losses: whole,
  /** True once it was lost so often in a row that it is left alone for minutes. */
  given_rest: z.boolean().optional(),
  next_attempt_at: timestamp.optional(),
  last_error: z.object({ at: timestamp, detail: z.string() }).optional(),
});

export type ToolServerView = z.infer<typeof toolServerViewSchema>;

export const toolServerDetailsSchema = toolServerViewSchema.extend({ tool_list: z.array(toolViewSchema) });

export type ToolServerDetails = z.infer<typeof toolServerDetailsSchema>;

export const toolCallViewSchema = z.object({
  server: z.string(),
  tool: z.string(),
  /** The tool ran and says that it failed; `content` says why. */
  is_error: z.boolean(),
  /** Content blocks of the Model Context Protocol. */
  content: z.array(z.looseObject({ type: z.string() })),
  structured_content: z.unknown().optional(),
  ms: z.number(),
});

export type ToolCallView = z.infer<typeof toolCallViewSchema>;

export const toolAuditViewSchema = z.object({
  id: z.string(),
  at: timestamp,
  event: z.enum(["call", "consent"]),
  server: z.string(),
  tool: z.string(),
  tenant: z.string(),
  /** The key's id; `local` without a key file; `(configuration)` where a first use pinned what the configuration allows. */
  by: z.string(),
  /** What asked on whose behalf, such as `http` or a pipeline's name. */
  via: z.string(),
  /** Of a call: `ok`, `tool_error`, or an error code. Of a consent: allow, deny, forget. */
  outcome: z.string(),
  /** SHA-256 of the arguments as canonical JSON. */
  arguments_sha256: z.string().optional(),
  pin: z.string().optional(),
  ms: z.number().optional(),
});

export type ToolAuditView = z.infer<typeof toolAuditViewSchema>;
