/** `switchyard models`: what can be run, and what cannot and why. */

import type { Command } from "commander";
import type { ModelView } from "../../job-records.ts";
import type { Cli } from "../cli.ts";
import { shortSize, textTable } from "../text-table.ts";
import { registerModelActions } from "./model-actions.ts";

export function registerModels(program: Command, cli: Cli): void {
  const models = program
    .command("models")
    .summary("list models, upload versions, move traffic between them")
    .description("List models, upload versions, name them and move traffic between them. Without a command: list, or models MODEL.");
  const command = models.command("list [model]", { isDefault: true }).summary("list models and versions");
  command
    .description("List models and their versions, or those of one model with inputs and outputs. With --json: one version a line.")
    .addHelpText("after", "\nExamples:\n  $ switchyard models\n  $ switchyard models digits")
    .action(async (model: string | undefined) => {
      const client = cli.hastyClient(command);
      const views = model === undefined ? await client.models() : await client.modelVersions(model);
      if (cli.wantsJson(command)) {
        for (const view of views) cli.printJson(view);
      } else if (views.length === 0) cli.note("no models: the repository is empty");
      else cli.print(model === undefined ? listText(views) : views.map(detailText).join("\n\n"));
    });
  registerModelActions(models, cli);
}

function listText(views: readonly ModelView[]): string {
  const columns = [
    { title: "MODEL" },
    { title: "VERSION", align: "right" as const },
    { title: "STATE" },
    { title: "BATCH", align: "right" as const },
    { title: "QUEUED", align: "right" as const },
    { title: "SIZE", align: "right" as const },
    { title: "REASON" },
  ];
  const rows = views.map((view) => [
    view.model,
    view.version,
    view.state,
    view.batching?.max_items,
    view.queued,
    shortSize(view.size_bytes),
    view.reason,
  ]);
  return textTable(columns, rows);
}

function detailText(view: ModelView): string {
  const lines = [`${view.model}@${view.version}  ${view.state}${view.reason === undefined ? "" : `: ${view.reason}`}`];
  for (const input of view.inputs) lines.push(`  input   ${input.name}  ${input.datatype} [${input.shape.join(",")}]`);
  for (const output of view.outputs) lines.push(`  output  ${output.name}  ${output.datatype} [${output.shape.join(",")}]`);
  if (view.batching !== undefined) lines.push(`  batch   up to ${view.batching.max_items}: ${view.batching.reason}`);
  if (view.warm_on !== undefined && view.warm_on.length > 0) lines.push(`  warm    ${view.warm_on.join(", ")}`);
  lines.push(`  size    ${shortSize(view.size_bytes)}, sha256 ${view.digest}`);
  return lines.join("\n");
}
