/** `switchyard top`: what the cluster does, live on a terminal, once elsewhere. */

import { type Command, InvalidArgumentError, Option } from "commander";
import type { Switchyard } from "../../client.ts";
import { ClientError } from "../../client-errors.ts";
import type { Cli } from "../cli.ts";
import { explain } from "../exit-codes.ts";
import { type LiveScreen, openScreen } from "../live-screen.ts";
import { duration, positiveWhole } from "../option-values.ts";
import { type ClusterSample, type ModelRates, ratesBetween, sampleCluster } from "../top/cluster-sample.ts";
import { topText } from "../top/top-text.ts";

interface TopOptions {
  interval: number;
  count?: number;
  model?: string;
}

/** Asking oftener would be work for the cluster, and servers take a quarter of a second to gather the figures. */
const shortestMs = 500;
const longestTrend = 60;
/** Lines of the screen that are not models. */
const otherLines = 7;
const hostLines = 10;

export function registerTop(program: Command, cli: Cli): void {
  const command = program.command("top").summary("watch models and hosts live");
  command
    .description(
      "Show what models and hosts do, again and again until q or Ctrl-C: jobs per second and their trend, how many wait and how long, the time of a run and the items in it. Where no terminal is, it is shown once, after one interval. With --json: one object a round. Who waits is shown to keys with scope operate or admin.",
    )
    .addOption(new Option("--interval <time>", "between two rounds, 500ms at least").argParser(interval).default(2_000, "2s"))
    .option("--count <n>", "stop after so many rounds; default: never on a terminal, 1 elsewhere", positiveWhole)
    .option("--model <model>", "one model only")
    .addHelpText(
      "after",
      "\nExamples:\n  $ switchyard top\n  $ switchyard top --interval 5s --model digits\n  $ switchyard top --json | jq '.models[0].jobs_per_second'",
    )
    .action((options: TopOptions) => top(cli, command, options));
}

function interval(text: string): number {
  const ms = duration(text);
  if (ms < shortestMs) throw new InvalidArgumentError("Give 500ms or more.");
  return ms;
}

async function top(cli: Cli, command: Command, options: TopOptions): Promise<void> {
  const client = cli.hastyClient(command);
  const isJson = cli.wantsJson(command);
  const isLive = !isJson && process.stdout.isTTY === true;
  const watch = new Watch(client, cli, options);
  await watch.begin(); // before the screen: an address where nobody listens is told as any other command does
  const screen = isLive ? openScreen(process.stdout, process.stdin) : undefined;
  try {
    const rounds = options.count ?? (isLive ? Number.POSITIVE_INFINITY : 1);
    screen?.draw(watch.text());
    for (let round = 0; round < rounds; round++) {
      await cli.clock.sleep(options.interval, screen?.signal);
      if (screen?.signal.aborted) return;
      await watch.round(screen);
      if (screen?.signal.aborted) return;
      if (isJson) cli.printJson(watch.json());
      else if (screen === undefined) cli.print(watch.text());
      else screen.draw(watch.text());
    }
  } finally {
    screen?.close();
  }
}

class Watch {
  readonly #client: Switchyard;
  readonly #cli: Cli;
  readonly #model: string | undefined;
  readonly #trends = new Map<string, number[]>();
  readonly #totals: number[] = [];
  #sample: ClusterSample | undefined;
  #rates: ModelRates[] = [];
  /** Why the last round failed. */
  #trouble: string | undefined;

  constructor(client: Switchyard, cli: Cli, { model }: TopOptions) {
    this.#client = client;
    this.#cli = cli;
    this.#model = model;
  }

  async begin(): Promise<void> {
    this.#take(await this.#ask(undefined));
  }

  /** A live screen outlives a server that is away for a while. */
  async round(screen: LiveScreen | undefined): Promise<void> {
    try {
      this.#take(await this.#ask(screen?.signal));
      this.#trouble = undefined;
    } catch (error) {
      if (screen?.signal.aborted) return;
      if (screen === undefined || !(error instanceof ClientError)) throw error;
      this.#trouble = explain(error);
    }
  }

  async #ask(signal: AbortSignal | undefined): Promise<ClusterSample> {
    const asksWaiting = this.#sample === undefined || this.#sample.waiting !== undefined;
    const sample = await sampleCluster(this.#client, { atMs: () => this.#cli.clock.monotonicMs(), signal, asksWaiting });
    const models = sample.models.filter(({ name }) => this.#model === undefined || name === this.#model);
    if (this.#model !== undefined && models.length === 0 && this.#sample === undefined)
      throw new ClientError("model_not_found", `there is no model ${this.#model}`, { status: 404 });
    return { ...sample, models };
  }

  #take(sample: ClusterSample): void {
    const before = this.#sample;
    this.#sample = sample;
    this.#rates = ratesBetween(before ?? sample, sample);
    if (before === undefined) return;
    for (const { jobsPerSecond, name } of this.#rates) this.#trends.set(name, pushed(this.#trends.get(name) ?? [], jobsPerSecond));
    pushed(
      this.#totals,
      this.#rates.reduce((sum, { jobsPerSecond }) => sum + jobsPerSecond, 0),
    );
  }

  text(): string {
    const hosts = this.#sample?.hosts ?? [];
    const mostHosts = Math.min(hosts.length, hostLines);
    const rows = process.stdout.isTTY ? process.stdout.rows || 24 : Number.POSITIVE_INFINITY;
    const screen = topText({
      url: this.#client.url,
      models: this.#rates,
      hosts,
      trends: this.#trends,
      totals: this.#totals,
      mostModels: Math.max(3, rows - otherLines - mostHosts),
      mostHosts: process.stdout.isTTY ? mostHosts : hosts.length,
    });
    return this.#trouble === undefined ? screen : `${this.#trouble}\n${screen}`;
  }

  json(): unknown {
    return {
      models: this.#rates.map(({ batchItems, failedPerSecond, jobsPerSecond, name, queueMs, runMs, waiting }) => ({
        model: name.slice(0, name.lastIndexOf("@")),
        version: Number(name.slice(name.lastIndexOf("@") + 1)),
        jobs_per_second: jobsPerSecond,
        failed_per_second: failedPerSecond,
        waiting,
        queue_ms: queueMs,
        run_ms: runMs,
        batch_items: batchItems,
      })),
      hosts: this.#sample?.hosts ?? [],
    };
  }
}

function pushed(values: number[], value: number): number[] {
  values.push(value);
  if (values.length > longestTrend) values.shift();
  return values;
}
