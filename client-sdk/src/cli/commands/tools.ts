/** `switchyard tools`: the MCP servers whose tools the cluster uses, calls of them, consent, the audit trail. */

import type { ToolCallView, ToolServerDetails, ToolServerView, ToolView } from "@switchyard/protocol";
import type { Command } from "commander";
import type { BoundArgument } from "../../tool-servers.ts";
import type { Cli } from "../cli.ts";
import { exitCodes, UsageError } from "../exit-codes.ts";
import { bindings, duration, positiveWhole } from "../option-values.ts";
import { shortDuration, textTable } from "../text-table.ts";

interface CallOptions {
  args?: string;
  bind?: Record<string, BoundArgument>;
  timeout?: number;
}

interface ConsentOptions {
  allow?: boolean;
  deny?: boolean;
  forget?: boolean;
  pin?: string;
}

const largestPage = 200;

export function registerTools(program: Command, cli: Cli): void {
  const tools = program
    .command("tools")
    .summary("use the tools of MCP servers, and say who may")
    .description("List the MCP servers that the coordinator uses and their tools, call one, consent to it. Without a command: list.");
  registerList(tools, cli);
  registerShow(tools, cli);
  registerCall(tools, cli);
  registerConsent(tools, cli);
  registerAudit(tools, cli);
}

function registerList(tools: Command, cli: Cli): void {
  const command = tools.command("list [server]", { isDefault: true }).summary("list servers, or the tools of one");
  command
    .description("List MCP servers with their state, or the tools of one with what would become of a call. With --json: one a line.")
    .addHelpText("after", "\nExamples:\n  $ switchyard tools\n  $ switchyard tools list log")
    .action(async (name: string | undefined) => {
      const { toolServers } = cli.hastyClient(command);
      if (name === undefined) return listServers(cli, command, await toolServers.list());
      const server = await toolServers.get(name);
      if (cli.wantsJson(command)) for (const tool of server.tool_list) cli.printJson(tool);
      else cli.print(serverText(server));
    });
}

function listServers(cli: Cli, command: Command, servers: readonly ToolServerView[]): void {
  if (cli.wantsJson(command)) for (const server of servers) cli.printJson(server);
  else if (servers.length === 0) cli.note("no MCP servers: --mcp-servers of the coordinator names the file that lists them");
  else cli.print(listText(servers));
}

function listText(servers: readonly ToolServerView[]): string {
  const columns = [
    { title: "SERVER" },
    { title: "STATE" },
    { title: "ERA" },
    { title: "TOOLS", align: "right" as const },
    { title: "CALLS", align: "right" as const },
    { title: "LOST", align: "right" as const },
    { title: "LAST ERROR" },
  ];
  const rows = servers.map((one) => [one.name, one.state, one.era, one.tools, one.calls.running, one.losses, one.last_error?.detail]);
  return textTable(columns, rows);
}

function serverText(server: ToolServerDetails): string {
  const error = server.last_error === undefined ? "" : `\nlast error: ${server.last_error.detail} (${server.last_error.at})`;
  const head = `${server.name}  ${server.state}  ${server.transport} ${server.endpoint}${error}`;
  if (server.tool_list.length === 0) return `${head}\nno tools`;
  const columns = [{ title: "TOOL" }, { title: "CALLS ARE" }, { title: "BECAUSE" }, { title: "ASKED FOR", align: "right" as const }];
  const rows = server.tool_list.map(({ asked, decision, name, reason }) => [name, decisionWords[decision], reason, asked?.times]);
  return `${head}\n\n${textTable(columns, rows)}`;
}

const decisionWords = { allow: "allowed", ask: "asked for", deny: "refused" } as const;

function registerShow(tools: Command, cli: Cli): void {
  const command = tools.command("show <server> <tool>").summary("show what a tool takes and answers");
  command
    .description("Show one tool: its description, schemas, pin, and what was decided about it.")
    .addHelpText("after", "\nExamples:\n  $ switchyard tools show log log_result")
    .action(async (server: string, tool: string) => {
      const view = await cli.hastyClient(command).toolServers.tool(server, tool);
      if (cli.wantsJson(command)) cli.printJson(view);
      else cli.print(toolText(view));
    });
}

function toolText(tool: ToolView): string {
  const lines = [`${tool.name}  calls are ${decisionWords[tool.decision]}: ${tool.reason}`, `pin ${tool.pin}`];
  if (tool.description !== undefined) lines.push("", visible(tool.description));
  if (tool.consent) lines.push("", `${tool.consent.decision} by ${tool.consent.by} at ${tool.consent.at}`);
  if (tool.asked) lines.push("", `asked for ${tool.asked.times} times, last by ${tool.asked.by} at ${tool.asked.at}`);
  lines.push("", `arguments ${visible(JSON.stringify(tool.input_schema, null, 2))}`);
  if (tool.output_schema) lines.push("", `structured answer ${visible(JSON.stringify(tool.output_schema, null, 2))}`);
  return lines.join("\n");
}

function registerCall(tools: Command, cli: Cli): void {
  const command = tools.command("call <server> <tool>").summary("call a tool");
  command
    .description("Call a tool once and print its answer. Exit code 1 when the tool says that it failed.")
    .option("--args <json>", "its arguments as a JSON object; @file reads them, - reads standard input")
    .option("--bind <arg=job:pointer>", "an argument from a job, such as /output=$id:/outputs/label/0; again for each", bindings)
    .option("--timeout <time>", "at most so long, such as 30s", duration)
    .addHelpText(
      "after",
      `
Examples:
  $ switchyard tools call log log_result --args '{"job": "a", "output": "three"}'
  $ switchyard tools call log log_result --bind /job=$id:/id --bind /output=$id:/outputs/label/0`,
    )
    .action(async (server: string, tool: string, options: CallOptions) => {
      const args = await argumentsIn(cli, options.args);
      const called = await cli
        .hastyClient(command)
        .toolServers.call(server, tool, args, { bindings: options.bind, timeoutMs: options.timeout });
      if (cli.wantsJson(command)) cli.printJson(called);
      else cli.print(answerText(called));
      if (called.is_error) cli.exitCode = exitCodes.jobFailed;
    });
}

async function argumentsIn(cli: Cli, given: string | undefined): Promise<Record<string, unknown>> {
  if (given === undefined) return {};
  const file = given === "-" ? "-" : given.startsWith("@") ? given.slice(1) : undefined;
  const text = file === undefined ? given : new TextDecoder().decode(await cli.read(file));
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // said below
  }
  throw new UsageError(`--args: expected a JSON object, got ${text.length > 60 ? `${text.slice(0, 60)}…` : text}`);
}

function answerText(called: ToolCallView): string {
  const blocks = called.content.map((block) => {
    if (block.type === "text" && typeof block.text === "string") return visible(block.text);
    const kind = typeof block.mimeType === "string" ? `${block.type}, ${visible(block.mimeType)}` : block.type;
    return `[${kind}: --json has it]`;
  });
  if (blocks.length === 0 && called.structured_content !== undefined)
    blocks.push(visible(JSON.stringify(called.structured_content, null, 2)));
  if (called.is_error) blocks.unshift("the tool failed:");
  return blocks.join("\n");
}

/** Control characters of a stranger's text must not reach the terminal. */
function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, (character) => (character === "\n" || character === "\t" ? character : "?"));
}

function registerConsent(tools: Command, cli: Cli): void {
  const command = tools.command("consent <server> <tool>").summary("allow a tool, refuse it, or forget what was decided");
  command
    .description(
      "Say whether a tool may be called, by its definition as it is now. When that changes, calls are refused until somebody consents again.",
    )
    .option("--allow", "calls may be made")
    .option("--deny", "calls are refused")
    .option("--forget", "the configuration holds again")
    .option("--pin <sha256>", "only if this is still its definition, as `tools show` told it")
    .addHelpText(
      "after",
      "\nExamples:\n  $ switchyard tools consent log log_result --allow\n  $ switchyard tools consent log log_result --forget",
    )
    .action(async (server: string, tool: string, { allow, deny, forget, pin }: ConsentOptions) => {
      const given = [allow, deny, forget].filter((flag) => flag === true);
      if (given.length !== 1) throw new UsageError("give exactly one of --allow, --deny and --forget");
      const { toolServers } = cli.hastyClient(command);
      if (forget) {
        if (pin !== undefined) throw new UsageError("--pin is for --allow and --deny");
        await toolServers.forget(server, tool);
        return cli.note(`nothing is decided about ${server} ${tool} any more`);
      }
      const view = await toolServers.consent(server, tool, allow ? "allow" : "deny", { pin });
      if (cli.wantsJson(command)) cli.printJson(view);
      else cli.print(`${server} ${tool}: calls are ${decisionWords[view.decision]}: ${view.reason}`);
    });
}

function registerAudit(tools: Command, cli: Cli): void {
  const command = tools.command("audit").summary("list who called which tool, and who consented");
  command
    .description("List tool calls and consents, newest first. Arguments are told as SHA-256 only. With --json: one a line.")
    .option("--limit <n>", "at most this many", positiveWhole, 20)
    .addHelpText("after", "\nExamples:\n  $ switchyard tools audit --limit 100 --json | jq -r .outcome | sort | uniq -c")
    .action(async ({ limit }: { limit: number }) => {
      const { toolServers } = cli.hastyClient(command);
      const found = [];
      let cursor: string | undefined;
      do {
        const page = await toolServers.audit({ limit: Math.min(limit - found.length, largestPage), cursor });
        found.push(...page.items);
        cursor = page.cursor;
      } while (cursor !== undefined && found.length < limit);
      if (cli.wantsJson(command)) {
        for (const entry of found) cli.printJson(entry);
        return;
      }
      if (found.length === 0) return cli.note("nothing was called yet");
      const columns = [
        { title: "AT" },
        { title: "WHAT" },
        { title: "SERVER" },
        { title: "TOOL" },
        { title: "BY" },
        { title: "OUTCOME" },
        { title: "TIME", align: "right" as const },
      ];
      cli.print(
        textTable(
          columns,
          found.map((one) => [one.at, one.event, one.server, one.tool, one.by, one.outcome, shortDuration(one.ms)]),
        ),
      );
    });
}
