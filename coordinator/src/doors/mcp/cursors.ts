/**
 * Cursors of lists: the place after which the next page begins, signed together with whom it was given to, the method and its parameters, so
 * that it is good for nothing else. Every coordinator of a cluster reads those of the others. What a cursor says is no secret.
 */

import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { SwitchyardError } from "@switchyard/protocol";
import type { Caller } from "../../application/caller.ts";
import type { SharedSecret } from "../../ports/shared-secret.ts";

/** What a cursor is bound to. */
export interface CursorUse {
  caller: Caller;
  method: string;
  /** Of the request, without the cursor. */
  parameters?: unknown;
}

/** A longer one was not made here, and is not looked at. */
const mostChars = 1_024;

export class Cursors {
  readonly #secret: SharedSecret;

  /** Without a secret that is shared, cursors are good at this coordinator only. */
  constructor(secret: SharedSecret | undefined) {
    const own = randomBytes(32);
    this.#secret = secret ?? { read: async () => own };
  }

  /** `place` in JSON. Throws `store_unavailable`. */
  async seal(place: unknown, use: CursorUse): Promise<string> {
    const text = JSON.stringify(place);
    return `${Buffer.from(text).toString("base64url")}.${(await this.#sign(text, use)).toString("base64url")}`;
  }

  /** Throws `invalid_request` for one that was not given to this caller for this, besides `store_unavailable`. */
  async open(cursor: string, use: CursorUse): Promise<unknown> {
    const [place = "", signature = "", ...more] = cursor.length > mostChars ? [] : cursor.split(".");
    const text = Buffer.from(place, "base64url").toString("utf8");
    const given = Buffer.from(signature, "base64url");
    const expected = await this.#sign(text, use);
    if (more.length > 0 || given.length !== expected.length || !timingSafeEqual(given, expected)) throw badCursor(cursor);
    return JSON.parse(text) as unknown;
  }

  async #sign(text: string, { caller, method, parameters = {} }: CursorUse): Promise<Buffer> {
    const key = createHmac("sha256", await this.#secret.read())
      .update("mcp list cursors")
      .digest();
    const bound = JSON.stringify([caller.tenant, caller.keyId ?? null, method, parameters, text]);
    return createHmac("sha256", key).update(bound).digest().subarray(0, 18);
  }
}

function badCursor(cursor: string): SwitchyardError {
  const detail = "the cursor is not one that this list gave to this caller; list again without a cursor";
  return new SwitchyardError("invalid_request", detail, {
    fields: [{ pointer: "cursor", expected: "the nextCursor of an answer to the same request", got: cursor.slice(0, 40) }],
  });
}
