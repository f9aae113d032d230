/** `switchyard get`: a job as it stands. */

import type { JobLogView } from "@switchyard/protocol";
import type { Command } from "commander";
import type { JobView } from "../../job-records.ts";
import type { Cli } from "../cli.ts";
import { exitCodeOfState } from "../exit-codes.ts";
import { shortDuration, textTable } from "../text-table.ts";

export function registerGet(program: Command, cli: Cli): void {
  const command = program.command("get <id>").summary("show a job");
  command
    .description("Show a job: its state, its times, its error.")
    .option("--wait", "wait for its end first; the exit code then says how it ended")
    .option("--log", "show what coordinators and hosts say of it, line by line, each attempt with its end")
    .addHelpText(
      "after",
      `
Examples:
  $ switchyard get kq3z7m2a5d-wl4g6s2x7cvbn3m5qa4r6t2y7u
  $ switchyard get $id --wait --json
  $ switchyard get $id --log`,
    )
    .action(async (id: string, options: { wait?: boolean; log?: boolean }) => {
      const job = (options.wait === true ? cli.client(command) : cli.hastyClient(command)).job(id);
      const view = options.wait === true ? await job.finished() : undefined;
      if (view !== undefined) cli.exitCode = exitCodeOfState(view.state);
      if (options.log === true) {
        const text = await job.logText();
        return cli.print(cli.wantsJson(command) ? text : logText(JSON.parse(text) as JobLogView));
      }
      if (cli.wantsJson(command)) return cli.print(await job.statusText());
      cli.print(jobText(view ?? (await job.status())));
    });
}

export function jobText(view: JobView): string {
  const { timings } = view;
  const rows: [string, string | number | undefined][] = [
    ["id", view.id],
    ["state", view.state],
    ["model", `${view.model}@${view.version}`],
    ["class", view.class],
    ["durability", view.durability],
    ["attempt", view.attempt],
    ["created", view.created_at],
    ["started", view.started_at],
    ["finished", view.finished_at],
    ["deadline", view.deadline],
    ["host", view.host],
    ["waited", shortDuration(timings?.queue_ms)],
    ["ran", timings && `${shortDuration(timings.run_ms)} in a batch of ${timings.batch_items}`],
    ["total", shortDuration(timings?.total_ms)],
    ["trace", view.trace_id],
    ["retry of", view.retry_of],
    [
      "tags",
      view.tags &&
        Object.entries(view.tags)
          .map(([key, value]) => `${key}=${value}`)
          .join(" "),
    ],
    ["error", view.error && `${view.error.detail} [${view.error.code}]`],
  ];
  const known = rows.filter(([, value]) => value !== undefined && value !== "");
  return textTable([{ title: "" }, { title: "" }], known)
    .split("\n")
    .slice(1)
    .join("\n");
}

function logText({ lines, untold_attempts: untold }: JobLogView): string {
  const earlier = untold === undefined ? [] : [`${untold} earlier ${untold === 1 ? "attempt" : "attempts"} of which nothing is kept`];
  const told = lines.map(({ at, event, fields, host, level, source }) => {
    const said = Object.entries(fields).map(([name, value]) => `${name}=${/[\s"=]/.test(String(value)) ? JSON.stringify(value) : value}`);
    return [at, level.padEnd(5), host === undefined ? source : `${source} ${host}`, event, ...said].join(" ");
  });
  return [...earlier, ...told].join("\n");
}
