/**
 * What metrics cost a job: one system whose metrics are switched off and on again from second to second under the same load, with their pages read while
 * they are on; for a machine's speed changes from one half minute to the next by more than is sought, and so do two processes of one kind. Turns in which
 * nothing was switched tell how exact that is. Then the calls that one job makes, alone.
 */

import { prometheusMetrics } from "../../../coordinator/src/adapters/prometheus-metrics.ts";
import { HostMetrics } from "../../../worker/src/host-metrics.ts";
import { type Cell, measureClients, round, sleep, untilQuiet } from "../cell.ts";
import { type RunningSwitchyard, startSwitchyard } from "../systems/switchyard.ts";
import { budget, type RoundValue } from "./budget.ts";
import { mlp } from "./models.ts";
import type { RowContext, RowResult } from "./row.ts";
import { shown } from "./shown.ts";

const fewestJobs = 200_000;
const mostTurns = 60;
const turnSeconds = 1;
const warmSeconds = 0.3;
const readEveryMs = 1_000;
const limitUs = 4;

type Turn = Pick<Cell, "cpuUsPerJob" | "figures" | "noise">;
/** By what was on; `again` is without metrics too. */
type Turns = Record<"on" | "off" | "again", Turn[]>;

const jobsOf = (turns: readonly Turn[]): number => turns.reduce((sum, { figures }) => sum + figures.jobs, 0);

/** Microseconds of CPU a job over all turns, of the processes with these roles. */
function cpuUs(turns: readonly Turn[], roles: readonly string[] = ["door", "worker"]): number {
  const spent = turns.reduce((sum, { cpuUsPerJob, figures }) => {
    return sum + figures.jobs * roles.reduce((us, role) => us + cpuUsPerJob[role]!, 0);
  }, 0);
  return spent / jobsOf(turns);
}

/** Microseconds of CPU, user and system, for what one job in a batch of eight is counted as, without whatever is around it. */
function callsAloneUs(jobs: number): { coordinator: number; worker: number } {
  const coordinator = prometheusMetrics({ version: "1", processMetrics: false });
  const worker = new HostMetrics({ version: "1", host: "one", processMetrics: false });
  coordinator.modelKnown("mlp");
  const batch = {
    kind: "ran",
    tag: "mlp",
    jobs: 8,
    items: 8,
    runMs: 0.2,
    startedLate: 0,
    overheadMs: 1,
    outcomes: { succeeded: 8 },
  } as const;
  const ms = (at: number): number[] => Array.from({ length: 8 }, (_, job) => 1 + ((at + job) % 20));
  const version = { model: "mlp" } as Parameters<HostMetrics["ran"]>[0];
  const timed = (call: (at: number) => void, times: number): number => {
    const before = process.cpuUsage();
    for (let at = 0; at < times; at++) call(at);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / jobs;
  };
  const oneJob = (at: number): void => {
    const seconds = 0.001 + (at % 50) / 1_000;
    coordinator.admitted("mlp", "standard");
    coordinator.finished("mlp", "standard", "succeeded", {
      ...{ e2eSeconds: seconds, queueSeconds: seconds / 2, missed: false, tenant: "default", deviceSeconds: 0.000_025 },
    });
    coordinator.httpAnswered("/v2/models/:model/infer", "POST", 200, seconds);
  };
  const oneBatch = (at: number): void => worker.ran(version, { ...batch, queueMs: ms(at), slackMs: ms(at) });
  timed(oneJob, 20_000); // compiled by then
  timed(oneBatch, 20_000);
  return { coordinator: timed(oneJob, jobs), worker: timed(oneBatch, jobs / 8) };
}

/** What metrics cost in each turn, by those beside it. */
function turnByTurn({ on, off, again }: Turns): number[] {
  const whole = Math.min(on.length, off.length, again.length);
  return Array.from({ length: whole }, (_, at) => cpuUs([on[at]!]) - (cpuUs([off[at]!]) + cpuUs([again[at]!])) / 2);
}

function meanOf(values: readonly number[]): string {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, values.length - 1);
  return `${mean.toFixed(2)} ± ${Math.sqrt(variance / values.length).toFixed(2)}`;
}

/** The three kinds of turns, in an order that changes from time to time, until each has `fewest` jobs. */
async function inTurns(running: RunningSwitchyard, fewest: number, context: RowContext): Promise<Turns> {
  const { clients, load } = context;
  const plan = { model: mlp(), clients, warmClients: clients, verifyEvery: 16 };
  let isOn = true;
  const switchTo = async (wish: boolean): Promise<void> => {
    if (wish === isOn) return;
    isOn = wish;
    for (const role of ["door", "worker"]) process.kill(running.roles[role]!, "SIGUSR2");
    await sleep(0.05);
  };
  const timer = setInterval(() => isOn && void running.metrics().catch(() => {}), readEveryMs);
  try {
    const turns: Turns = { on: [], off: [], again: [] };
    const kinds = Object.keys(turns) as (keyof Turns)[];
    const take = async (kind: keyof Turns, warm = warmSeconds): Promise<Turn> => {
      await switchTo(kind === "on");
      return measureClients(running, { ...plan, warmSeconds: warm, seconds: turnSeconds }, load);
    };
    for (const kind of [...kinds, ...kinds]) await take(kind, context.warmSeconds / 2);
    const isEnough = (): boolean => kinds.every((kind) => turns[kind].length > 0 && jobsOf(turns[kind]) >= fewest);
    for (let count = 0; count < mostTurns && !isEnough(); count++) {
      const first = count % kinds.length;
      const order = [...kinds.slice(first), ...kinds.slice(0, first)];
      for (const kind of count % 2 === 0 ? order : order.toReversed()) turns[kind].push(await take(kind));
    }
    return turns;
  } finally {
    clearInterval(timer);
  }
}

export async function metricsRow(context: RowContext): Promise<RowResult> {
  await context.load.prepare(mlp(), 61);
  const fewest = context.isQuick ? 1 : fewestJobs / context.rounds;
  const rounds: Turns[] = [];
  for (let count = 0; count < context.rounds; count++) {
    await untilQuiet();
    const running = await startSwitchyard(mlp(), { threads: 1, switchesMetrics: true });
    const turns = await inTurns(running, fewest, context).finally(() => running.stop());
    rounds.push(turns);
    const told = Object.entries(turns).map(([kind, of]) => `${kind} ${round(cpuUs(of), 1)} (${jobsOf(of)} jobs)`);
    context.say(`  round ${count + 1}, µs of CPU a job: ${told.join(", ")}`);
  }
  const compared = (value: (turns: Turns) => number): RoundValue[] =>
    rounds.map((turns) => ({
      value: value(turns),
      isQuiet: turns.on.filter(({ noise }) => noise.isNoisy).length <= turns.on.length / 2,
    }));
  const cost = compared(({ on, off, again }) => cpuUs(on) - cpuUs([...off, ...again]));
  const control = compared(({ off, again }) => cpuUs(again) - cpuUs(off));
  const alone = Array.from({ length: 5 }, () => callsAloneUs(fewestJobs));
  const both = alone.map(({ coordinator, worker }) => ({ value: coordinator + worker, isQuiet: true }));
  const us = (values: readonly number[]): string => shown(values, 2);
  const line = (title: string, kind: keyof Turns): string[] => [
    title,
    ...[["door"], ["worker"], ["door", "worker"]].map((roles) => us(rounds.map((turns) => cpuUs(turns[kind], roles)))),
  ];
  const jobs = (kind: keyof Turns): number => rounds.reduce((sum, turns) => sum + jobsOf(turns[kind]), 0);
  return {
    title: `what metrics cost a job: tiny MLP with ${context.clients} clients, ${jobs("on")} jobs with metrics, ${jobs("off") + jobs("again")} without`,
    table: {
      titles: ["", "coordinator µs", "worker µs", "both µs"],
      lines: [
        line("with metrics", "on"),
        line("without", "off"),
        line("without, again", "again"),
        ["with, less without", "", "", us(cost.map(({ value }) => value))],
        ["the same, turn by turn: mean ± standard error", "", "", meanOf(rounds.flatMap(turnByTurn))],
        ["without again, less without", "", "", us(control.map(({ value }) => value))],
        [
          "their calls alone",
          us(alone.map(({ coordinator }) => coordinator)),
          us(alone.map(({ worker }) => worker)),
          us(both.map(({ value }) => value)),
        ],
      ],
    },
    details: [{ rounds, alone }],
    budgets: [
      budget({ text: `metrics ≤ ${limitUs} µs of CPU a job, by the difference`, rounds: cost, limit: limitUs, better: "lower" }),
      budget({ text: `metrics ≤ ${limitUs} µs of CPU a job, by their calls alone`, rounds: both, limit: limitUs, better: "lower" }),
    ],
  };
}
