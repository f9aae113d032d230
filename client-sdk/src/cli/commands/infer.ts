/** `switchyard infer`: runs a model and waits. */

import { defaultTimeoutMs } from "@switchyard/protocol";
import type { Command } from "commander";
import type { Switchyard } from "../../client.ts";
import type { InferResult } from "../../infer-answer.ts";
import type { ModelView } from "../../job-records.ts";
import { answerText } from "../answer-text.ts";
import type { Cli } from "../cli.ts";
import { UsageError } from "../exit-codes.ts";
import { readInputs } from "../model-inputs.ts";
import { showProgress } from "../progress.ts";
import { addRunOptions, inputExamples, type RunOptions } from "./run-options.ts";

interface InferCommandOptions extends RunOptions {
  raw?: boolean | string;
}

export function registerInfer(program: Command, cli: Cli): void {
  const command = program.command("infer <model>").summary("run a model and print its answer");
  addRunOptions(command)
    .description("Run a model and print its answer: the likeliest class for classifiers with labels, else the outputs.")
    .option("--raw [output]", "write the bytes of one output (the first) to standard output")
    .addHelpText("after", `\nExamples:${inputExamples}`)
    .action((model: string, options: InferCommandOptions) => infer(cli, command, model, options));
}

async function infer(cli: Cli, command: Command, model: string, options: InferCommandOptions): Promise<void> {
  const view = await cli.hastyClient(command).model(model, { version: options.version });
  const inputs = await readInputs(options, view, cli);
  const client = cli.client(command);
  const call = { version: options.version, timeoutMs: options.timeout, class: options.class };
  const limitMs = options.timeout ?? defaultTimeoutMs[options.class ?? "standard"];
  const progress = showProgress({ hasTerminal: cli.hasTerminal, state: model, limitMs, clock: cli.clock });
  try {
    if (cli.wantsJson(command)) {
      const text = await client.inferText(model, inputs, call);
      progress.stop();
      return cli.print(text);
    }
    const result = await client.infer(model, inputs, call);
    progress.stop();
    if (options.raw !== undefined) return await cli.printBytes(bytesOf(result, options.raw === true ? undefined : String(options.raw)));
    cli.print(answerText(result, await labelsOf(client, view, result.version)));
  } finally {
    progress.stop();
  }
}

/**
 * Of the version that answered, which is another one where the alias `default` shares the requests out. Without them the outputs are shown as numbers: the answer
 * is there, and what fails now is not to lose it.
 */
export async function labelsOf(client: Switchyard, view: ModelView, version: number): Promise<ModelView["labels"]> {
  if (version === view.version) return view.labels;
  return client.model(view.model, { version }).then(
    ({ labels }) => labels,
    () => undefined,
  );
}

/** The output as it came; strings one a line. */
export function bytesOf(result: InferResult, name: string | undefined): Uint8Array {
  const output = name === undefined ? Object.values(result.outputs)[0] : result.outputs[name];
  if (output === undefined) throw new UsageError(`there is no output ${name}; there are ${Object.keys(result.outputs).join(", ")}`);
  const { data } = output;
  return Array.isArray(data)
    ? new TextEncoder().encode(data.map((text) => `${text}\n`).join(""))
    : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
