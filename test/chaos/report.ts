/** The outcome of recipes as text: what was broken, what the checker counted, what took how long, and how to run it again. */

import { quantile } from "../bench/fairness.ts";
import { forbidden } from "./checker.ts";
import type { LedgerEvent } from "./ledger.ts";
import { type Check, type Course, isGood, isMet, type Recipe, type RecipeContext } from "./recipe.ts";

export interface Result {
  recipe: Recipe;
  context: Pick<RecipeContext, "seed" | "tier">;
  course: Course | undefined;
  /** Why there is no course. */
  failure?: string;
  seconds: number;
}

const shares = [0.5, 0.95, 0.99, 0.999];
const mostShown = 8;

export const passed = ({ course }: Result): boolean => course !== undefined && isGood(course);

export const replayCommand = ({ recipe, context }: Result): string =>
  `npm run chaos -- --tier ${context.tier} --recipe ${recipe.id} --seed ${context.seed}`;

/** Milliseconds by share of jobs. */
export function latencies(events: readonly LedgerEvent[]): Record<"answer" | "wait" | "whole", (number | undefined)[]> {
  const answer: number[] = [];
  const wait: number[] = [];
  const whole: number[] = [];
  const seen = new Set<string>();
  const bare = new Set<string>();
  for (const event of events) {
    if (event.kind === "called") bare.add(event.key);
    if (event.kind === "answered" || (event.kind === "ack" && !bare.has(event.key))) answer.push(event.tookMs);
    if (event.kind !== "outcome" || seen.has(event.id)) continue;
    seen.add(event.id);
    const { createdMs, startedMs, finishedMs, state } = event.outcome;
    if (startedMs !== undefined) wait.push(startedMs - createdMs);
    if (state === "succeeded") whole.push(finishedMs - createdMs);
  }
  const of = (values: number[]): (number | undefined)[] => shares.map((share) => quantile(values, share));
  return { answer: of(answer), wait: of(wait), whole: of(whole) };
}

/** How often by code; what was told to come back included. */
function refusals(events: readonly LedgerEvent[]): Record<string, number> {
  const found: Record<string, number> = {};
  for (const event of events) if (event.kind === "refused" || event.kind === "delayed") found[event.code] = (found[event.code] ?? 0) + 1;
  return found;
}

function checkLine(check: Check): string {
  const { what, value, limit, better, unit = "" } = check;
  const shown = Number.isInteger(value) ? String(value) : value.toFixed(3);
  return `  ${isMet(check) ? "ok  " : "MISS"} ${what}: ${shown} ${unit} (${better === "lower" ? "at most" : "at least"} ${limit})`;
}

export function resultText(result: Result): string {
  const { course, failure, recipe, seconds } = result;
  const head = `${passed(result) ? "ok  " : "FAIL"} ${recipe.id} ${recipe.title} (${seconds.toFixed(0)} s)`;
  if (course === undefined) return `${head}\n  ${failure}\n  again: ${replayCommand(result)}`;
  const { counts, violations } = course.verdict;
  const lines = [head];
  lines.push(
    `  ${counts.submitted} submitted, ${counts.acknowledged} acknowledged, ${counts.refused} refused; ${counts.unknown} tries without an answer, ` +
      `${counts.delayed} told to come back, ${counts.recovered} recovered; ${counts.called} calls without a key, ${counts.answered} answered`,
    `  ${counts.succeeded} succeeded, ${counts.expired} expired, ${counts.failed} failed, ${counts.cancelled} cancelled; ` +
      `${counts.runs} runs, ${counts.ranAgain} jobs ran again; ${counts.faults} faults`,
    `  ${forbidden.map((term) => `${term} ${violations[term].length}`).join(", ")}`,
  );
  const codes = Object.entries(refusals(course.ledger.events)).map(([code, times]) => `${code} ${times}`);
  if (codes.length > 0) lines.push(`  refused: ${codes.join(", ")}`);
  for (const [name, values] of Object.entries(latencies(course.ledger.events)))
    lines.push(`  ${name.padEnd(7)}${shares.map((share, at) => `p${share * 100} ${values[at]?.toFixed(0) ?? "-"}`).join("  ")} ms`);
  for (const term of forbidden) {
    const all = violations[term];
    lines.push(...all.slice(0, mostShown).map((text) => `  ${term}: ${text}`));
    if (all.length > mostShown) lines.push(`  ${term}: and ${all.length - mostShown} more`);
  }
  lines.push(...course.checks.map(checkLine));
  if (!passed(result)) lines.push(`  again: ${replayCommand(result)}`);
  return lines.join("\n");
}

/** One line of the table in docs/guarantees.md. */
export function tableLine(result: Result): string {
  const { course, recipe } = result;
  if (course === undefined) return `| ${recipe.id} | ${recipe.title} | failed: ${result.failure?.split("\n")[0]} | | | | |`;
  const { counts, violations } = course.verdict;
  const terms = forbidden.map((term) => violations[term].length).join(" / ");
  const checks = course.checks.map((check) => {
    const { what, value, limit, better, unit = "" } = check;
    const shown = Math.abs(value) >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(2);
    const bound = `${better === "lower" ? "≤" : "≥"} ${Number.isInteger(limit) ? limit : limit.toFixed(1)}`;
    return `${isMet(check) ? "" : "**missed:** "}${what} ${shown}${unit === "" ? "" : ` ${unit}`} (${bound})`;
  });
  return `| ${recipe.id} | ${recipe.title} | ${counts.acknowledged} | ${counts.faults} | ${counts.furtherRuns} | ${terms} | ${checks.join("; ")} |`;
}

/** For machines: the same, without the history. */
export function resultJson(result: Result): object {
  const { course, context, failure, recipe, seconds } = result;
  return {
    recipe: recipe.id,
    title: recipe.title,
    ...context,
    passed: passed(result),
    seconds,
    replay: replayCommand(result),
    ...(failure !== undefined && { failure }),
    ...(course && {
      counts: course.verdict.counts,
      violations: course.verdict.violations,
      checks: course.checks.map((check) => ({ ...check, isMet: isMet(check) })),
      refusals: refusals(course.ledger.events),
      latencyMs: latencies(course.ledger.events),
      faults: course.ledger.events.filter(({ kind }) => kind === "fault"),
    }),
  };
}
