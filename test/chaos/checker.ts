/**
 * Judges a history: what clients were told, what devices ran, what the store held in the end. Pure. The terms are those of a total-queue
 * checker (Jepsen's, for message queues), in the words of this project.
 */

import { isTerminal } from "@switchyard/protocol";
import type { Execution, LedgerEvent, Outcome } from "./ledger.ts";

/** What the store held when all had ended and the faults were healed. */
export interface StoreAtEnd {
  /** Ids of all jobs that it had a record of. */
  listed: readonly string[];
  /** When it was read (Date.now()). */
  atMs: number;
  /** What is wrong with it: a job that waits or runs for good, a key that never goes. */
  faults: readonly string[];
}

export interface History {
  events: readonly LedgerEvent[];
  executions: readonly Execution[];
  store: StoreAtEnd;
  /** Moments at which work stood still though it could have gone on, as the watch saw them. */
  stalls: readonly string[];
  /** What a job's answer must be. */
  answerTo: (number: number) => readonly number[];
}

/** A history with fewer than these proves nothing. */
export interface Expected {
  jobs: number;
  faults: number;
  executions: number;
}

export const forbidden = ["lost", "unexpected", "duplicated", "wrong", "late", "stuck", "broken", "blind"] as const;
type Forbidden = (typeof forbidden)[number];

export interface Verdict {
  /** Each with what was found, in words; all must be empty. */
  violations: Record<Forbidden, string[]>;
  counts: {
    submitted: number;
    acknowledged: number;
    /** Calls without a key, which count nowhere else; how many of them heard what became of their job, and how many of those that it did not succeed. */
    called: number;
    answered: number;
    answeredBadly: number;
    refused: number;
    /** Tries without an answer. */
    unknown: number;
    /** Tries that were told to come back. */
    delayed: number;
    /** Jobs whose first answer was lost and that were found again under their key. */
    recovered: number;
    succeeded: number;
    expired: number;
    failed: number;
    cancelled: number;
    runs: number;
    /** Jobs that ran more than once, and by how many runs in all. */
    ranAgain: number;
    furtherRuns: number;
    faults: number;
  };
  isGood: boolean;
}

/** The record of a call without a key is kept for a minute after its end. What was heard so long before the store was read, or later, was then looked for within that minute. */
const recordMs = 45_000;
/** At least one in so many of them hears what became of its job, or they prove nothing. */
const answeredOf = 10;

const sameAnswer = (left: readonly number[] | undefined, right: readonly number[]): boolean =>
  left !== undefined && left.length === right.length && left.every((value, at) => value === right[at]);

/** Two looks at one outcome that differ, told in words. */
function difference(first: Outcome, later: Outcome): string | undefined {
  if (first.state !== later.state) return `${first.state}, then ${later.state}`;
  if (first.revision !== later.revision) return `revision ${first.revision}, then ${later.revision}`;
  if (first.answer && later.answer && !sameAnswer(first.answer, later.answer)) return "two answers";
  if (first.answer && !later.answer) return "its answer was there, and is gone";
  return undefined;
}

export function judge(history: History, expected: Expected): Verdict {
  const found = (): string[] => [];
  const violations: Verdict["violations"] = {
    lost: found(),
    unexpected: found(),
    duplicated: found(),
    wrong: found(),
    late: found(),
    stuck: [...history.stalls, ...history.store.faults],
    broken: found(),
    blind: found(),
  };
  const { events, executions } = history;
  const numbers = new Map<string, number>();
  const ids = new Map<string, string>();
  const keys = new Map<string, string>();
  const outcomes = new Map<string, Outcome>();
  const missed = new Set<string>();
  const bare = new Set<string>();
  const answered = new Map<string, Extract<LedgerEvent, { kind: "answered" }>>();
  const counts: Verdict["counts"] = {
    submitted: 0,
    acknowledged: 0,
    called: 0,
    answered: 0,
    answeredBadly: 0,
    refused: 0,
    unknown: 0,
    delayed: 0,
    recovered: 0,
    succeeded: 0,
    expired: 0,
    failed: 0,
    cancelled: 0,
    runs: executions.length,
    ranAgain: 0,
    furtherRuns: 0,
    faults: 0,
  };

  for (const event of events) {
    switch (event.kind) {
      case "submit":
        counts.submitted++;
        numbers.set(event.key, event.number);
        break;
      case "called":
        counts.called++;
        numbers.set(event.key, event.number);
        bare.add(event.key);
        break;
      case "answered":
        counts.answered++;
        counts.answeredBadly += Number(event.state !== "succeeded");
        answered.set(event.key, event);
        break;
      case "ack":
        noteAck(event);
        break;
      case "refused":
        counts.refused++;
        break;
      case "unknown":
        counts.unknown++;
        missed.add(event.key);
        break;
      case "delayed":
        counts.delayed++;
        break;
      case "broken":
        violations.broken.push(`${event.key}: ${event.what}`);
        break;
      case "gone":
        violations.lost.push(`job ${event.id} was acknowledged and then ${event.why}`);
        break;
      case "fault":
        counts.faults++;
        break;
      case "outcome":
        noteOutcome(event);
        break;
    }
  }

  function noteAck({ key, id, isReplay }: Extract<LedgerEvent, { kind: "ack" }>): void {
    const before = ids.get(key);
    if (before !== undefined && before !== id) violations.duplicated.push(`key ${key} made two jobs, ${before} and ${id}`);
    const owner = keys.get(id);
    if (owner !== undefined && owner !== key) violations.duplicated.push(`job ${id} answers for two keys, ${owner} and ${key}`);
    if (before === undefined && isReplay && missed.has(key)) counts.recovered++;
    ids.set(key, id);
    keys.set(id, key);
  }

  function noteOutcome({ id, key, outcome }: Extract<LedgerEvent, { kind: "outcome" }>): void {
    if (!isTerminal(outcome.state)) return;
    const first = outcomes.get(id);
    if (first !== undefined) {
      const differs = difference(first, outcome);
      if (differs !== undefined) violations.duplicated.push(`job ${id}: ${differs}`);
    }
    const number = numbers.get(key);
    if (number === undefined) violations.unexpected.push(`an outcome for ${key}, which nobody submitted`);
    else if (outcome.answer !== undefined && !sameAnswer(outcome.answer, history.answerTo(number)))
      violations.wrong.push(`job ${id} (${number}): ${outcome.answer.join(", ")}`);
    if (first === undefined || (first.answer === undefined && outcome.answer !== undefined)) outcomes.set(id, outcome);
    if (first !== undefined) return;
    if (outcome.startedMs !== undefined && outcome.startedMs > outcome.deadlineMs)
      violations.late.push(`job ${id} was claimed ${outcome.startedMs - outcome.deadlineMs} ms after its deadline`);
    if (!bare.has(key)) counts[outcome.state as "succeeded" | "expired" | "failed" | "cancelled"]++;
  }

  counts.acknowledged = new Set(ids.keys()).difference(bare).size;
  const deadlines = new Map<number, number>();
  for (const [key, id] of ids) {
    const outcome = outcomes.get(id);
    if (outcome === undefined) violations.lost.push(`job ${id} (${numbers.get(key)}) was acknowledged and never ended`);
    else if (outcome.state === "succeeded" && outcome.answer === undefined)
      violations.lost.push(`job ${id} succeeded and its answer is gone`);
    else deadlines.set(numbers.get(key)!, outcome.deadlineMs);
  }
  for (const [key, { answer, atMs, state }] of answered) {
    const number = numbers.get(key)!;
    if (answer !== undefined && !sameAnswer(answer, history.answerTo(number)))
      violations.wrong.push(`${key} (${number}): ${answer.join(", ")}`);
    const id = ids.get(key);
    const later = id && outcomes.get(id);
    if (later && later.state !== state) violations.duplicated.push(`${key}: ${state}, then job ${id} ${later.state}`);
    if (id === undefined && state === "succeeded" && history.store.atMs - atMs < recordMs)
      violations.lost.push(`${key} (${number}) heard its answer, and ${history.store.atMs - atMs} ms later there was no job of it`);
  }
  for (const id of history.store.listed) if (!keys.has(id)) violations.unexpected.push(`job ${id} exists and nobody was told of it`);

  const ran = new Map<number, number>();
  const known = new Set(numbers.values());
  for (const { numbers: batch, startedMs, host } of executions) {
    for (const number of batch) {
      ran.set(number, (ran.get(number) ?? 0) + 1);
      if (!known.has(number)) violations.unexpected.push(`${host} ran ${number}, which nobody submitted`);
      const deadlineMs = deadlines.get(number);
      if (deadlineMs !== undefined && startedMs > deadlineMs)
        violations.late.push(`${host} started ${number} ${startedMs - deadlineMs} ms after its deadline`);
    }
  }
  for (const times of ran.values()) {
    if (times < 2) continue;
    counts.ranAgain++;
    counts.furtherRuns += times - 1;
  }

  const least: [string, number, number][] = [
    ["acknowledged jobs", counts.acknowledged, expected.jobs],
    ["faults", counts.faults, expected.faults],
    ["executions", executions.length, expected.executions],
    ["answers to calls without a key", counts.answered, Math.floor(counts.called / answeredOf)],
  ];
  for (const [what, saw, wanted] of least) if (saw < wanted) violations.blind.push(`saw ${saw} ${what}, expected at least ${wanted}`);
  return { violations, counts, isGood: forbidden.every((term) => violations[term].length === 0) };
}
