/**
 * Failures in the words of JSON-RPC: -32602 for what is wrong with the request, what does not exist or may not be read; -32603 for what may pass.
 * `data` carries the code and the facts of the error table. What is no SwitchyardError is a bug: logged, and answered without its inner text.
 */

import { randomBytes } from "node:crypto";
import { ProtocolError, ProtocolErrorCode, ResourceNotFoundError } from "@modelcontextprotocol/server";
import { errors, SwitchyardError } from "@switchyard/protocol";
import type { Log } from "../../ports/log.ts";
import { brokenInside } from "../problem.ts";

/** `uri`: the resource that was asked for, where it was one. `traceId`: of the request, where it has one. */
export function asProtocolError(
  thrown: unknown,
  about: { method: string; uri?: string | undefined; log: Log; traceId?: string },
): ProtocolError {
  if (thrown instanceof ProtocolError) return thrown;
  const isExpected = thrown instanceof SwitchyardError;
  const traceId = about.traceId ?? randomBytes(16).toString("hex");
  const error = isExpected ? thrown : brokenInside(thrown, { trace_id: traceId, method: "MCP", route: about.method }, about.log);
  const { code, facts, message } = error;
  const { http, retryable } = errors[code];
  // data must then be the address and nothing else, by which clients know it
  if (about.uri !== undefined && http === 404) return new ResourceNotFoundError(about.uri, message);
  const passes = http >= 500 || http === 429;
  const retryAfterMs = facts.retryAfterMs ?? (passes && retryable ? 1_000 : undefined);
  return new ProtocolError(passes ? ProtocolErrorCode.InternalError : ProtocolErrorCode.InvalidParams, message, {
    ...facts.extra,
    code,
    retryable,
    ...(retryAfterMs !== undefined && { retry_after_ms: retryAfterMs }),
    ...(facts.fields && { errors: facts.fields }),
  });
}
