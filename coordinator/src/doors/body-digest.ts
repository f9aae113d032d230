/** The digest that a client says its body has. */

import type { IncomingHttpHeaders } from "node:http";
import { SwitchyardError } from "@switchyard/protocol";
import { headerOf } from "./request-options.ts";

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
