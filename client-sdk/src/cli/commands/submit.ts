/** `switchyard submit`: hands a job over; its id is the answer. */

import { type Durability, defaultTimeoutMs, durabilities, type Requirement } from "@switchyard/protocol";
import type { Command } from "commander";
import { outcomeError } from "../../job-handle.ts";
import { answerText } from "../answer-text.ts";
import type { Cli } from "../cli.ts";
import { readInputs } from "../model-inputs.ts";
import { oneOf, positiveWhole, requirement, tag } from "../option-values.ts";
import { showProgress } from "../progress.ts";
import { labelsOf } from "./infer.ts";
import { addRunOptions, type RunOptions } from "./run-options.ts";

interface SubmitCommandOptions extends RunOptions {
  tag?: Record<string, string>;
  maxAttempts?: number;
  durability?: Durability;
  idempotencyKey?: string;
  require?: Requirement;
  waitForHost?: boolean;
  wait?: boolean;
}

export function registerSubmit(program: Command, cli: Cli): void {
  const command = program.command("submit <model>").summary("hand a job over and print its id");
  addRunOptions(command)
    .description("Hand a job over and print its id. With --wait: print its answer as `infer` does.")
    .option("--tag <key=value>", "a tag to find the job by (repeatable)", tag)
    .option("--max-attempts <n>", "how often it may be run", positiveWhole)
    .option(
      "--durability <tier>",
      "what job and outcome have survived before they are told: fast, fsync or replicated",
      oneOf(...durabilities),
    )
    .option(
      "--require <what=value>",
      "provider=, gpu-memory-mb=, framework= or label:<name>= that a host must have (repeatable)",
      requirement,
    )
    .option("--wait-for-host", "wait for a host that has what is required, instead of being refused while there is none")
    .option("--idempotency-key <key>", "submitting again with the same key finds the same job")
    .option("--wait", "wait for the end")
    .addHelpText(
      "after",
      `
Examples:
  $ switchyard submit digits --image five.png
  $ switchyard submit digits --image five.png --tag run=7 --wait
  $ id=$(switchyard submit digits --image five.png --class batch) && switchyard watch $id`,
    )
    .action((model: string, options: SubmitCommandOptions) => submit(cli, command, model, options));
}

async function submit(cli: Cli, command: Command, model: string, options: SubmitCommandOptions): Promise<void> {
  const view = await cli.hastyClient(command).model(model, { version: options.version });
  const inputs = await readInputs(options, view, cli);
  const client = cli.client(command);
  const submitted = await client.submitText(model, inputs, {
    version: options.version,
    timeoutMs: options.timeout,
    class: options.class,
    tags: options.tag,
    maxAttempts: options.maxAttempts,
    durability: options.durability,
    require: options.require,
    waitForHost: options.waitForHost,
    idempotencyKey: options.idempotencyKey,
  });
  const job = client.job(submitted.id);
  if (options.wait !== true) return cli.print(cli.wantsJson(command) ? submitted.text : job.id);

  if (!cli.wantsJson(command)) cli.note(`job ${job.id}`);
  const limitMs = options.timeout ?? defaultTimeoutMs[options.class ?? "standard"];
  const progress = showProgress({ hasTerminal: cli.hasTerminal, state: "waiting", limitMs, clock: cli.clock });
  try {
    const ended = await job.finished();
    if (ended.state !== "succeeded") throw outcomeError(ended);
    const text = cli.wantsJson(command)
      ? await job.resultText()
      : answerText(await job.result(), await labelsOf(client, view, ended.version));
    progress.stop();
    cli.print(text);
  } finally {
    progress.stop();
  }
}
