/** Sequences: requests that share a state on one host. There are none yet, and a client that counts on one must hear of it, whichever door it uses. */

import type { Parameters } from "./infer-request.ts";
import { refuse, shown, told } from "./request-fault.ts";

/** Throws `unsupported`. The id 0, or an empty one, is the protocol's way to say that a request belongs to no sequence. */
export function refuseSequence({ sequence_id: id, sequence_start: start, sequence_end: end }: Parameters): void {
  const isNone = id === undefined || id === 0 || id === "";
  if (isNone && start !== true && end !== true) return;
  const what = isNone ? (start === true ? "sequence_start" : "sequence_end") : "sequence_id";
  const got = isNone ? "true" : shown(String(id));
  const detail = `${what} ${got}: sequences are not supported, each request is run by itself and no state is kept between requests`;
  throw refuse(
    { at: `/parameters/${what}`, expected: "no sequence (sequence_id absent, 0 or empty)", got: told(got), detail },
    "unsupported",
  );
}
