/** What a row of the published table is: what it is given, and what it answers. */

import type { Cell } from "../cell.ts";
import type { LoadProcess } from "../load/load.ts";
import type { LoopCell } from "../systems/bare-loop.ts";
import type { System } from "../systems/system.ts";
import type { Budget } from "./budget.ts";

export interface RowContext {
  systems: { a: System; b: System; s: System };
  load: LoadProcess;
  rounds: number;
  seconds: number;
  warmSeconds: number;
  clients: number;
  /** Threads within an operator for the heavy model, on both sides. */
  threads: number;
  /** Only to see that everything runs: less of what takes long. */
  isQuick: boolean;
  say: (line: string) => void;
}

/** Lines of cells under titles, as they are printed. */
export interface FigureTable {
  titles: string[];
  lines: string[][];
}

export interface RowResult {
  title: string;
  /** Of systems that only this row has, by id. */
  titles?: Record<string, string>;
  /** Cells by system, one per round, of rows that compare systems. */
  cells?: Record<string, Cell[]>;
  loops?: LoopCell[][];
  /** Of rows that measure Switchyard alone. */
  table?: FigureTable;
  /** Whatever else was measured, by round; goes to the JSON file only. */
  details?: unknown[];
  budgets: Budget[];
}

export type Row = (context: RowContext) => Promise<RowResult>;
