/** `switchyard watch`: a job's states as they change. */

import type { Command } from "commander";
import type { JobView } from "../../job-records.ts";
import type { Cli } from "../cli.ts";
import { exitCodeOfState } from "../exit-codes.ts";
import { duration } from "../option-values.ts";
import { type Progress, showProgress } from "../progress.ts";
import { shortDuration } from "../text-table.ts";

export function registerWatch(program: Command, cli: Cli): void {
  const command = program.command("watch <id>").summary("follow a job until it ends");
  command
    .description("Follow a job until it ends; the exit code says how it ended. With --json: one job view a line.")
    .option("--timeout <time>", "how long to follow it, such as 5m", duration)
    .addHelpText(
      "after",
      `
Examples:
  $ switchyard watch $id
  $ switchyard watch $id --json | jq -r .state`,
    )
    .action((id: string, options: { timeout?: number }) => watch(cli, command, id, options.timeout));
}

async function watch(cli: Cli, command: Command, id: string, timeoutMs: number | undefined): Promise<void> {
  const first = await cli.hastyClient(command).job(id).status();
  const isJson = cli.wantsJson(command);
  let progress: Progress | undefined;
  try {
    for await (const event of cli.client(command).job(id).events({ timeoutMs })) {
      progress?.stop();
      if (isJson) cli.printJson(event.job);
      else cli.print(line(event.type, event.job));
      cli.exitCode = exitCodeOfState(event.job.state);
      const limitMs = Math.max(1, Date.parse(first.deadline) - Date.parse(first.created_at));
      progress = showProgress({ hasTerminal: cli.hasTerminal && !isJson, state: event.job.state, limitMs, clock: cli.clock });
    }
  } finally {
    progress?.stop();
  }
}

function line(type: string, job: JobView): string {
  const facts: string[] = [];
  if (job.attempt > 1) facts.push(`attempt ${job.attempt}`);
  if (job.host !== undefined) facts.push(`on ${job.host}`);
  if (job.timings !== undefined) facts.push(`${shortDuration(job.timings.total_ms)} in all, ${shortDuration(job.timings.run_ms)} running`);
  if (job.error !== undefined) facts.push(`${job.error.detail} [${job.error.code}]`);
  const state = type === "reset" || type === "progress" ? `${job.state} (${type})` : job.state;
  return facts.length === 0 ? state : `${state.padEnd(9)}  ${facts.join(", ")}`;
}
