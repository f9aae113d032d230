/** `switchyard keys`: makes, lists and revokes API keys in the file that coordinators read. Asks no server. */

import { scopes } from "@switchyard/protocol";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import type { NewOptions } from "../key-actions.ts";
import { commaList } from "../option-values.ts";

/** With them come the libraries for YAML and schemas, which no other command needs. */
const actions = () => import("../key-actions.ts");

const fileHelp = "the key file; default: SWITCHYARD_API_KEYS";
const jsonHelp = "print JSON";

export function registerKeys(program: Command, cli: Cli): void {
  const command = program
    .command("keys")
    .summary("make, list and revoke API keys")
    .description("Make, list and revoke API keys. Works on a file, without a server; coordinators read the file again when it changes.");
  const make = command.command("new").summary("make a key");
  make
    .description("Make a key: print its secret, this once, and its entry for the key file, or append the entry to --file.")
    .requiredOption("--tenant <name>", "whose jobs the key sees and submits")
    .option("--weight <number>", "the tenant's share against others; default: what its other keys in --file have, else 1")
    .option("--scopes <list>", `some of ${scopes.join(",")}; default: submit,read`, commaList)
    .option("--models <list>", "models that it may use; default: all", commaList)
    .option("--expires <when>", "a time such as 2030-01-31T12:00:00Z, a date, or from now: 90d, 12h; default: never")
    .option("--id <id>", "what lists, logs and errors call it; default: the tenant and a few letters")
    .option("--file <path>", "append the entry to this file, made if there is none; then only the secret is printed")
    .option("--json", jsonHelp)
    .addHelpText(
      "after",
      `
Examples:
  $ switchyard keys new --tenant research
  $ SWITCHYARD_API_KEY=$(switchyard keys new --tenant research --weight 2 --expires 90d --file keys.yaml)
  $ switchyard keys new --tenant ops --scopes read,operate,admin --file keys.yaml --json`,
    )
    .action(async (options: NewOptions) => (await actions()).newKey(cli, make, options));
  const list = command.command("list").summary("list keys");
  list
    .description("List the keys in the file. With --json: one entry a line.")
    .option("--file <path>", fileHelp)
    .option("--json", jsonHelp)
    .addHelpText("after", "\nExamples:\n  $ switchyard keys list --file keys.yaml")
    .action(async (options: { file?: string }) => (await actions()).listKeys(cli, list, options));
  const revoke = command.command("revoke <id>").summary("remove a key");
  revoke
    .description("Remove a key from the file. Coordinators refuse it within a second; streams that it opened end within 15.")
    .option("--file <path>", fileHelp)
    .option("--json", jsonHelp)
    .addHelpText("after", "\nExamples:\n  $ switchyard keys revoke --file keys.yaml research-x7k2m9")
    .action(async (id: string, options: { file?: string }) => (await actions()).revokeKey(cli, revoke, id, options));
}
