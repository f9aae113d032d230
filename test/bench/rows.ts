/** The rows of the published table: what is measured against what, and which ratio is promised. */

import { mkdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { type BenchModel, generateBenchModels } from "../../scripts/generate-bench-models.ts";
import { type Cell, type CellPlan, measureCell, quietest } from "./cell.ts";
import type { LoadProcess } from "./load/load.ts";
import { type Spread, spreadOf } from "./statistics.ts";
import { type LoopCell, measureLoop } from "./systems/bare-loop.ts";
import type { System, SystemModel } from "./systems/system.ts";

export const rowNames = ["mlp", "latency", "resnet"] as const;
export type RowName = (typeof rowNames)[number];

export interface RoundRatio {
  ratio: number;
  isQuiet: boolean;
}

export interface Budget {
  text: string;
  against: string;
  rounds: RoundRatio[];
  /** Of the rounds in which both sides were measured on a quiet machine; of all rounds when there was none. */
  ratio: Spread;
  quietRounds: number;
  limit: number;
  better: "higher" | "lower";
  isMet: boolean;
}

export interface RowResult {
  row: RowName;
  title: string;
  /** Cells by system, one per round. */
  cells: Record<string, Cell[]>;
  loops?: LoopCell[][];
  budgets: Budget[];
}

export interface RowContext {
  systems: { a: System; b: System; s: System };
  load: LoadProcess;
  rounds: number;
  seconds: number;
  warmSeconds: number;
  clients: number;
  /** Threads within an operator for the heavy model, on both sides. */
  threads: number;
  say: (line: string) => void;
}

const cache = fileURLToPath(new URL("../../.cache/bench-models", import.meta.url));

/** A repository of its own for each model, so that a host loads nothing else. */
export function benchModel(which: BenchModel, itemShape: readonly number[]): SystemModel {
  const repository = path.join(cache, which);
  mkdirSync(repository, { recursive: true });
  const [made] = generateBenchModels({ folder: repository, seed: 1, which: [which] });
  return { name: which, repository, path: made!.path, maxBatchItems: made!.maxBatchItems, itemShape };
}

export const mlp = (): SystemModel => benchModel("mlp", [784]);
export const resnet = (): SystemModel => benchModel("resnet50", [3, 224, 224]);

function budget(of: Omit<Budget, "ratio" | "quietRounds" | "isMet">): Budget {
  const quiet = of.rounds.filter(({ isQuiet }) => isQuiet);
  const ratio = spreadOf((quiet.length > 0 ? quiet : of.rounds).map((round) => round.ratio));
  return { ...of, ratio, quietRounds: quiet.length, isMet: of.better === "higher" ? ratio.median >= of.limit : ratio.median <= of.limit };
}

interface Measured {
  value: number;
  isQuiet: boolean;
}

const measured = (cells: readonly Cell[] | undefined, value: (cell: Cell) => number): Measured[] =>
  (cells ?? []).map((cell) => ({ value: value(cell), isQuiet: !cell.noise.isNoisy }));
const rates = (cells: readonly Cell[] | undefined): Measured[] => measured(cells, (cell) => cell.figures.jobsPerSecond);
const medians = (cells: readonly Cell[] | undefined): Measured[] => measured(cells, (cell) => cell.figures.latencyMs.p50);

function ratios(of: readonly Measured[], by: readonly Measured[]): RoundRatio[] {
  return of.map(({ value, isQuiet }, round) => ({ ratio: value / by[round]!.value, isQuiet: isQuiet && by[round]!.isQuiet }));
}

/** Systems take turns within a round, and who goes first changes from round to round. */
async function inTurns(systems: readonly System[], plan: CellPlan, context: RowContext): Promise<Record<string, Cell[]>> {
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

async function mlpRow(context: RowContext): Promise<RowResult> {
  const { a, b, s } = context.systems;
  const { clients, warmSeconds, seconds } = context;
  await context.load.prepare(mlp(), 61);
  const plan = { model: mlp(), clients, warmClients: clients, warmSeconds, seconds, verifyEvery: 16 };
  const cells = await inTurns([a, b, s], plan, context);
  const own = rates(cells[s.id]);
  return {
    row: "mlp",
    title: `tiny MLP, binary, ${clients} clients`,
    cells,
    budgets: [
      budget({ text: "jobs/s ≥ 2.5 × b", against: b.id, rounds: ratios(own, rates(cells[b.id])), limit: 2.5, better: "higher" }),
      budget({ text: "jobs/s ≥ 0.5 × a", against: a.id, rounds: ratios(own, rates(cells[a.id])), limit: 0.5, better: "higher" }),
    ],
  };
}

async function latencyRow(context: RowContext): Promise<RowResult> {
  const { a, b, s } = context.systems;
  const { clients: warmClients, warmSeconds, seconds } = context;
  await context.load.prepare(mlp(), 61);
  const cells = await inTurns([a, b, s], { model: mlp(), clients: 1, warmClients, warmSeconds, seconds, verifyEvery: 16 }, context);
  return {
    row: "latency",
    title: "latency of the tiny MLP at 1 client",
    cells,
    budgets: [
      budget({
        text: "p50 ≤ 1.0 × b",
        against: b.id,
        rounds: ratios(medians(cells[s.id]), medians(cells[b.id])),
        limit: 1,
        better: "lower",
      }),
    ],
  };
}

/** A device-bound model: the loop's best batch size is the ceiling. Runs are long, so the row measures longer. */
async function resnetRow(context: RowContext): Promise<RowResult> {
  const { s } = context.systems;
  const model = resnet();
  const seconds = context.seconds * 3;
  const clients = 3 * model.maxBatchItems;
  await context.load.prepare(model, 5);
  const plan = { model, clients, warmClients: clients, warmSeconds: context.warmSeconds * 2, seconds, verifyEvery: 1 };
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
    row: "resnet",
    title: `ResNet-50 class model, ${clients} clients, ${context.threads} threads`,
    cells,
    loops,
    budgets: [
      budget({ text: "jobs/s ≥ 97 % of c", against: "c", rounds: ratios(rates(cells[s.id]), ceiling), limit: 0.97, better: "higher" }),
    ],
  };
}

export const rows: Record<RowName, (context: RowContext) => Promise<RowResult>> = { mlp: mlpRow, latency: latencyRow, resnet: resnetRow };
