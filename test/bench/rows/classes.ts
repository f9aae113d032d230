/**
 * Three classes of jobs of one model, which together ask for twice what its host can do: what a class is promised must allow for what the others will still
 * send. Once each asks for a third of it, once interactive jobs take two fifths of the capacity and the class batch asks for all the rest.
 */

import { classWeights, type JobClass } from "@switchyard/protocol";
import { inTimePerSecond } from "../load/stream-tally.ts";
import { deviceModelIn } from "../systems/device-model.ts";
import { startSwitchyard } from "../systems/switchyard.ts";
import type { SystemModel } from "../systems/system.ts";
import { budget } from "./budget.ts";
import { type Capacity, measureCapacity, shownCapacity } from "./capacity.ts";
import { modelCache } from "./models.ts";
import type { RowContext, RowResult } from "./row.ts";
import { describeNoise, shown } from "./shown.ts";
import { measureStreamsPhase, type StreamsPhase, streamColumns, streamTitles, together, worstInTime } from "./streams-phase.ts";

const deadlineRuns = 50;
/** Twice the deadline and more: what came before others did is over. */
const settleSeconds = 4;

/** What each class is offered, as a part of the host's capacity. */
const loads = {
  thirds: { interactive: 2 / 3, standard: 2 / 3, batch: 2 / 3 },
  backfill: { interactive: 0.4, batch: 1.6 },
} as const satisfies Record<string, Partial<Record<JobClass, number>>>;
type Load = keyof typeof loads;
const loadNames = Object.keys(loads) as Load[];
const classesOf = (which: Load): JobClass[] => Object.keys(loads[which]) as JobClass[];

interface Round extends Record<Load, StreamsPhase> {
  capacity: Capacity;
}

async function measureRound(context: RowContext, model: SystemModel, round: number): Promise<Round> {
  const running = await startSwitchyard(model, { threads: 1 });
  try {
    const { load, say, seconds } = context;
    await load.prepare(model, 13);
    const capacity = await measureCapacity(running, { model, clients: 3 * model.maxBatchItems, seconds }, context);
    say(
      `  round ${round} capacity: ${capacity.perSecond.toFixed(1)} jobs/s, a run ${capacity.runMs.toFixed(1)} ms ${describeNoise(capacity.noise)}`,
    );
    const timeoutMs = Math.ceil(deadlineRuns * capacity.runMs);
    const phases: Partial<Record<Load, StreamsPhase>> = {};
    for (const [at, which] of loadNames.entries()) {
      const streams = Object.entries(loads[which]).map(([name, part], index) => ({
        ...{ name, model, timeoutMs, class: name as JobClass },
        pace: { perSecond: part * capacity.perSecond, seed: 100 * round + 10 * at + index },
      }));
      phases[which] = await measureStreamsPhase(running, { title: `round ${round} ${which}`, streams, settleSeconds }, context);
    }
    return { capacity, ...(phases as Record<Load, StreamsPhase>) };
  } finally {
    await running.stop();
  }
}

/** Of what each class is due, the part that it got in time; the smallest one. */
const worstPart = (which: Load, { capacity, ...phases }: Round): number =>
  Math.min(...classesOf(which).map((name, at) => inTimePerSecond(phases[which].figures[at]!) / (dueOf(which, name) * capacity.perSecond)));

/** What a class is due of the capacity: what it is offered, or its weight's part of what those leave that ask for less than theirs. */
function dueOf(which: Load, name: JobClass): number {
  const offered: Partial<Record<JobClass, number>> = loads[which];
  const asking = new Set(classesOf(which));
  for (let left = 1; ; ) {
    const weights = [...asking].reduce((sum, one) => sum + classWeights[one], 0);
    const small = [...asking].find((one) => offered[one]! <= (left * classWeights[one]) / weights);
    if (!small) return (left * classWeights[name]) / weights;
    if (small === name) return offered[name]!;
    asking.delete(small);
    left -= offered[small]!;
  }
}

export async function classesRow(context: RowContext): Promise<RowResult> {
  const model = await deviceModelIn(modelCache);
  const rounds: Round[] = [];
  for (let round = 1; round <= context.rounds; round++) rounds.push(await measureRound(context, model, round));
  const over = (which: Load, value: (phase: StreamsPhase, round: Round) => number | undefined) =>
    rounds.map((round) => ({ value: value(round[which], round), isQuiet: !(round[which].noise.isNoisy || round.capacity.noise.isNoisy) }));
  const lines = loadNames.flatMap((which) =>
    classesOf(which).map((name, at) => {
      const values = streamColumns.map(({ digits, of }) =>
        shown(
          rounds.map((round) => of(round[which].figures[at]!)),
          digits,
        ),
      );
      return [which, name, ...values];
    }),
  );
  const capacity = shownCapacity(rounds.map((round) => round.capacity));
  return {
    title: `classes that ask for twice what their host can do; ${capacity}, deadline ${deadlineRuns} runs`,
    table: { titles: ["load", "class", ...streamTitles], lines },
    details: rounds,
    budgets: loadNames.flatMap((which) => [
      budget({
        text: `${which}: jobs/s in time ≥ 95 % of capacity`,
        rounds: over(which, (phase, { capacity: { perSecond } }) => together(phase) / perSecond),
        limit: 0.95,
        better: "higher",
      }),
      budget({ text: "and % of admitted jobs in time ≥ 95, of each class", rounds: over(which, worstInTime), limit: 95, better: "higher" }),
      budget({
        text: "and in time ≥ 75 % of what each class is due",
        rounds: over(which, (_phase, round) => worstPart(which, round)),
        limit: 0.75,
        better: "higher",
      }),
      budget({
        text: "and runs started after their deadline = 0",
        rounds: over(which, ({ startedLate: late }) => late),
        limit: 0,
        better: "lower",
        digits: 0,
      }),
    ]),
  };
}
