/** docs/reference/errors.md: the closed list of errors. */

import { errors } from "../../protocol/src/errors.ts";
import { code, generatedPage, markdownTable } from "./markdown-table.ts";

const about = `
Every failure carries one code of this list. On \`/v1\` the answer is \`application/problem+json\` (RFC 9457) with \`code\`, \`detail\`, \`retryable\`
and, where a request was wrong, \`errors\`: a list of \`{pointer, expected, got}\`. On \`/v2\` it is \`{"error": "text"}\`, with the code in the header
\`X-Switchyard-Error\`. Retryable answers 429 and 503 carry \`Retry-After\`. In the SDK the code is \`ClientError.code\`.

*Retryable* means that the same request may succeed later.`;

export function errorsPage(): string {
  const rows = Object.entries(errors).map(([name, row]) => {
    const v2 = "httpV2" in row ? row.httpV2 : row.http;
    return [code(name), String(row.http), String(v2), row.grpc, row.retryable ? "yes" : "no", row.title];
  });
  const table = markdownTable(["code", "/v1", "/v2", "gRPC status", "retryable", "meaning"], rows);
  return generatedPage("Errors", "protocol/src/errors.ts", `${about.trim()}\n\n${table}`);
}
