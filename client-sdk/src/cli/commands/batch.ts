/** `switchyard batch run`: a model over every line of a file, answers into another, and on from where it was when it is run again. */

import { createHash } from "node:crypto";
import { constants } from "node:os";
import { type JobClass, jobClasses, type ModelView } from "@switchyard/protocol";
import type { Command } from "commander";
import type { BatchLine } from "../../batch-run.ts";
import type { Clock } from "../../clock.ts";
import type { SubmitOptions } from "../../infer-call.ts";
import type { BatchJournal } from "../batch/batch-journal.ts";
import { itemsOf, scanItems } from "../batch/item-file.ts";
import { ItemLines } from "../batch/item-line.ts";
import { lockOutput } from "../batch/output-lock.ts";
import type { Cli } from "../cli.ts";
import { exitCodes, UsageError } from "../exit-codes.ts";
import { commaList, duration, oneOf, positiveWhole, tag } from "../option-values.ts";
import { grouped, showCount } from "../progress.ts";
import { shortDuration } from "../text-table.ts";
import { addGlobalOptions } from "./global-options.ts";

interface BatchRunOptions {
  model: string;
  output: string;
  concurrency: number;
  version?: number;
  class: JobClass;
  timeout?: number;
  outputs?: string[];
  tag?: Record<string, string>;
  run?: string;
  giveUp: number;
}

const saveEveryMs = 5_000;
const giveUpMs = 300_000;
const mostAtOnce = 10_000;
/** A terminal and the launcher both pass a Ctrl-C on: what comes so soon is the same one. */
const oneSignalMs = 500;

export function registerBatch(program: Command, cli: Cli): void {
  const command = program
    .command("batch")
    .summary("run a model over a file of items")
    .description("Run a model over a file of items, of which there may be millions.");
  const run = command.command("run <file>").summary("run a model on each line of a file");
  addGlobalOptions(run)
    .description(
      'Run a model on each line of a file, {"inputs": [...]} of the protocol or {"name": data}, and write an answer for each: its index, from 0, ' +
        "and the result or the error, as they end. Run again after an interruption, it goes on where it was: a journal beside the output says what " +
        "is answered, and keys made of the file's content and the line find the jobs that were submitted before.",
    )
    .requiredOption("--model <model>", "the model")
    .requiredOption("--output <file>", "the file of answers; its journal lies beside it")
    .option("--concurrency <n>", `items under way at once, ${mostAtOnce} at most`, positiveWhole, 1_000)
    .option("--version <n>", "model version; default: the one that requests without a version get when it begins", positiveWhole)
    .option("--class <class>", jobClasses.join(", "), oneOf(...jobClasses), "batch")
    .option("--timeout <time>", "deadline of each item from when it is submitted; default: the class's", duration)
    .option("--outputs <names>", "outputs wanted, by comma; default: all", commaList)
    .option("--tag <key=value>", "a tag to find the jobs by (repeatable)", tag)
    .option("--run <name>", "another name runs all of the same file again; answers of earlier jobs are found under one")
    .option("--give-up <time>", "how long to go on while no server answers, or all refuse", duration, giveUpMs)
    .addHelpText(
      "after",
      `
Ctrl-C ends it; the same command goes on. Exit codes: 0 all items succeeded, 1 some failed, 3, 5 or 130 not all are answered yet.

Examples:
  $ switchyard batch run items.ndjson --model digits --output answers.ndjson
  $ switchyard batch run items.ndjson --model digits --output labels.ndjson --outputs label --concurrency 4000`,
    )
    .action((file: string, options: BatchRunOptions) => batchRun(cli, run, file, options));
}

async function batchRun(cli: Cli, command: Command, file: string, options: BatchRunOptions): Promise<void> {
  if (options.concurrency > mostAtOnce) throw new UsageError(`--concurrency is at most ${mostAtOnce}, got ${options.concurrency}`);
  const unlock = await lockOutput(options.output);
  let journal: BatchJournal | undefined;
  try {
    const asked = { file: await scanItems(file), terms: termsOf(options) };
    const modelOf = (version: number | undefined) => cli.hastyClient(command).model(options.model, { version });
    let model: ModelView | undefined;
    const journals = await import("../batch/batch-journal.ts"); // and with it the library for schemas
    journal = await journals.BatchJournal.open(options.output, asked, async () => {
      model = await modelOf(options.version);
      const { version } = model;
      return { version, key: keyOf(asked.file.sha256, { ...asked.terms, version }) };
    });
    if (journal.done === journal.items) return sayWhat(cli, command, { output: options.output, journal, done: 0, took: 0 });
    // jobs go on as they were begun, also where another version is served by now
    model ??= await modelOf(journal.start.version);
    await runOn(cli, command, { file, options, journal, model });
  } finally {
    await journal?.close();
    await unlock();
  }
}

/** What makes two runs the same run. */
function termsOf({ model, version, class: jobClass, timeout, outputs, tag: tags, run }: BatchRunOptions): Record<string, unknown> {
  const terms = { model, version, class: jobClass, timeout_ms: timeout, outputs, tags, run };
  return JSON.parse(JSON.stringify(terms)) as Record<string, unknown>; // as the journal gives them back
}

function keyOf(sha256: string, terms: Record<string, unknown>): string {
  return `batch-${createHash("sha256")
    .update(`${sha256}\n${JSON.stringify(terms)}`)
    .digest("hex")
    .slice(0, 40)}`;
}

interface OneRun {
  file: string;
  options: BatchRunOptions;
  journal: BatchJournal;
  model: ModelView;
}

async function runOn(cli: Cli, command: Command, { file, options, journal, model }: OneRun): Promise<void> {
  const terms: SubmitOptions = {
    version: model.version,
    class: options.class,
    timeoutMs: options.timeout,
    outputs: options.outputs,
    tags: options.tag,
  };
  const lines = linesFrom(file, journal, new ItemLines({ model, options: terms }));
  const { clock } = cli;
  const startedMs = clock.monotonicMs();
  const before = journal.done;
  const interrupt = interruption(clock);
  if (before > 0) cli.note(`${grouped(before)} of ${grouped(journal.items)} items are answered already`);
  const count = () => ({ done: journal.done, failed: journal.failed });
  const progress = showCount({ hasTerminal: cli.hasTerminal, total: journal.items, clock, count, note: (line) => cli.note(line) });
  try {
    const client = cli.client(command, { giveUpAfterMs: options.giveUp });
    const call = { key: journal.start.key, atOnce: options.concurrency, timeoutMs: options.timeout, signal: interrupt.signal };
    let savedMs = startedMs;
    for await (const outcome of client.batchText(lines, call)) {
      await journal.answer(outcome);
      if (clock.monotonicMs() - savedMs < saveEveryMs) continue;
      await journal.save();
      savedMs = clock.monotonicMs();
    }
  } catch (error) {
    progress.stop();
    cli.note(`${grouped(journal.items - journal.done)} items are not answered yet: the same command goes on`);
    if (!interrupt.signal.aborted) throw error;
  } finally {
    progress.stop();
    interrupt.release();
    await journal.save();
  }
  sayWhat(cli, command, { output: options.output, journal, done: journal.done - before, took: clock.monotonicMs() - startedMs });
}

async function* linesFrom(file: string, journal: BatchJournal, lines: ItemLines): AsyncGenerator<BatchLine, void, undefined> {
  for await (const { index, text } of itemsOf(file)) {
    if (journal.isAnswered(index)) continue;
    journal.willSubmit(index);
    yield lines.line(index, text);
  }
}

/** Ctrl-C, or being asked to end: what is under way is left to the next start. Another one ends at once. */
function interruption(clock: Clock): { signal: AbortSignal; release(): void } {
  const controller = new AbortController();
  const names = ["SIGINT", "SIGTERM"] as const;
  let firstMs = 0;
  const end = (name: NodeJS.Signals): void => {
    const nowMs = clock.monotonicMs();
    if (!controller.signal.aborted) firstMs = nowMs;
    else if (nowMs - firstMs > oneSignalMs) process.exit(128 + constants.signals[name]);
    controller.abort();
  };
  for (const name of names) process.on(name, end);
  return {
    signal: controller.signal,
    release: () => {
      for (const name of names) process.off(name, end);
    },
  };
}

function sayWhat(cli: Cli, command: Command, what: { output: string; journal: BatchJournal; done: number; took: number }): void {
  const { output, journal, done, took } = what;
  const { items, succeeded, failed } = journal;
  cli.exitCode = journal.done < items ? exitCodes.interrupted : failed > 0 ? exitCodes.jobFailed : exitCodes.ok;
  if (cli.wantsJson(command)) {
    cli.printJson({ output, items, succeeded, failed, unanswered: items - succeeded - failed, seconds: Math.round(took) / 1000 });
    return;
  }
  const rate = done > 0 && took > 0 ? `, ${grouped(Math.round((1000 * done) / took))}/s` : "";
  cli.print(`${output}: ${grouped(succeeded)} succeeded, ${grouped(failed)} failed, of ${grouped(items)} (${shortDuration(took)}${rate})`);
}
