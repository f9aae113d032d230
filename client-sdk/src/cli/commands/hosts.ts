/** `switchyard hosts`: the workers that are registered. */

import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { shortDuration, textTable } from "../text-table.ts";

export function registerHosts(program: Command, cli: Cli): void {
  const command = program.command("hosts").summary("list hosts");
  command
    .description("List the hosts that run models. With --json: one host a line.")
    .addHelpText("after", "\nExamples:\n  $ switchyard hosts\n  $ switchyard hosts --json | jq -r '.warm[]'")
    .action(async () => {
      const hosts = await cli.hastyClient(command).hosts();
      if (cli.wantsJson(command)) {
        for (const host of hosts) cli.printJson(host);
        return;
      }
      if (hosts.length === 0) return cli.note("no hosts: no worker is registered");
      const columns = [
        { title: "HOST" },
        { title: "STATE" },
        { title: "DEVICE" },
        { title: "PROVIDERS" },
        { title: "LABELS" },
        { title: "CORES", align: "right" as const },
        { title: "WARM" },
        { title: "HEARTBEAT", align: "right" as const },
        { title: "FAILED", align: "right" as const },
      ];
      const rows = hosts.map((host) => [
        host.id,
        host.state,
        host.device,
        host.providers.join(","),
        several(Object.entries(host.labels).map(([name, value]) => `${name}=${value}`)),
        host.cores,
        several(host.warm),
        shortDuration(host.heartbeat_age_ms),
        Object.keys(host.failures ?? {}).length || undefined,
      ]);
      cli.print(textTable(columns, rows));
    });
}

function several(names: readonly string[]): string {
  return names.length <= 3 ? names.join(",") : `${names.slice(0, 3).join(",")} and ${names.length - 3} more`;
}
