/** The `switchyard` command: finds the command, runs it, and turns whatever happened into one sentence and an exit code. */

import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { Cli } from "./cli.ts";
import { registerBatch } from "./commands/batch.ts";
import { registerBench } from "./commands/bench.ts";
import { registerCancel } from "./commands/cancel.ts";
import { registerDiscard } from "./commands/discard.ts";
import { registerGet } from "./commands/get.ts";
import { addGlobalOptions } from "./commands/global-options.ts";
import { registerHosts } from "./commands/hosts.ts";
import { registerInfer } from "./commands/infer.ts";
import { registerJobs } from "./commands/jobs.ts";
import { registerKeys } from "./commands/keys.ts";
import { registerMcp } from "./commands/mcp.ts";
import { registerModels } from "./commands/models.ts";
import { registerPlanned } from "./commands/not-built.ts";
import { registerResult } from "./commands/result.ts";
import { registerRetry } from "./commands/retry.ts";
import { registerSubmit } from "./commands/submit.ts";
import { registerTenants } from "./commands/tenants.ts";
import { registerTools } from "./commands/tools.ts";
import { registerTop } from "./commands/top.ts";
import { registerWatch } from "./commands/watch.ts";
import { delegates, findDelegate, runDelegate } from "./delegates.ts";
import { exitCodeOf, exitCodes, explain } from "./exit-codes.ts";

function program(cli: Cli): Command {
  const root = new Command("switchyard")
    .description("Run ONNX models through Switchyard: submit jobs, follow them, look after hosts.")
    .version(packageVersion(), "-V, --version", "print the version")
    .enablePositionalOptions() // `infer --version 2` is the model's
    .showHelpAfterError("(add --help for what the command takes)")
    .addHelpText("after", overview)
    .exitOverride();
  for (const [name, { summary }] of Object.entries(delegates))
    root.command(name).summary(summary).argument("[args...]").allowUnknownOption();
  for (const register of commands) register(root, cli);
  registerPlanned(root);
  const ends = root.commands.flatMap((command) => (command.commands.length === 0 ? [command] : command.commands));
  for (const command of [root, ...ends.filter(({ options }) => !options.some(({ long }) => long === "--json"))]) addGlobalOptions(command);
  return root;
}

const commands = [
  registerInfer,
  registerSubmit,
  registerGet,
  registerResult,
  registerWatch,
  registerCancel,
  registerRetry,
  registerDiscard,
  registerBatch,
  registerJobs,
  registerHosts,
  registerModels,
  registerTenants,
  registerTools,
  registerTop,
  registerKeys,
  registerBench,
  registerMcp,
];

const overview = `
Examples:
  $ switchyard up
  $ switchyard infer digits --image five.png
  $ switchyard jobs --state failed --json

Exit codes:
  0 ok   1 the job failed   2 wrong use   3 refused, try later   4 not found   5 no server   124 timed out   130 interrupted`;

function packageVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

/** Runs the command that `args` name; answers the exit code. */
export async function run(args: readonly string[]): Promise<number> {
  const cli = new Cli();
  try {
    const delegate = findDelegate(args);
    if (delegate !== undefined) return await runDelegate(delegate.name, delegate.args);
    await program(cli).parseAsync(args, { from: "user" });
    return cli.exitCode;
  } catch (error) {
    // commander has printed its own words already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    cli.note(`switchyard: ${explain(error)}`);
    return exitCodeOf(error);
  }
}
