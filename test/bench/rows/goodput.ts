/**
 * Goodput of a model that fills the device, with a deadline of five runs: what is admitted below capacity is answered in time, and twice the
 * capacity changes nothing for those who are admitted. Capacity is measured first, in the same run.
 */

import { measureStreams, type StreamCell, untilQuiet } from "../cell.ts";
import { admittedInTime, inTimePerSecond, type StreamFigures } from "../load/stream-tally.ts";
import { deviceModelIn } from "../systems/device-model.ts";
import { jobsSince, startedLate } from "../systems/job-views.ts";
import { quantileBetween, sumOf } from "../systems/prometheus-text.ts";
import { startSwitchyard } from "../systems/switchyard.ts";
import type { MetricsPages, SystemModel } from "../systems/system.ts";
import { budget } from "./budget.ts";
import { type Capacity, measureCapacity } from "./capacity.ts";
import { modelCache } from "./models.ts";
import type { RowContext, RowResult } from "./row.ts";
import { describeNoise, describeStream, mustBeWhole, shown } from "./shown.ts";

const deadlineRuns = 5;
const settleSeconds = 2;

interface Phase {
  cell: StreamCell;
  figures: StreamFigures;
  /** Jobs whose records were looked at, and those among them that were started too late. */
  looked: number;
  startedLate: number;
  /** The worker's own count of runs after a deadline, where it has one. */
  countedLate: number | undefined;
  /** From a request's first byte to its refusal, as the coordinator saw it. */
  refusalP99Ms: number | undefined;
}

interface Round {
  capacity: Capacity;
  deadlineMs: number;
  below: Phase;
  above: Phase;
}

async function measurePhase(
  running: Awaited<ReturnType<typeof startSwitchyard>>,
  of: { model: SystemModel; perSecond: number; timeoutMs: number; seconds: number; seed: number },
  context: RowContext,
): Promise<Phase> {
  const { model, perSecond, timeoutMs, seconds, seed } = of;
  await untilQuiet();
  const before = await running.metrics();
  const sinceMs = Date.now();
  const streams = [{ name: "jobs", model, pace: { perSecond, seed }, timeoutMs }];
  const cell = await measureStreams(running, { streams, settleSeconds, seconds }, context.load);
  const after = await running.metrics();
  const figures = cell.streams.jobs!;
  mustBeWhole("goodput", figures);
  const jobs = await jobsSince(running.url, { model: model.name, sinceMs });
  return { cell, figures, looked: jobs.length, startedLate: jobs.filter(startedLate).length, ...seenInside(before, after) };
}

function seenInside(before: MetricsPages, after: MetricsPages): Pick<Phase, "countedLate" | "refusalP99Ms"> {
  const late = sumOf(after.worker, "switchyard_runs_late_total");
  const refused = { name: "switchyard_http_request_seconds", labels: { status: "503" }, share: 0.99 };
  const seconds = quantileBetween({ before: before.door, after: after.door, ...refused });
  return {
    countedLate: late === undefined ? undefined : late - (sumOf(before.worker, "switchyard_runs_late_total") ?? 0),
    refusalP99Ms: seconds === undefined ? undefined : seconds * 1000,
  };
}

async function measureRound(context: RowContext, model: SystemModel, round: number): Promise<Round> {
  const running = await startSwitchyard(model, { threads: 1 });
  try {
    const capacity = await measureCapacity(running, { model, clients: 3 * model.maxBatchItems, seconds: context.seconds }, context);
    const timeoutMs = Math.ceil(deadlineRuns * capacity.runMs);
    const { perSecond, runMs } = capacity;
    context.say(
      `  round ${round} capacity: ${perSecond.toFixed(1)} jobs/s, a run ${runMs.toFixed(1)} ms, deadline ${timeoutMs} ms ${describeNoise(capacity.noise)}`,
    );
    const phase = async (name: string, times: number, seed: number): Promise<Phase> => {
      const found = await measurePhase(
        running,
        { model, perSecond: times * perSecond, timeoutMs, seconds: context.seconds, seed },
        context,
      );
      const { door = 0 } = found.cell.cpuPercent;
      context.say(`  round ${round} ${name}: ${describeStream(found.figures)}; door ${door} % ${describeNoise(found.cell.noise)}`);
      return found;
    };
    const below = await phase("0.9 × capacity", 0.9, 2 * round);
    return { capacity, deadlineMs: timeoutMs, below, above: await phase("2 × capacity", 2, 2 * round + 1) };
  } finally {
    await running.stop();
  }
}

export async function goodputRow(context: RowContext): Promise<RowResult> {
  const model = await deviceModelIn(modelCache);
  await context.load.prepare(model, 13);
  const rounds: Round[] = [];
  for (let round = 1; round <= context.rounds; round++) rounds.push(await measureRound(context, model, round));
  const over = (which: "below" | "above", value: (phase: Phase, round: Round) => number | undefined) =>
    rounds.map((round) => ({
      value: value(round[which], round),
      isQuiet: !(round[which].cell.noise.isNoisy || round.capacity.noise.isNoisy),
    }));
  const line = (title: string, which: "below" | "above"): string[] => {
    const column = (value: (phase: Phase, round: Round) => number | undefined, digits: number) =>
      shown(
        over(which, value).map((each) => each.value),
        digits,
      );
    return [
      title,
      column(({ figures }) => figures.jobs / figures.seconds, 0),
      column(({ figures }) => inTimePerSecond(figures), 0),
      column(({ figures }) => admittedInTime(figures), 2),
      column(({ figures }) => (100 * figures.counts.refused) / figures.jobs, 1),
      column(({ figures }) => figures.latencyMs?.p99, 0),
      column(({ refusalP99Ms }) => refusalP99Ms, 1),
      column(({ figures }) => figures.refusalMs?.p99, 1),
      column(({ cell }) => cell.cpuPercent.door, 0),
      column(({ figures }) => figures.sentLateMs?.p99, 1),
    ];
  };
  const capacities = rounds.map(({ capacity }) => capacity);
  return {
    title: `goodput of a model whose run takes ${shown(
      capacities.map(({ runMs }) => runMs),
      1,
    )} ms; capacity ${shown(
      capacities.map(({ perSecond }) => perSecond),
      0,
    )} jobs/s, deadline ${deadlineRuns} runs`,
    table: {
      titles: [
        "",
        "offered/s",
        "in time/s",
        "% of admitted in time",
        "refused %",
        "p99 ms",
        "refusal p99 ms: door",
        "client",
        "door %",
        "sent late p99 ms",
      ],
      lines: [line("0.9 × capacity", "below"), line("2 × capacity", "above")],
    },
    details: rounds,
    budgets: [
      budget({
        text: "0.9 × capacity: % of admitted jobs in time ≥ 99.9",
        rounds: over("below", ({ figures }) => admittedInTime(figures)),
        limit: 99.9,
        better: "higher",
      }),
      budget({
        text: "2 × capacity: jobs/s in time ≥ 95 % of capacity",
        rounds: over("above", ({ figures }, { capacity }) => inTimePerSecond(figures) / capacity.perSecond),
        limit: 0.95,
        better: "higher",
      }),
      budget({
        text: `2 × capacity: runs started after their deadline = 0 (of ${shown(
          rounds.map(({ above }) => above.looked),
          0,
        )} jobs looked at)`,
        rounds: over("above", (phase) => Math.max(phase.startedLate, phase.countedLate ?? 0)),
        limit: 0,
        better: "lower",
        digits: 0,
      }),
      budget({
        text: "2 × capacity: refusal p99 ≤ 5 ms at the door",
        rounds: over("above", ({ refusalP99Ms }) => refusalP99Ms),
        limit: 5,
        better: "lower",
      }),
      budget({
        text: "2 × capacity: the door's share of a core ≤ 30 %",
        rounds: over("above", ({ cell }) => cell.cpuPercent.door),
        limit: 30,
        better: "lower",
        digits: 0,
      }),
    ],
  };
}
