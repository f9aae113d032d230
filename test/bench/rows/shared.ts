/**
 * Two models on one host, each of which has jobs all the time: what one is promised must allow for the other. Both fill the device, with a deadline of ten
 * runs, five of their own when they take turns. Capacity is that of the host with one of them, measured first, in the same run.
 */

import { inTimePerSecond } from "../load/stream-tally.ts";
import { twoDeviceModelsIn } from "../systems/device-model.ts";
import { startSwitchyard } from "../systems/switchyard.ts";
import type { SystemModel } from "../systems/system.ts";
import { budget } from "./budget.ts";
import { type Capacity, measureCapacity, shownCapacity } from "./capacity.ts";
import { modelCache } from "./models.ts";
import type { RowContext, RowResult } from "./row.ts";
import { describeNoise, shown } from "./shown.ts";
import { measureStreamsPhase, type StreamsPhase, streamColumns, streamTitles, together, worstInTime } from "./streams-phase.ts";

const deadlineRuns = 10;
const settleSeconds = 4;
/** What each model is offered, as a part of the host's capacity. */
const loads = { below: [0.45, 0.45], above: [1, 1], uneven: [0.5, 1.5] } as const;
type Load = keyof typeof loads;

interface Round extends Record<Load, StreamsPhase> {
  capacity: Capacity;
}

async function measureRound(context: RowContext, models: readonly SystemModel[], round: number): Promise<Round> {
  const [first, second] = models as [SystemModel, SystemModel];
  const running = await startSwitchyard(first, { threads: 1 });
  try {
    const { load, seconds, say } = context;
    const clients = 3 * first.maxBatchItems;
    await load.prepare(second, 13);
    await measureCapacity(running, { model: second, clients, seconds: 1 }, context);
    await load.prepare(first, 13);
    const capacity = await measureCapacity(running, { model: first, clients, seconds }, context);
    say(
      `  round ${round} capacity: ${capacity.perSecond.toFixed(1)} jobs/s, a run ${capacity.runMs.toFixed(1)} ms ${describeNoise(capacity.noise)}`,
    );
    const timeoutMs = Math.ceil(deadlineRuns * capacity.runMs);
    const phases: Partial<Record<Load, StreamsPhase>> = {};
    for (const [at, [name, shares]] of Object.entries(loads).entries()) {
      const streams = models.map((model, which) => ({
        ...{ name: model.name, model, timeoutMs },
        pace: { perSecond: shares[which]! * capacity.perSecond, seed: 10 * (3 * round + at) + which },
      }));
      phases[name as Load] = await measureStreamsPhase(running, { title: `round ${round} ${name}`, streams, settleSeconds }, context);
    }
    return { capacity, ...(phases as Record<Load, StreamsPhase>) };
  } finally {
    await running.stop();
  }
}

/** Of what each model is offered, or of half the host where that is less, the part that it got in time; the smaller one. */
const worstPart = ({ figures }: StreamsPhase, { capacity }: Round): number =>
  Math.min(...figures.map((one) => inTimePerSecond(one) / Math.min(one.jobs / one.seconds, capacity.perSecond / 2)));

export async function sharedRow(context: RowContext): Promise<RowResult> {
  const models = await twoDeviceModelsIn(modelCache);
  const rounds: Round[] = [];
  for (let round = 1; round <= context.rounds; round++) rounds.push(await measureRound(context, models, round));
  const over = (which: Load, value: (phase: StreamsPhase, round: Round) => number | undefined) =>
    rounds.map((round) => ({ value: value(round[which], round), isQuiet: !(round[which].noise.isNoisy || round.capacity.noise.isNoisy) }));
  const line = (title: string, which: Load): string[] => {
    const column = ({ digits, of }: (typeof streamColumns)[number]): string =>
      models
        .map((_model, at) =>
          shown(
            rounds.map((round) => of(round[which].figures[at]!)),
            digits,
          ),
        )
        .join(", ");
    return [title, ...streamColumns.map(column)];
  };
  const capacity = shownCapacity(rounds.map((round) => round.capacity));
  return {
    title: `two models on one host; ${capacity}, deadline ${deadlineRuns} runs`,
    table: {
      titles: ["of capacity, each", ...streamTitles],
      lines: [line(loads.below.join(", "), "below"), line(loads.above.join(", "), "above"), line(loads.uneven.join(", "), "uneven")],
    },
    details: rounds,
    budgets: [
      budget({
        text: "0.9 × capacity in all: % of admitted jobs in time ≥ 99.9, of either model",
        rounds: over("below", worstInTime),
        limit: 99.9,
        better: "higher",
      }),
      ...(["above", "uneven"] as const).flatMap((which) => [
        budget({
          text: `2 × capacity (${loads[which].join(" and ")}): jobs/s in time ≥ 95 % of capacity`,
          rounds: over(which, (phase, { capacity }) => together(phase) / capacity.perSecond),
          limit: 0.95,
          better: "higher",
        }),
        budget({
          text: "and in time ≥ 90 % of what either model is offered, or of half the capacity",
          rounds: over(which, worstPart),
          limit: 0.9,
          better: "higher",
        }),
        budget({
          text: "and % of admitted jobs in time ≥ 98, of either model",
          rounds: over(which, worstInTime),
          limit: 98,
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
    ],
  };
}
