/** `switchyard tenants`: who shares the cluster, and with which weight. */

import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { textTable } from "../text-table.ts";

export function registerTenants(program: Command, cli: Cli): void {
  const command = program.command("tenants").summary("list tenants");
  command
    .description(
      "List the tenants with their weights, how many of their jobs wait, and the ids of their API keys; needs a key with scope operate or admin. With --json: one tenant a line.",
    )
    .addHelpText("after", "\nExamples:\n  $ switchyard tenants\n  $ switchyard tenants --json | jq -r .tenant")
    .action(async () => {
      const tenants = await cli.hastyClient(command).tenants();
      if (cli.wantsJson(command)) {
        for (const tenant of tenants) cli.printJson(tenant);
        return;
      }
      if (tenants.length === 0) return cli.note("no tenants: the key file is empty");
      const columns = [
        { title: "TENANT" },
        { title: "WEIGHT", align: "right" as const },
        { title: "WAITING", align: "right" as const },
        { title: "KEYS" },
      ];
      cli.print(
        textTable(
          columns,
          tenants.map(({ tenant, weight, waiting, keys }) => [
            tenant,
            weight,
            waiting.reduce((sum, { jobs }) => sum + jobs, 0),
            keys.join(", "),
          ]),
        ),
      );
    });
}
