/**
 * How fast the door says no. Clients in a closed loop ask for a deadline that nothing can meet, beside others that keep the model busy: what
 * is published are refusals a second and how long one takes. Then the same model under more jobs than it can do, with a deadline.
 */

import { measureStreams, type StreamCell, untilQuiet } from "../cell.ts";
import type { StreamFigures } from "../load/stream-tally.ts";
import { startSwitchyard } from "../systems/switchyard.ts";
import { type Capacity, measureCapacity } from "./capacity.ts";
import { mlp } from "./models.ts";
import type { RowContext, RowResult } from "./row.ts";
import { describeNoise, describeStream, mustBeWhole, shown } from "./shown.ts";

const unattainableMs = 1;
const overloadMs = 50;
const overload = 1.5;
const busyClients = 16;

interface Round {
  capacity: Capacity;
  unattainable: StreamCell;
  overloaded: StreamCell;
}

async function measureRound(context: RowContext, round: number): Promise<Round> {
  const model = mlp();
  const { clients, seconds, load } = context;
  const running = await startSwitchyard(model, { threads: 1 });
  try {
    const capacity = await measureCapacity(running, { model, clients, seconds }, context);
    context.say(`  round ${round} capacity: ${capacity.perSecond.toFixed(0)} jobs/s ${describeNoise(capacity.noise)}`);
    await untilQuiet();
    const busy = { name: "busy", model, pace: { clients: busyClients } };
    const hopeless = { name: "hopeless", model, pace: { clients }, timeoutMs: unattainableMs };
    const unattainable = await measureStreams(running, { streams: [busy, hopeless], settleSeconds: 1, seconds }, load);
    context.say(
      `  round ${round} deadline ${unattainableMs} ms: ${describeStream(unattainable.streams.hopeless!)} ${describeNoise(unattainable.noise)}`,
    );
    await untilQuiet();
    const pace = { perSecond: overload * capacity.perSecond, seed: round };
    const streams = [{ name: "jobs", model, pace, timeoutMs: overloadMs }];
    const overloaded = await measureStreams(running, { streams, settleSeconds: 1, seconds }, load);
    context.say(`  round ${round} ${overload} × capacity: ${describeStream(overloaded.streams.jobs!)} ${describeNoise(overloaded.noise)}`);
    mustBeWhole("refusals", unattainable.streams.hopeless!);
    return { capacity, unattainable, overloaded };
  } finally {
    await running.stop();
  }
}

export async function refusalsRow(context: RowContext): Promise<RowResult> {
  await context.load.prepare(mlp(), 61);
  const rounds: Round[] = [];
  for (let round = 1; round <= context.rounds; round++) rounds.push(await measureRound(context, round));
  const line = (title: string, of: (round: Round) => StreamFigures): string[] => {
    const column = (value: (figures: StreamFigures) => number | undefined, digits: number) =>
      shown(
        rounds.map((round) => value(of(round))),
        digits,
      );
    return [
      title,
      column(({ jobs, seconds }) => jobs / seconds, 0),
      column(({ counts, seconds }) => counts.refused / seconds, 0),
      column(({ counts, seconds }) => counts["in time"] / seconds, 0),
      column(({ counts, seconds }) => (counts.expired + counts.late) / seconds, 0),
      column(({ refusalMs }) => refusalMs?.p50, 2),
      column(({ refusalMs }) => refusalMs?.p99, 2),
      column(({ notSent }) => notSent, 0),
    ];
  };
  return {
    title: `refusals of the tiny MLP; capacity ${shown(
      rounds.map(({ capacity }) => capacity.perSecond),
      0,
    )} jobs/s (published, nothing is promised)`,
    table: {
      titles: ["", "asked/s", "refused/s", "in time/s", "expired or late/s", "refusal p50 ms", "p99 ms", "not sent"],
      lines: [
        line(
          `${context.clients} clients, deadline ${unattainableMs} ms, beside ${busyClients} busy ones`,
          ({ unattainable }) => unattainable.streams.hopeless!,
        ),
        line(`${overload} × capacity, deadline ${overloadMs} ms`, ({ overloaded }) => overloaded.streams.jobs!),
      ],
    },
    details: rounds,
    budgets: [],
  };
}
