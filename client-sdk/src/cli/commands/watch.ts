/** `switchyard watch`: states of jobs as they change, of one or of several at once. */

import type { Command } from "commander";
import type { Switchyard } from "../../client.ts";
import { hasEnded, type JobView } from "../../job-records.ts";
import type { Cli } from "../cli.ts";
import { type ExitCode, exitCodeOfState, exitCodes, UsageError } from "../exit-codes.ts";
import { duration } from "../option-values.ts";
import { type Progress, showCount, showProgress } from "../progress.ts";
import { shortDuration } from "../text-table.ts";

/** Each is a stream of the server. */
const mostJobs = 100;

export function registerWatch(program: Command, cli: Cli): void {
  const command = program.command("watch <ids...>").summary("follow jobs until they end");
  command
    .description(
      "Follow a job until it ends; the exit code says how it ended. Of several jobs it says how the worst one did. On a terminal a bar shows how much of the job's time is used, or how many of the jobs have ended. With --json: one job view a line.",
    )
    .option("--timeout <time>", "how long to follow, such as 5m", duration)
    .addHelpText(
      "after",
      `
Examples:
  $ switchyard watch $id
  $ switchyard watch $(switchyard jobs --state queued --tag run=7 --json | jq -r .id)
  $ switchyard watch $id --json | jq -r .state`,
    )
    .action((ids: string[], options: { timeout?: number }) => {
      const [id, ...others] = [...new Set(ids)] as [string, ...string[]];
      return others.length === 0 ? watch(cli, command, id, options.timeout) : watchAll(cli, command, [id, ...others], options.timeout);
    });
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

async function watchAll(cli: Cli, command: Command, ids: readonly string[], timeoutMs: number | undefined): Promise<void> {
  if (ids.length > mostJobs) throw new UsageError(`${ids.length} jobs are too many to follow at once; ${mostJobs} are the most`);
  const isJson = cli.wantsJson(command);
  const isShown = cli.hasTerminal && !isJson;
  const known = cli.hastyClient(command);
  for (const id of ids) await known.job(id).status(); // an id that is none is told before anything is followed
  const ends = new Map<string, ExitCode>();
  const bar = isShown
    ? showCount({
        hasTerminal: true,
        total: ids.length,
        clock: cli.clock,
        count: () => ({ done: ends.size, failed: [...ends.values()].filter((code) => code !== exitCodes.ok).length }),
        note: (text) => cli.note(text),
      })
    : undefined;
  const client = cli.client(command);
  try {
    await Promise.all(
      ids.map((id) =>
        followOne(client, id, timeoutMs, (type, job) => {
          if (isJson) cli.printJson(job);
          else cli.print(`${isShown ? "\r\x1b[K" : ""}${id}  ${line(type, job)}`);
          if (hasEnded(job.state)) ends.set(id, exitCodeOfState(job.state));
        }),
      ),
    );
  } finally {
    bar?.stop();
  }
  // a failure is worse than a deadline that passed
  const codes = new Set(ends.values());
  cli.exitCode = codes.has(exitCodes.jobFailed) ? exitCodes.jobFailed : codes.has(exitCodes.timedOut) ? exitCodes.timedOut : exitCodes.ok;
}

async function followOne(
  client: Switchyard,
  id: string,
  timeoutMs: number | undefined,
  heard: (type: string, job: JobView) => void,
): Promise<void> {
  for await (const event of client.job(id).events({ timeoutMs })) heard(event.type, event.job);
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
