/** Whether a Content-Type header is a media type at all; which ones a route takes it says itself. */

import { SwitchyardError } from "@switchyard/protocol";

/** RFC 9110: type and subtype are tokens; parameters may follow. */
const pattern = /^\s*[\w!#$%&'*+.^`|~-]+\/[\w!#$%&'*+.^`|~-]+\s*(;|$)/;

/** The refusal of what is none. */
export function wrongMediaType(header: string): SwitchyardError | undefined {
  if (pattern.test(header)) return undefined;
  return new SwitchyardError("unsupported_media_type", "The Content-Type header is not a media type", {
    fields: [{ pointer: "Content-Type", expected: "a media type such as application/json", got: header.slice(0, 64) }],
  });
}
