/** Options of every command that asks a server. */

import type { Command } from "commander";

/** Before and after the command's name alike; a command with parts says itself which of these they take. */
export function addGlobalOptions(command: Command): Command {
  return command
    .option("--url <url>", "where a coordinator listens; default: SWITCHYARD_URL, else http://127.0.0.1:8000")
    .option("--api-key <key>", "API key; default: SWITCHYARD_API_KEY")
    .option("--json", "print what the REST interface answers; lists as one JSON value a line");
}
