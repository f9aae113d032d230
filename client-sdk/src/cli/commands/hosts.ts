/** `switchyard hosts`: the workers that are registered, or all that is known of one. */

import type { Command } from "commander";
import { ClientError } from "../../client-errors.ts";
import type { HostView } from "../../job-records.ts";
import type { Cli } from "../cli.ts";
import { shortDuration, textTable } from "../text-table.ts";

export function registerHosts(program: Command, cli: Cli): void {
  const command = program.command("hosts [id]").summary("list hosts, or show one");
  command
    .description(
      "List the hosts that run models; or show one: what it has, what it holds, what it could not load. With --json: one host a line.",
    )
    .addHelpText("after", "\nExamples:\n  $ switchyard hosts\n  $ switchyard hosts worker-1\n  $ switchyard hosts --json | jq -r '.warm[]'")
    .action(async (id: string | undefined) => {
      const all = await cli.hastyClient(command).hosts();
      const hosts = id === undefined ? all : all.filter((host) => host.id === id);
      if (id !== undefined && hosts.length === 0) throw new ClientError("host_not_found", `no host ${id} is registered`, { status: 404 });
      if (cli.wantsJson(command)) {
        for (const host of hosts) cli.printJson(host);
        return;
      }
      if (id !== undefined) return cli.print(hosts.map(hostText).join("\n\n"));
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
      const shared = new Set(hosts.filter(({ id_shared_with: others }) => others !== undefined).map((host) => host.id));
      for (const one of shared)
        cli.note(`${one} is the id of several live hosts: give each worker a SWITCHYARD_HOST_ID of its own, or none`);
    });
}

function hostText(host: HostView): string {
  const gpus = host.gpus.map(({ memory_mb: memoryMb, name }) => `${name} (${memoryMb} MB)`);
  const labels = Object.entries(host.labels).map(([name, value]) => `${name}=${value}`);
  const rows: [string, string | number | undefined][] = [
    ["id", host.id],
    ["state", host.state],
    ["version", host.version],
    ["device", host.device],
    ["providers", host.providers.join(", ")],
    ["frameworks", host.frameworks.join(", ")],
    ["GPUs", gpus.join(", ")],
    ["cores", host.cores],
    ["memory", `${host.memory_mb} MB`],
    ["labels", labels.join(", ")],
    ["registered", host.registered_at],
    ["incarnation", host.incarnation],
    ["heartbeat", `${shortDuration(host.heartbeat_age_ms)} ago`],
    ["metrics", host.metrics],
    ["warm", host.warm.join(", ")],
    ...(host.id_shared_with ?? []).map(({ incarnation, metrics }): [string, string] => ["id shared", `with ${incarnation} at ${metrics}`]),
    ...Object.entries(host.failures ?? {}).map(([model, reason]): [string, string] => ["failed", `${model}: ${reason}`]),
  ];
  const known = rows.filter(([, value]) => value !== undefined && value !== "");
  return textTable([{ title: "" }, { title: "" }], known)
    .split("\n")
    .slice(1)
    .join("\n");
}

function several(names: readonly string[]): string {
  return names.length <= 3 ? names.join(",") : `${names.slice(0, 3).join(",")} and ${names.length - 3} more`;
}
