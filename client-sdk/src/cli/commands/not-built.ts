/** Commands that the product will have and does not have yet. They say so, rather than being unknown. */

import type { Command } from "commander";
import { UsageError } from "../exit-codes.ts";

const planned: Readonly<Record<string, string>> = {
  pipelines: "run and list pipelines",
  train: "start and follow training runs",
};

export function registerPlanned(program: Command): void {
  for (const [name, purpose] of Object.entries(planned)) {
    program
      .command(name)
      .summary(`${purpose} (not built yet)`)
      .description(`Will ${purpose}. Not built yet.`)
      .argument("[args...]")
      .allowUnknownOption()
      .action(() => {
        throw new UsageError(`\`switchyard ${name}\` is not built yet`);
      });
  }
}
