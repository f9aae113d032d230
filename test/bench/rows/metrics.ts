/**
 * What metrics cost a job: the same load with them, their pages read all the while, and with metrics that do nothing, in turns; then the calls that one job
 * makes, alone, which a loaded machine blurs less.
 */

import { prometheusMetrics } from "../../../coordinator/src/adapters/prometheus-metrics.ts";
import { HostMetrics } from "../../../worker/src/host-metrics.ts";
import { type Cell, measureOnce, round, untilQuiet } from "../cell.ts";
import { startSwitchyard, switchyard } from "../systems/switchyard.ts";
import type { System } from "../systems/system.ts";
import { budget } from "./budget.ts";
import { mlp } from "./models.ts";
import type { RowContext, RowResult } from "./row.ts";
import { shown } from "./shown.ts";

const fewestJobs = 200_000;
const mostRounds = 25;
const readEveryMs = 1_000;
const limitUs = 4;

/** Switchyard whose pages somebody reads. */
function read(threads: number): System {
  return {
    ...switchyard({ threads }),
    async start(model) {
      const running = await startSwitchyard(model, { threads });
      const timer = setInterval(() => void running.metrics().catch(() => {}), readEveryMs);
      return {
        ...running,
        async stop() {
          clearInterval(timer);
          await running.stop();
        },
      };
    },
  };
}

const cpuUs = ({ cpuUsPerJob }: Cell): number => cpuUsPerJob.door! + cpuUsPerJob.worker!;

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

export async function metricsRow(context: RowContext): Promise<RowResult> {
  const { clients, warmSeconds, seconds, load } = context;
  const model = mlp();
  await load.prepare(model, 61);
  const systems = [read(1), switchyard({ threads: 1, withoutMetrics: true })];
  const plan = { model, clients, warmClients: clients, warmSeconds, seconds, verifyEvery: 16 };
  const cells: Record<string, Cell[]> = { s: [], n: [] };
  const jobsOf = (id: string): number => cells[id]!.reduce((sum, { figures }) => sum + figures.jobs, 0);
  const fewest = context.isQuick ? 0 : fewestJobs;
  const enough = (): boolean => cells.s!.length >= context.rounds && Math.min(jobsOf("s"), jobsOf("n")) >= fewest;
  for (let turn = 0; !enough() && turn < mostRounds; turn++) {
    for (const system of turn % 2 === 0 ? systems : systems.toReversed()) {
      await untilQuiet();
      const cell = await measureOnce(system, plan, load);
      cells[system.id]!.push(cell);
      const { figures, noise } = cell;
      context.say(
        `  round ${turn + 1} ${system.title}: ${round(cpuUs(cell), 1)} µs of CPU a job, ${figures.jobs} jobs${noise.isNoisy ? " NOISY" : ""}`,
      );
    }
  }
  const differences = cells.s!.map((cell, at) => ({
    value: cpuUs(cell) - cpuUs(cells.n![at]!),
    isQuiet: !cell.noise.isNoisy && !cells.n![at]!.noise.isNoisy,
  }));
  const alone = Array.from({ length: 5 }, () => callsAloneUs(fewestJobs));
  const both = alone.map(({ coordinator, worker }) => ({ value: coordinator + worker, isQuiet: true }));
  const us = (values: readonly number[]): string => shown(values, 2);
  return {
    title: `what metrics cost a job: tiny MLP with ${clients} clients, ${jobsOf("s")} jobs with metrics, ${jobsOf("n")} without`,
    titles: { n: "Switchyard without metrics" },
    table: {
      titles: ["", "coordinator µs", "worker µs", "both µs"],
      lines: [
        ...[
          ["with metrics", "s"],
          ["without", "n"],
        ].map(([title, id]) => [
          title!,
          us(cells[id!]!.map(({ cpuUsPerJob }) => cpuUsPerJob.door!)),
          us(cells[id!]!.map(({ cpuUsPerJob }) => cpuUsPerJob.worker!)),
          us(cells[id!]!.map(cpuUs)),
        ]),
        [
          "their calls alone",
          us(alone.map(({ coordinator }) => coordinator)),
          us(alone.map(({ worker }) => worker)),
          us(both.map(({ value }) => value)),
        ],
      ],
    },
    details: [{ cells, alone }],
    budgets: [
      budget({ text: `metrics ≤ ${limitUs} µs of CPU a job, by the difference`, rounds: differences, limit: limitUs, better: "lower" }),
      budget({ text: `metrics ≤ ${limitUs} µs of CPU a job, by their calls alone`, rounds: both, limit: limitUs, better: "lower" }),
    ],
  };
}
