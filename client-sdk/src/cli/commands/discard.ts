/** `switchyard discard`: lets go what a dead letter keeps. */

import type { Command } from "commander";
import type { Cli } from "../cli.ts";

export function registerDiscard(program: Command, cli: Cli): void {
  const command = program.command("discard <id>").summary("let go the inputs of a dead letter");
  command
    .description(
      "Let go the inputs of a dead letter: it is none any more, and cannot be submitted again. Its record stays like any other job's.",
    )
    .addHelpText("after", "\nExamples:\n  $ switchyard jobs --dead\n  $ switchyard discard $id")
    .action(async (id: string) => {
      const letter = await cli.hastyClient(command).deadLetters.discard(id);
      if (cli.wantsJson(command)) cli.printJson(letter);
      else cli.print(`discarded ${id}`);
    });
}
