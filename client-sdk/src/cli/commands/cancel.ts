/** `switchyard cancel`: ends a job that waits or runs. */

import type { Command } from "commander";
import type { Cli } from "../cli.ts";

export function registerCancel(program: Command, cli: Cli): void {
  const command = program.command("cancel <id>").summary("cancel a job");
  command
    .description("Cancel a job that waits or runs; the result of a running one is thrown away.")
    .addHelpText("after", "\nExamples:\n  $ switchyard cancel $id")
    .action(async (id: string) => {
      const text = await cli.hastyClient(command).job(id).cancelText();
      cli.print(cli.wantsJson(command) ? text : `cancelled ${id}`);
    });
}
