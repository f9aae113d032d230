/** `switchyard result`: the outputs of a job that succeeded. */

import { writeFile } from "node:fs/promises";
import type { Command } from "commander";
import { answerText } from "../answer-text.ts";
import type { Cli } from "../cli.ts";
import { UsageError } from "../exit-codes.ts";
import { duration } from "../option-values.ts";
import { bytesOf } from "./infer.ts";

interface ResultOptions {
  output?: string;
  raw?: boolean | string;
  timeout?: number;
}

export function registerResult(program: Command, cli: Cli): void {
  const command = program.command("result <id>").summary("print or save a job's outputs");
  command
    .description("Print or save a job's outputs; waits for a job that has not ended.")
    .option("-o, --output <file>", "save the answer as JSON, or one output's bytes with --raw")
    .option("--raw [output]", "the bytes of one output (the first)")
    .option("--timeout <time>", "how long to wait, such as 5s; default: until the job ends", duration)
    .addHelpText(
      "after",
      `
Examples:
  $ switchyard result $id
  $ switchyard result $id -o answer.json
  $ switchyard result $id --raw probabilities -o probabilities.f32`,
    )
    .action((id: string, options: ResultOptions) => result(cli, command, id, options));
}

async function result(cli: Cli, command: Command, id: string, options: ResultOptions): Promise<void> {
  await cli.hastyClient(command).job(id).status();
  const job = cli.client(command).job(id);
  const outputs = await job.result({ timeoutMs: options.timeout });
  if (options.raw !== undefined) {
    const bytes = bytesOf(outputs, options.raw === true ? undefined : String(options.raw));
    return options.output === undefined ? cli.printBytes(bytes) : save(options.output, bytes);
  }
  if (options.output !== undefined) return save(options.output, `${await job.resultText()}\n`);
  if (cli.wantsJson(command)) return cli.print(await job.resultText());
  const labels = await labelsOf(cli, command, outputs);
  cli.print(answerText(outputs, labels));
}

/** Without them the outputs are shown as numbers: the model may be gone by now. */
async function labelsOf(cli: Cli, command: Command, outputs: { model: string; version: number }) {
  try {
    return (await cli.hastyClient(command).model(outputs.model, { version: outputs.version })).labels;
  } catch {
    return undefined;
  }
}

async function save(file: string, content: Uint8Array | string): Promise<void> {
  try {
    await writeFile(file, content);
  } catch (error) {
    throw new UsageError(`cannot write ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
