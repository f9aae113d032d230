/** Bodies that are never held whole: bounded while they come, with the digest that the client says they have. */

import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { SwitchyardError } from "@switchyard/protocol";
import { collectYoung } from "@switchyard/protocol/garbage";
import { headerOf } from "./request-options.ts";

/**
 * Pieces of a body are memory outside V8's heap, and V8 lets tens of megabytes of them pile up before it looks. A look at the young ones, every so
 * many bytes, takes a millisecond.
 */
const lookEveryBytes = 16 << 20;

/** Not the socket's own iterator: leaving that one early would close the connection before the refusal is sent. `what`: as "A blob". */
export async function* streamedBody(
  raw: IncomingMessage,
  { maxBytes, what }: { maxBytes: number; what: string },
): AsyncGenerator<Uint8Array> {
  const promised = Number(raw.headers["content-length"] ?? 0);
  if (promised > maxBytes) throw tooLarge({ maxBytes, what }, String(promised));
  let sizeBytes = 0;
  const body = raw.iterator({ destroyOnReturn: false });
  try {
    for await (const piece of body as AsyncIterable<Uint8Array>) {
      sizeBytes += piece.length;
      if (sizeBytes > maxBytes) throw tooLarge({ maxBytes, what }, "more");
      yield piece;
      if (Math.floor(sizeBytes / lookEveryBytes) > Math.floor((sizeBytes - piece.length) / lookEveryBytes)) collectYoung();
    }
  } catch (error) {
    if (error instanceof SwitchyardError) throw error;
    throw new SwitchyardError("invalid_request", "The connection closed before the whole body had come");
  }
}

function tooLarge({ maxBytes, what }: { maxBytes: number; what: string }, got: string): SwitchyardError {
  const fields = [{ pointer: "body", expected: `at most ${maxBytes} bytes`, got }];
  return new SwitchyardError("payload_too_large", `${what} has at most ${maxBytes} bytes, got ${got}`, { fields });
}

/** RFC 9530: the SHA-256 that `Repr-Digest` or `Content-Digest` names, in hexadecimal. A body without encoding has one digest for both. */
export function digestOf(headers: IncomingHttpHeaders): string | undefined {
  let found: string | undefined;
  for (const name of ["Repr-Digest", "Content-Digest"]) {
    const header = headerOf(headers, name.toLowerCase());
    if (header === undefined) continue;
    const [, base64] = /(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):/.exec(header) ?? [];
    const hex = base64 === undefined ? undefined : Buffer.from(base64, "base64").toString("hex");
    if (hex === undefined || (found !== undefined && found !== hex)) {
      const expected = found === undefined ? "sha-256=:<base64 of the digest>:" : "the digest that Repr-Digest names";
      throw new SwitchyardError("invalid_request", `${name} must be ${expected}`, {
        fields: [{ pointer: name, expected, got: header.slice(0, 100) }],
      });
    }
    found = hex;
  }
  return found;
}
