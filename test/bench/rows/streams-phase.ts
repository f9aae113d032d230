/** One phase of a row whose streams ask for their own parts of one capacity: their figures, and what was started too late. */

import { measureStreams, type Noise, untilQuiet } from "../cell.ts";
import type { StreamOrder } from "../load/figures.ts";
import { admittedInTime, inTimePerSecond, type StreamFigures } from "../load/stream-tally.ts";
import { jobsSince, startedLate } from "../systems/job-views.ts";
import type { RunningSwitchyard } from "../systems/switchyard.ts";
import type { RowContext } from "./row.ts";
import { describeNoise, describeStream, mustBeWhole } from "./shown.ts";

export interface StreamsPhase {
  noise: Noise;
  /** In the order of the streams. */
  figures: StreamFigures[];
  startedLate: number;
}

export async function measureStreamsPhase(
  running: RunningSwitchyard,
  { settleSeconds, streams, title }: { title: string; streams: StreamOrder[]; settleSeconds: number },
  { load, say, seconds }: RowContext,
): Promise<StreamsPhase> {
  await untilQuiet();
  const sinceMs = Date.now();
  const { noise, streams: heard } = await measureStreams(running, { streams, settleSeconds, seconds }, load);
  const figures = streams.map(({ name }) => heard[name]!);
  for (const [at, { name }] of streams.entries()) {
    mustBeWhole(name, figures[at]!);
    say(`  ${title}, ${name}: ${describeStream(figures[at]!)} ${describeNoise(noise)}`);
  }
  const models = new Set(streams.map(({ model }) => model.name));
  const jobs = await Promise.all([...models].map((model) => jobsSince(running.url, { model, sinceMs })));
  return { noise, figures, startedLate: jobs.flat().filter(startedLate).length };
}

/** Of the stream that fared worst, in per cent; 0 where one had nothing admitted. */
export const worstInTime = ({ figures }: StreamsPhase): number => Math.min(...figures.map((one) => admittedInTime(one) ?? 0));

/** Of all streams together, a second. */
export const together = ({ figures }: StreamsPhase): number => figures.reduce((sum, one) => sum + inTimePerSecond(one), 0);

/** What tables tell of a stream, and with how many digits. */
export const streamColumns: readonly { title: string; digits: number; of: (figures: StreamFigures) => number | undefined }[] = [
  { title: "offered/s", digits: 0, of: ({ jobs, seconds }) => jobs / seconds },
  { title: "in time/s", digits: 0, of: inTimePerSecond },
  { title: "% of admitted in time", digits: 2, of: admittedInTime },
  { title: "refused %", digits: 1, of: ({ counts, jobs }) => (100 * counts.refused) / jobs },
  { title: "p99 ms", digits: 0, of: ({ latencyMs }) => latencyMs?.p99 },
];
export const streamTitles = streamColumns.map(({ title }) => title);
