/** `switchyard mcp`: the Model Context Protocol on standard input and output, for applications that start their servers as programs. */

import type { Command } from "commander";
import type { Cli } from "../cli.ts";

export function registerMcp(program: Command, cli: Cli): void {
  const command = program.command("mcp").summary("serve the Model Context Protocol on standard input and output");
  command
    .description(
      "Serve the Model Context Protocol on standard input and output, by handing every message on to a coordinator's /mcp. It is meant to be started by the application that uses the models, which ends it by closing its input. Standard output carries the protocol alone; what there is to say goes to standard error. While no coordinator answers, requests are answered with an error after a few seconds, and later ones are tried again.",
    )
    .addHelpText(
      "after",
      `
Examples:
  $ switchyard mcp --url http://gpu-box:8000 --api-key $KEY
  {"mcpServers": {"switchyard": {"command": "npx", "args": ["switchyard", "mcp", "--url", "http://gpu-box:8000"]}}}`,
    )
    .action(() => serve(cli, command));
}

async function serve(cli: Cli, command: Command): Promise<void> {
  const { urls, headers } = cli.server(command);
  const ended = new AbortController();
  const end = (): void => ended.abort();
  process.once("SIGINT", end).once("SIGTERM", end);
  cli.note(
    `switchyard mcp: for ${urls.join(", ")}${process.stdin.isTTY ? "; it expects JSON-RPC on standard input, a message a line" : ""}`,
  );
  const { bridge } = await import("../mcp-bridge.ts"); // half a second that no other command is to pay
  await bridge({
    urls,
    headers,
    input: process.stdin,
    output: process.stdout,
    note: (text) => cli.note(`switchyard mcp: ${text}`),
    clock: cli.clock,
    signal: ended.signal,
  });
  process.off("SIGINT", end).off("SIGTERM", end);
}
