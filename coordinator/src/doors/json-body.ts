/** Small JSON bodies of requests that are about models. */

import { SwitchyardError } from "@switchyard/protocol";
import type { FastifyRequest } from "fastify";
import { type Reading, readBody } from "./request-body.ts";

const usualBytes = 65_536;

/** The object in the body; an absent body is an empty one. Throws `invalid_request`. */
export async function jsonBody({ raw }: FastifyRequest, reading: Partial<Reading> = {}): Promise<Record<string, unknown>> {
  const body = await readBody(raw, { maxBytes: usualBytes, ...reading });
  if (body.length === 0) return {};
  let value: unknown;
  try {
    value = JSON.parse(body.toString("utf8"));
  } catch {
    throw new SwitchyardError("invalid_request", "The body is not valid JSON");
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new SwitchyardError("invalid_request", "The body must be a JSON object");
}
