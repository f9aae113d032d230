/** What a part of the conformance run came to, and the table of all. */

export interface Outcome {
  part: string;
  what: string;
  passed: number;
  failed: number;
  skipped: number;
  /** What failed, or why it was skipped; a line each. */
  why: string[];
}

/** A whole part that could not be had. */
export function skippedPart(part: string, what: string, why: string): Outcome {
  return { part, what, passed: 0, failed: 0, skipped: 1, why: [why] };
}

/** Counts what is checked one by one. */
export class Tally {
  readonly outcome: Outcome;

  constructor(part: string, what: string) {
    this.outcome = { part, what, passed: 0, failed: 0, skipped: 0, why: [] };
  }

  /** Never throws: what `check` throws is a failure of that name. */
  async check(name: string, check: () => Promise<void> | void): Promise<void> {
    try {
      await check();
      this.outcome.passed++;
    } catch (error) {
      this.outcome.failed++;
      this.outcome.why.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  skip(why: string): void {
    this.outcome.skipped++;
    this.outcome.why.push(`SKIPPED: ${why}`);
  }
}

export function tableOf(outcomes: readonly Outcome[]): string {
  const head = ["part", "what", "pass", "fail", "skip"];
  const sum = (of: (outcome: Outcome) => number): string => String(outcomes.reduce((total, outcome) => total + of(outcome), 0));
  const rows = outcomes.map(({ part, what, passed, failed, skipped }) => [part, what, String(passed), String(failed), String(skipped)]);
  const all = [head, ...rows, ["all", "", sum(({ passed }) => passed), sum(({ failed }) => failed), sum(({ skipped }) => skipped)]];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  const line = (row: readonly string[]): string =>
    row.map((cell, column) => (column < 2 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))).join("  ");
  return all.map(line).join("\n");
}
