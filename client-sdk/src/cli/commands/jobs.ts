/** `switchyard jobs`: the jobs that the server remembers, or its dead letters, newest first; one of them with its timeline. */

import { type JobClass, type JobState, jobClasses, jobStates } from "@switchyard/protocol";
import type { Command } from "commander";
import type { DeadLetterView, JobView } from "../../job-records.ts";
import type { Cli } from "../cli.ts";
import { UsageError } from "../exit-codes.ts";
import { jobTimeline } from "../job-timeline.ts";
import { duration, oneOf, positiveWhole } from "../option-values.ts";
import { shortDuration, textTable } from "../text-table.ts";
import { jobText } from "./get.ts";

interface JobsOptions {
  state?: JobState;
  model?: string;
  class?: JobClass;
  tag?: string;
  since?: number;
  dead?: boolean;
  code?: string;
  limit: number;
}

const largestPage = 200;

export function registerJobs(program: Command, cli: Cli): void {
  const command = program.command("jobs [id]").summary("list jobs, or show one with its timeline");
  command
    .description(
      "List jobs, newest first; or show one job, and where its time went. What can be done with one: `cancel`, `retry`, `result`, `watch`. With --json: one job view a line.",
    )
    .option("--state <state>", jobStates.join(", "), oneOf(...jobStates))
    .option("--model <model>", "jobs of one model")
    .option("--class <class>", jobClasses.join(", "), oneOf(...jobClasses))
    .option("--tag <key=value>", "jobs with this tag")
    .option("--since <time>", "jobs that were created within this time, such as 10m", duration)
    .option("--dead", "dead letters: failed jobs whose inputs are kept so that they can be submitted again")
    .option("--code <code>", "with --dead: those with this error, such as poison")
    .option("--limit <n>", "at most this many", positiveWhole, 20)
    .addHelpText(
      "after",
      `
Examples:
  $ switchyard jobs --state failed --model digits --since 1h
  $ switchyard jobs $id
  $ switchyard jobs --dead --code poison
  $ switchyard jobs --limit 1000 --json | jq -r .id`,
    )
    .action((id: string | undefined, options: JobsOptions) => {
      if (id !== undefined) return oneJob(cli, command, id, options);
      return options.dead ? dead(cli, command, options) : jobs(cli, command, options);
    });
}

const filters = ["state", "model", "class", "tag", "since", "dead", "code"] as const;

async function oneJob(cli: Cli, command: Command, id: string, options: JobsOptions): Promise<void> {
  const given = filters.find((name) => options[name] !== undefined);
  if (given !== undefined) throw new UsageError(`--${given} is a filter of lists; the id names one job`);
  const job = cli.hastyClient(command).job(id);
  if (cli.wantsJson(command)) return cli.print(await job.statusText());
  const view = await job.status();
  cli.print(`${jobText(view)}\n\n${jobTimeline(view, cli.clock.nowMs())}`);
}

async function jobs(cli: Cli, command: Command, options: JobsOptions): Promise<void> {
  const { state, model, class: jobClass, tag, since, limit } = options;
  const createdAfter = since === undefined ? undefined : new Date(cli.clock.nowMs() - since).toISOString();
  if (options.code !== undefined) throw new UsageError("--code needs --dead");
  const isJson = cli.wantsJson(command);
  const found: JobView[] = [];
  let count = 0;
  for await (const job of cli
    .hastyClient(command)
    .jobs.each({ state, model, class: jobClass, tag, createdAfter, limit: Math.min(limit, largestPage) })) {
    if (isJson) cli.printJson(job);
    else found.push(job);
    if (++count === limit) break;
  }
  if (isJson) return;
  if (found.length === 0) return cli.note("no jobs");
  const columns = [
    { title: "ID" },
    { title: "STATE" },
    { title: "MODEL" },
    { title: "CLASS" },
    { title: "CREATED" },
    { title: "TOTAL", align: "right" as const },
    { title: "ERROR" },
  ];
  cli.print(textTable(columns, found.map(row)));
}

async function dead(cli: Cli, command: Command, options: JobsOptions): Promise<void> {
  const { model, code, limit } = options;
  for (const other of ["state", "class", "tag", "since"] as const)
    if (options[other] !== undefined) throw new UsageError(`--${other} is no filter of dead letters; --model and --code are`);
  const isJson = cli.wantsJson(command);
  const found: DeadLetterView[] = [];
  let count = 0;
  for await (const letter of cli.hastyClient(command).deadLetters.each({ model, code, limit: Math.min(limit, largestPage) })) {
    if (isJson) cli.printJson(letter);
    else found.push(letter);
    if (++count === limit) break;
  }
  if (isJson) return;
  if (found.length === 0) return cli.note("no dead letters");
  const columns = [
    { title: "ID" },
    { title: "MODEL" },
    { title: "ENDED" },
    { title: "HOSTS DIED", align: "right" as const },
    { title: "ERROR" },
    { title: "INPUTS" },
  ];
  const deadRow = (one: DeadLetterView) => [
    one.id,
    `${one.model}@${one.version}`,
    one.finished_at,
    String(one.hosts_died),
    one.error?.code,
    one.inputs_kept ? "kept" : "gone",
  ];
  cli.print(textTable(columns, found.map(deadRow)));
}

function row(job: JobView) {
  return [
    job.id,
    job.state,
    `${job.model}@${job.version}`,
    job.class,
    job.created_at,
    shortDuration(job.timings?.total_ms),
    job.error?.code,
  ];
}
