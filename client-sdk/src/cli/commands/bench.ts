/** `switchyard bench`: how much a running server does, and how long it takes, over more and more load. */

import { writeFile } from "node:fs/promises";
import { type JobClass, jobClasses } from "@switchyard/protocol";
import { type Command, InvalidArgumentError } from "commander";
import type { Switchyard } from "../../client.ts";
import type { Inputs } from "../../inputs.ts";
import type { ModelView } from "../../job-records.ts";
import { benchSvg } from "../bench/bench-svg.ts";
import { barPlot, headLine, loadOf, pointLine, remarks } from "../bench/bench-text.ts";
import { type BenchPoint, measurePoint, type PointLoad } from "../bench/point.ts";
import { inputsFor } from "../bench/signature-inputs.ts";
import { sweepRange, wholeSweepRange } from "../bench/sweep-range.ts";
import type { Cli } from "../cli.ts";
import { exitCodes, UsageError } from "../exit-codes.ts";
import { addInputOptions, type InputOptions, readInputs } from "../model-inputs.ts";
import { duration, oneOf, positiveWhole } from "../option-values.ts";
import { showProgress } from "../progress.ts";

interface BenchOptions extends InputOptions {
  version?: number;
  class?: JobClass;
  concurrency?: number[];
  rate?: number[];
  deadline?: number;
  seconds: number;
  warmup: number;
  svg?: string;
}

/** Different inputs that are sent in turn, when none are given. */
const inputSets = 16;
const mostClients = 2048;
const usualSweep = "1:64";

export function registerBench(program: Command, cli: Cli): void {
  const command = program.command("bench <model>").summary("measure a model: rates and latencies over rising load");
  addInputOptions(command)
    .description(
      "Measure a model on a running server. With --concurrency each client sends its next job when it was answered; with --rate jobs arrive by " +
        "chance at that rate, however many are under way, and latencies count from when they were meant to be sent. Inputs are made from the " +
        "model's signature unless they are given.",
    )
    .option("--concurrency <range>", `clients at once: 8, 1,4,16 or 1:64 (doubling); default without --rate: ${usualSweep}`, clients)
    .option("--rate <range>", "jobs a second: 100, 50,100,200, 50:800 (doubling) or 50:400:50 (steps)", sweepRange)
    .option("--deadline <time>", "deadline of every job, such as 100ms: later answers are late, and the server may refuse", duration)
    .option("--seconds <n>", "measured time of a point", seconds, 3)
    .option("--warmup <n>", "seconds of load before each point that do not count", warmup, 1)
    .option("--version <n>", "model version; default: the one that requests without a version get when it begins", positiveWhole)
    .option("--class <class>", `${jobClasses.join(", ")}; default: the model's`, oneOf(...jobClasses))
    .option("--svg <file>", "also draw the sweep into a file")
    .addHelpText(
      "after",
      `
Ctrl-C ends the sweep and prints what was measured so far.

Examples:
  $ switchyard bench digits
  $ switchyard bench digits --concurrency 1:256 --svg digits.svg
  $ switchyard bench digits --rate 100:1600 --deadline 50ms --json`,
    )
    .action((model: string, options: BenchOptions) => bench(cli, command, model, options));
}

function clients(text: string): number[] {
  const values = wholeSweepRange(text);
  if (values.at(-1)! > mostClients) throw new InvalidArgumentError(`Give ${mostClients} clients at most.`);
  return values;
}

function seconds(text: string): number {
  const value = Number(text);
  if (!(value >= 0.1 && value <= 3600)) throw new InvalidArgumentError("Give seconds from 0.1 to 3600.");
  return value;
}

function warmup(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value >= 0 && value <= 3600)) throw new InvalidArgumentError("Give seconds from 0 to 3600.");
  return value;
}

async function bench(cli: Cli, command: Command, model: string, wished: BenchOptions): Promise<void> {
  if (wished.svg !== undefined && wished.rate !== undefined && wished.concurrency !== undefined)
    throw new UsageError("--svg draws one sweep: give --concurrency or --rate with it, not both");
  const client = cli.hastyClient(command);
  const view = await client.model(model, { version: wished.version });
  const options = { ...wished, version: view.version }; // whatever an alias comes to stand for meanwhile: the figures are of one version
  const inputs = await inputsOf(cli, options, view);
  // What cannot work at all is said before anything is measured.
  await client.infer(model, inputs[0]!, { version: options.version, class: options.class });

  const interrupted = new AbortController();
  const interrupt = (): void => interrupted.abort();
  process.once("SIGINT", interrupt);
  const isJson = cli.wantsJson(command);
  const points: BenchPoint[] = [];
  try {
    if (!isJson) cli.print(`${model} version ${view.version} at ${client.url}, ${options.seconds} s a point`);
    for (const sweep of sweepsOf(options)) {
      if (!isJson) cli.print(`\n${headLine("clients" in sweep[0]! ? "clients" : "rate")}`);
      for (const load of sweep) {
        const point = await onePoint(cli, { client, model, inputs, options, load, signal: interrupted.signal });
        points.push(point);
        if (!isJson) cli.print([pointLine(point), ...remarks(point).map((remark) => `${" ".repeat(15)} ${remark}`)].join("\n"));
      }
    }
  } catch (error) {
    if (!interrupted.signal.aborted) throw error;
    cli.exitCode = exitCodes.interrupted;
  } finally {
    process.off("SIGINT", interrupt);
  }
  if (isJson) cli.printJson(reportOf(view, client.url, options, points));
  else cli.print(plotsOf(points));
  if (options.svg !== undefined && points.length > 0) await draw(options.svg, benchSvg(`${model} version ${view.version}`, points));
}

async function draw(file: string, picture: string): Promise<void> {
  try {
    await writeFile(file, picture);
  } catch (error) {
    throw new UsageError(`cannot write ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

async function inputsOf(cli: Cli, options: InputOptions, view: ModelView): Promise<Inputs[]> {
  const isGiven = options.inputs !== undefined || options.input !== undefined || options.image !== undefined;
  if (isGiven) return [await readInputs(options, view, cli)];
  return Array.from({ length: inputSets }, () => inputsFor(view, () => cli.clock.jitter()));
}

function sweepsOf({ concurrency, rate }: BenchOptions): PointLoad[][] {
  const counts = concurrency ?? (rate === undefined ? wholeSweepRange(usualSweep) : []);
  const sweeps: PointLoad[][] = [counts.map((count) => ({ clients: count })), (rate ?? []).map((perSecond) => ({ perSecond }))];
  return sweeps.filter((sweep) => sweep.length > 0);
}

interface PointWishes {
  client: Switchyard;
  model: string;
  inputs: readonly Inputs[];
  options: BenchOptions;
  load: PointLoad;
  signal: AbortSignal;
}

async function onePoint(cli: Cli, { client, model, inputs, options, load, signal }: PointWishes): Promise<BenchPoint> {
  const [warmupMs, measuredMs] = [options.warmup * 1000, options.seconds * 1000];
  const state = `${loadOf(load)} ${"clients" in load ? "clients" : "jobs/s"}`;
  const progress = showProgress({ hasTerminal: cli.hasTerminal, state, limitMs: warmupMs + measuredMs, clock: cli.clock });
  const call = { version: options.version, class: options.class, timeoutMs: options.deadline };
  try {
    const send = (number: number, stop: AbortSignal) => client.infer(model, inputs[number % inputs.length]!, { ...call, signal: stop });
    return await measurePoint({ send, load, deadlineMs: options.deadline, warmupMs, measuredMs }, cli.clock, signal);
  } finally {
    progress.stop();
  }
}

function plotsOf(points: readonly BenchPoint[]): string {
  if (points.length === 0) return "nothing was measured";
  const plots: string[] = [];
  for (const kind of ["clients", "perSecond"] as const) {
    const sweep = points.filter(({ load }) => kind in load);
    const over = kind === "clients" ? "clients" : "jobs/s offered";
    plots.push(barPlot(`jobs/s in time over ${over}`, sweep, (point) => point.inTimePerSecond));
    plots.push(barPlot(`p99 ms over ${over}`, sweep, ({ latencyMs }) => latencyMs?.p99));
  }
  return plots
    .filter((plot) => plot !== "")
    .map((plot) => `\n${plot}`)
    .join("\n");
}

function reportOf(view: ModelView, url: string, options: BenchOptions, points: readonly BenchPoint[]): object {
  return {
    model: view.model,
    version: view.version,
    url,
    seconds: options.seconds,
    warmup_seconds: options.warmup,
    ...(options.deadline !== undefined && { deadline_ms: options.deadline }),
    points: points.map((point) => ({
      ...("clients" in point.load ? { clients: point.load.clients } : { rate: point.load.perSecond }),
      jobs: point.jobs,
      answered_per_second: point.answeredPerSecond,
      in_time_per_second: point.inTimePerSecond,
      ...(point.latencyMs && { latency_ms: point.latencyMs }),
      in_time: point.counts["in time"],
      late: point.counts.late,
      expired: point.counts.expired,
      refused: point.counts.refused,
      refused_by: point.refusedBy,
      failed: point.counts.failed,
      not_sent: point.notSent,
    })),
  };
}
