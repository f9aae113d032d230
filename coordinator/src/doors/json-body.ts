/** Small JSON bodies of requests that are about models. */

import { parseJson, SwitchyardError } from "@switchyard/protocol";
import type { FastifyRequest } from "fastify";
import { type Reading, readBody } from "./request-body.ts";

const usualBytes = 65_536;
/** More than anything here has: what is refused is quoted, and that takes a call for each level. */
const mostDepth = 64;

/** The object in the body; an absent body is an empty one. Throws `invalid_request`. */
export async function jsonBody({ raw }: FastifyRequest, reading: Partial<Reading> = {}): Promise<Record<string, unknown>> {
  const body = await readBody(raw, { maxBytes: usualBytes, ...reading });
  if (body.length === 0) return {};
  const { value } = parseJson(body, mostDepth);
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new SwitchyardError("invalid_request", "The body must be a JSON object");
}
