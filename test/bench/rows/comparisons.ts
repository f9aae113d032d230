/** Rows that set Switchyard against other systems in turns, and promise a ratio. */

import { type Cell, type CellPlan, measureCell, quietest } from "../cell.ts";
import { type LoopCell, measureLoop } from "../systems/bare-loop.ts";
import { providers } from "../systems/direct-session.ts";
import { switchyard } from "../systems/switchyard.ts";
import type { System } from "../systems/system.ts";
import { budget, type RoundValue, ratios } from "./budget.ts";
import { average, mlp, resnet } from "./models.ts";
import type { RowContext, RowResult } from "./row.ts";

const measured = (cells: readonly Cell[] | undefined, value: (cell: Cell) => number): RoundValue[] =>
  (cells ?? []).map((cell) => ({ value: value(cell), isQuiet: !cell.noise.isNoisy }));
export const rates = (cells: readonly Cell[] | undefined): RoundValue[] => measured(cells, (cell) => cell.figures.jobsPerSecond);
const medians = (cells: readonly Cell[] | undefined): RoundValue[] => measured(cells, (cell) => cell.figures.latencyMs.p50);

/** Systems take turns within a round, and who goes first changes from round to round. */
export async function inTurns(systems: readonly System[], plan: CellPlan, context: RowContext): Promise<Record<string, Cell[]>> {
  const cells: Record<string, Cell[]> = {};
  for (let round = 0; round < context.rounds; round++) {
    for (let turn = 0; turn < systems.length; turn++) {
      const system = systems[(round + turn) % systems.length]!;
      const cell = await measureCell(system, plan, context.load);
      cells[system.id] ??= [];
      cells[system.id]!.push(cell);
      context.say(describeCell(round + 1, system, cell));
    }
  }
  return cells;
}

function describeCell(round: number, system: System, { figures, noise, attempts, meanBatch }: Cell): string {
  const { p50, p99 } = figures.latencyMs;
  const batch = meanBatch === undefined ? "" : `, ${meanBatch} jobs a run`;
  const mark = noise.isNoisy ? " NOISY" : "";
  const quiet = `strangers ${noise.strangersPercent} %, steal ${noise.stealPercent} %${attempts > 1 ? `, attempt ${attempts}` : ""}${mark}`;
  return `  round ${round} ${system.id}: ${figures.jobsPerSecond.toFixed(1)} jobs/s, p50 ${p50.toFixed(2)} p99 ${p99.toFixed(2)} ms${batch} (${quiet})`;
}

export async function mlpRow(context: RowContext): Promise<RowResult> {
  const { a, b, s } = context.systems;
  const { clients, warmSeconds, seconds } = context;
  await context.load.prepare(mlp(), 61);
  const plan = { model: mlp(), clients, warmClients: clients, warmSeconds, seconds, verifyEvery: 16 };
  const cells = await inTurns([a, b, s], plan, context);
  const own = rates(cells[s.id]);
  return {
    title: `tiny MLP, binary, ${clients} clients`,
    cells,
    budgets: [
      budget({ text: "jobs/s ≥ 2.5 × b", rounds: ratios(own, rates(cells[b.id])), limit: 2.5, better: "higher" }),
      budget({ text: "jobs/s ≥ 0.5 × a", rounds: ratios(own, rates(cells[a.id])), limit: 0.5, better: "higher" }),
    ],
  };
}

export async function latencyRow(context: RowContext): Promise<RowResult> {
  const { a, b, s } = context.systems;
  const { clients: warmClients, warmSeconds, seconds } = context;
  await context.load.prepare(mlp(), 61);
  const cells = await inTurns([a, b, s], { model: mlp(), clients: 1, warmClients, warmSeconds, seconds, verifyEvery: 16 }, context);
  return {
    title: "latency of the tiny MLP at 1 client",
    cells,
    budgets: [
      budget({
        text: "p50 ≤ 1.0 × b",
        rounds: ratios(medians(cells[s.id]), medians(cells[b.id])),
        limit: 1,
        better: "lower",
      }),
    ],
  };
}

/** A light model whose inputs are large: as files, where the host shares a disk with the coordinator, and through Redis, where it does not. */
export async function inputsRow(context: RowContext): Promise<RowResult> {
  const model = average();
  const clients = 3 * model.maxBatchItems;
  const { warmSeconds, seconds } = context;
  await context.load.prepare(model, 13);
  const shared = switchyard({ threads: 1 });
  const apart = { ...switchyard({ threads: 1, isApart: true }), id: "r", title: "Switchyard, the host elsewhere" };
  const plan = { model, clients, warmClients: clients, warmSeconds, seconds, verifyEvery: 16 };
  const cells = await inTurns([shared, apart], plan, context);
  return {
    title: `inputs of 256 KiB, a model of little work, ${clients} clients`,
    titles: { [apart.id]: apart.title },
    cells,
    budgets: [
      budget({
        text: "jobs/s as files ≥ 1.3 × through Redis",
        rounds: ratios(rates(cells[shared.id]), rates(cells[apart.id])),
        limit: 1.3,
        better: "higher",
      }),
    ],
  };
}

const deviceMs = 5;
/** Both sides find a GPU that takes so long for each run, whatever its size, and leaves the processor to others meanwhile. */
const waitingDevice = {
  NODE_OPTIONS: `--import ${new URL("../../support/pretend-cuda.ts", import.meta.url).href}`,
  SWITCHYARD_PROVIDERS: "cuda",
  SWITCHYARD_TEST_CUDA_RUN_MS: String(deviceMs),
};

/** How busy a device that is not the processor is kept: what lies between two runs is lost to it. */
export async function deviceRow(context: RowContext): Promise<RowResult> {
  const model = average();
  const clients = 4 * model.maxBatchItems;
  const { warmSeconds, seconds } = context;
  await context.load.prepare(model, 13);
  const s = switchyard({ threads: 1, env: waitingDevice });
  const plan = { model, clients, warmClients: clients, warmSeconds, seconds, verifyEvery: 16 };
  const cells: Record<string, Cell[]> = { [s.id]: [] };
  const loops: LoopCell[][] = [];
  for (let round = 0; round < context.rounds; round++) {
    const loopPlan = { items: model.maxBatchItems, threads: 1, warmSeconds, seconds, env: waitingDevice };
    const loop = await quietest(() => measureLoop(model, loopPlan));
    loops.push([loop]);
    context.say(`  round ${round + 1} c: ${loop.jobsPerSecond.toFixed(1)} jobs/s at batch ${loop.items}`);
    const cell = await measureCell(s, plan, context.load);
    cells[s.id]!.push(cell);
    context.say(describeCell(round + 1, s, cell));
  }
  const ceiling = loops.map(([loop]) => ({ value: loop!.jobsPerSecond, isQuiet: !loop!.noise.isNoisy }));
  return {
    title: `a device beside the processor, ${deviceMs} ms a run, 256 KiB of input, ${clients} clients`,
    cells,
    loops,
    budgets: [budget({ text: "jobs/s ≥ 85 % of c", rounds: ratios(rates(cells[s.id]), ceiling), limit: 0.85, better: "higher" })],
  };
}

/** V8 optimises what was called some thousand times; a coordinator of this row is called forty times a second. */
const steadyAfterSeconds = 30;

/** A device-bound model: the loop's best batch size is the ceiling. Runs are long, so the row measures longer. */
export async function resnetRow(context: RowContext): Promise<RowResult> {
  const { s } = context.systems;
  const model = resnet();
  const seconds = context.seconds * 3;
  const clients = 3 * model.maxBatchItems;
  await context.load.prepare(model, 5);
  const plan = {
    model,
    clients,
    warmClients: clients,
    warmSeconds: context.isQuick ? context.warmSeconds : steadyAfterSeconds,
    seconds,
    verifyEvery: 1,
  };
  const cells: Record<string, Cell[]> = { [s.id]: [] };
  const loops: LoopCell[][] = [];
  for (let round = 0; round < context.rounds; round++) {
    const loop: LoopCell[] = [];
    for (const items of [1, model.maxBatchItems]) {
      const cell = await quietest(() => measureLoop(model, { items, threads: context.threads, warmSeconds: context.warmSeconds, seconds }));
      loop.push(cell);
      context.say(
        `  round ${round + 1} c: ${cell.jobsPerSecond.toFixed(2)} jobs/s at batch ${items} (strangers ${cell.noise.strangersPercent} %)`,
      );
    }
    loops.push(loop);
    const cell = await measureCell(s, plan, context.load);
    cells[s.id]!.push(cell);
    context.say(describeCell(round + 1, s, cell));
  }
  const ceiling = loops.map((round) => {
    const best = round.toSorted((left, right) => right.jobsPerSecond - left.jobsPerSecond)[0]!;
    return { value: best.jobsPerSecond, isQuiet: round.every((cell) => !cell.noise.isNoisy) };
  });
  return {
    title: `ResNet-50 class model, ${clients} clients, ${providers[0] === "cpu" ? `${context.threads} threads` : providers.join(", ")}`,
    cells,
    loops,
    budgets: [budget({ text: "jobs/s ≥ 97 % of c", rounds: ratios(rates(cells[s.id]), ceiling), limit: 0.97, better: "higher" })],
  };
}
