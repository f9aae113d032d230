/** Failures as gRPC statuses, by the error table; the trailers say what HTTP says in headers. */

import { Metadata, type StatusObject, status } from "@grpc/grpc-js";
import { errors, type SwitchyardError } from "@switchyard/protocol";
import { retryAfterMs, statusOf, v2Text } from "./problem.ts";

/** Clients bound the size of all headers together, and what is not ASCII takes three times as much there. */
const mostDetailChars = 2_000;

export function grpcCodeOf(error: SwitchyardError): keyof typeof status {
  return errors[error.code].grpc;
}

/** Texts are those of /v2, for which clients of other servers look. */
export function grpcStatus(error: SwitchyardError, requestId: string): StatusObject {
  const metadata = new Metadata();
  metadata.set("x-switchyard-error", error.code);
  metadata.set("x-request-id", requestId);
  const waitMs = retryAfterMs(error, statusOf(error.code, true), requestId);
  if (waitMs !== undefined) metadata.set("retry-after", String(Math.ceil(waitMs / 1000)));
  if (error.facts.estimatedMs !== undefined) metadata.set("estimated_ms", String(Math.round(error.facts.estimatedMs)));
  if (error.facts.replayed === true) metadata.set("idempotent-replayed", "true");
  // texts are cut, and grpc-js throws where half a character is left
  return { code: status[grpcCodeOf(error)], details: v2Text(error).slice(0, mostDetailChars).toWellFormed(), metadata };
}
