/** `switchyard retry`: submits jobs that failed again, one by its id or dead letters by a filter. */

import type { Command } from "commander";
import type { DeadLetterFilter } from "../../dead-letters.ts";
import { readJobView } from "../../job-records.ts";
import type { Cli } from "../cli.ts";
import { exitCodes, UsageError } from "../exit-codes.ts";
import { positiveWhole } from "../option-values.ts";

interface RetryOptions {
  dead?: boolean;
  model?: string;
  code?: string;
  limit?: number;
  dryRun?: boolean;
}

const largestPage = 200;

export function registerRetry(program: Command, cli: Cli): void {
  const command = program.command("retry [id]").summary("submit jobs that failed again");
  command
    .description(
      "Submit a job that failed again, as a new job with the same inputs, and print the new id; asked twice, it is the same job. With --dead: all dead letters, or those that a filter names.",
    )
    .option("--dead", "all dead letters")
    .option("--model <model>", "with --dead: those of one model")
    .option("--code <code>", "with --dead: those with this error, such as poison")
    .option("--limit <n>", "with --dead: at most this many", positiveWhole)
    .option("--dry-run", "with --dead: print what would be submitted again, and do nothing")
    .addHelpText(
      "after",
      `
Examples:
  $ switchyard retry $id
  $ switchyard jobs --dead
  $ switchyard retry --dead --model digits --code poison --dry-run
  $ switchyard retry --dead --model digits --json | jq -r .retried_as`,
    )
    .action((id: string | undefined, options: RetryOptions) => retry(cli, command, id, options));
}

async function retry(cli: Cli, command: Command, id: string | undefined, options: RetryOptions): Promise<void> {
  const { dead, ...rest } = options;
  if (id !== undefined && dead) throw new UsageError("give either the id of a job or --dead");
  if (dead) return options.dryRun ? showDead(cli, command, rest) : retryDead(cli, command, rest);
  if (id === undefined) throw new UsageError("give the id of a job, or --dead");
  const filters = Object.keys(rest);
  if (filters.length > 0) throw new UsageError("--model, --code, --limit and --dry-run need --dead");
  const text = await cli.client(command).job(id).retryText();
  cli.print(cli.wantsJson(command) ? text : readJobView(text).id);
}

function filterOf({ model, code }: RetryOptions): DeadLetterFilter {
  return { model, code };
}

async function showDead(cli: Cli, command: Command, options: RetryOptions): Promise<void> {
  const { limit = Number.POSITIVE_INFINITY } = options;
  let count = 0;
  for await (const letter of cli.hastyClient(command).deadLetters.each({ ...filterOf(options), limit: Math.min(limit, largestPage) })) {
    if (cli.wantsJson(command)) cli.printJson(letter);
    else cli.print(letter.id);
    if (++count === limit) break;
  }
  if (!cli.wantsJson(command)) cli.note(`${count} would be submitted again`);
}

/** Page after page; what is refused stays where it is, and says why. */
async function retryDead(cli: Cli, command: Command, options: RetryOptions): Promise<void> {
  const client = cli.client(command);
  const isJson = cli.wantsJson(command);
  let left = options.limit ?? Number.POSITIVE_INFINITY;
  let [requeued, refused, mayPass, isHeldUp] = [0, 0, true, false];
  let cursor: string | undefined;
  do {
    const page = await client.deadLetters.requeue({ ...filterOf(options), limit: Math.min(left, largestPage), cursor });
    for (const item of page.items) {
      if (isJson) cli.printJson(item);
      else if (item.retried_as !== undefined) cli.print(`${item.id} is now ${item.retried_as}`);
      else cli.note(`${item.id} was refused: ${item.error?.detail} [${item.error?.code}]`);
      if (item.error !== undefined && !item.error.retryable) mayPass = false;
    }
    requeued += page.requeued;
    refused += page.refused;
    left -= page.items.length;
    // refused to the last, for now: what holds these up now holds the others up too
    isHeldUp = page.requeued === 0 && page.items.some(({ error }) => error?.retryable);
    cursor = page.cursor;
  } while (cursor !== undefined && left > 0 && !isHeldUp);
  const older = isHeldUp && cursor !== undefined ? "; others are left, which what holds these up would hold up too: try again later" : "";
  if (!isJson) cli.note(`${requeued} submitted again${refused > 0 ? `, ${refused} refused` : ""}${older}`);
  if (refused > 0) cli.exitCode = mayPass ? exitCodes.refused : exitCodes.jobFailed;
}
