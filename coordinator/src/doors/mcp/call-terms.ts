/** Arguments that every call that makes jobs has, in the same words: the schema and what is read of it. */

import { createHash } from "node:crypto";
import { aliasPattern, maxTimeoutMs, SwitchyardError } from "@switchyard/protocol";
import type { Submission } from "../../application/job-service.ts";
import type { ToolCall } from "./tool.ts";

export const timeoutArgument = {
  timeout_ms: { type: "integer", minimum: 1, maximum: maxTimeoutMs, description: "how long the result may take; default: the model's" },
} as const;

export const keyArgument = {
  idempotency_key: {
    type: "string",
    minLength: 1,
    maxLength: 255,
    description: "same key and arguments: same job; to repeat a call safely",
  },
} as const;

export const taskArgument = {
  task: {
    type: "boolean",
    description: "true: answer with a task at once; false: never; default: when it takes long. Only for clients with tasks",
  },
} as const;

export const modelArguments = {
  model: { type: "string", description: "as models_search names it" },
  version: {
    anyOf: [
      { type: "integer", minimum: 1 },
      { type: "string", pattern: aliasPattern.source },
    ],
    description: "a version or alias; default: the model's own choice",
  },
} as const;

/** The time limit of a call; undefined: the model's. */
export function timeoutOf({ args }: ToolCall): number | undefined {
  return args.timeout_ms as number | undefined;
}

/** What of a request its key stands for, beside its terms. */
export interface KeyedRequest {
  model: string;
  version: unknown;
  inputs: unknown;
}

/** The idempotency key with what makes two calls the same; `inputs` are those that were asked for, too. */
export function keyOf(call: ToolCall, of: KeyedRequest): Submission["idempotency"] {
  const key = call.args.idempotency_key as string | undefined;
  if (key === undefined) return undefined;
  if (Buffer.byteLength(key) > 255) throw new SwitchyardError("invalid_request", "idempotency_key must be a string of 1 to 255 bytes");
  const { class: jobClass } = call.args; // of those calls that have it
  const terms = [timeoutOf(call) ?? null, ...(jobClass === undefined ? [] : [jobClass])];
  const told = JSON.stringify([of.model, of.version ?? null, of.inputs, ...terms]);
  return { key, fingerprint: createHash("sha256").update(`mcp ${call.name}\n`).update(told).digest("hex") };
}

/** Whether the call is to be answered with a task. Throws `unsupported` where it asks for one that its client cannot take. */
export function isTask({ args, client }: ToolCall, expected: () => number | undefined): boolean {
  if (args.task === true && !client.takesTasks) {
    throw new SwitchyardError(
      "unsupported",
      "This client does not declare the tasks extension (io.modelcontextprotocol/tasks): leave `task` out, or use job_submit and job_wait",
    );
  }
  if (!client.takesTasks || args.task === false) return false;
  return args.task === true || (expected() ?? 0) > longMs;
}

/** What takes longer than this is not waited for by those who can come back for it. */
const longMs = 2_000;
