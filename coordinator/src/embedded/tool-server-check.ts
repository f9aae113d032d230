/** What `switchyard doctor` says of the file of MCP servers. Starts none of them. */

import { readToolServerFile } from "../adapters/tool-server-file.ts";
import { type Finding, missing, ok, warning } from "./finding.ts";

const subject = "mcp servers";

export function toolServerFindings(file: string | undefined): Finding[] {
  if (file === undefined) return [];
  const { mistakes, servers, warnings } = readToolServerFile(file, process.env);
  if (mistakes.length > 0) return [missing(subject, mistakes.join("; "), "mend the file: docs/mcp-servers.md has its keys")];
  if (warnings.length > 0) return [warning(subject, warnings.join("; "), "remove these keys, unless they are another host's")];
  return [ok(subject, `${servers.length} in ${file}`)];
}
