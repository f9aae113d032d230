/** Options that `infer` and `submit` share. */

import { type JobClass, jobClasses } from "@switchyard/protocol";
import type { Command } from "commander";
import { addInputOptions, type InputOptions } from "../model-inputs.ts";
import { duration, oneOf, positiveWhole } from "../option-values.ts";

export interface RunOptions extends InputOptions {
  version?: number;
  timeout?: number;
  class?: JobClass;
}

export function addRunOptions(command: Command): Command {
  return addInputOptions(command)
    .option("--version <n>", "model version; default: what the alias default stands for, else the highest", positiveWhole)
    .option("--timeout <time>", "deadline from now, such as 500ms, 5s or 2m", duration)
    .option("--class <class>", `${jobClasses.join(", ")}; default: the model's`, oneOf(...jobClasses));
}

export const inputExamples = `
  $ switchyard infer digits --image five.png
  $ switchyard infer digits --input image='[[0,0,5,13,9,1,0,0, …]]' --json
  $ switchyard infer simple --inputs request.json --timeout 500ms
  $ cat five.png | switchyard infer digits --image -`;
