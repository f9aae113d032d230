/** The highest rate at which 99 % of all jobs are answered within their deadline, for the tiny model and for the one that fills the device. */

import { bisect, type Probe } from "../bisection.ts";
import { measureStreams, type Noise, untilQuiet } from "../cell.ts";
import type { StreamFigures } from "../load/stream-tally.ts";
import { deviceModelIn } from "../systems/device-model.ts";
import { startSwitchyard } from "../systems/switchyard.ts";
import type { SystemModel } from "../systems/system.ts";
import { type Capacity, measureCapacity } from "./capacity.ts";
import { mlp, modelCache } from "./models.ts";
import type { RowContext, RowResult } from "./row.ts";
import { describeNoise, describeStream, shown } from "./shown.ts";

const share = 0.99;

interface Objective {
  name: string;
  model: SystemModel;
  clients: number;
  /** Fixed, or so many runs. */
  deadline: { ms: number } | { runs: number };
  secondsAProbe: number;
}

interface Search {
  capacity: Capacity;
  deadlineMs: number;
  best: number | undefined;
  probes: Probe<{ figures: StreamFigures; noise: Noise }>[];
}

/** Of all jobs that were meant to be sent: one that was refused, or not even sent, was not in time either. */
const inTime = ({ counts, jobs }: StreamFigures): number => counts["in time"] / Math.max(1, jobs);

async function search(context: RowContext, of: Objective, round: number): Promise<Search> {
  const { model, clients, deadline, name, secondsAProbe: seconds } = of;
  await context.load.prepare(model, 13);
  const running = await startSwitchyard(model, { threads: 1 });
  try {
    const capacity = await measureCapacity(running, { model, clients, seconds }, context);
    const timeoutMs = "ms" in deadline ? deadline.ms : Math.ceil(deadline.runs * capacity.runMs);
    const { best, probes } = await bisect({
      from: 0.8 * capacity.perSecond,
      probes: context.isQuick ? 2 : 5,
      holds: async (perSecond) => {
        await untilQuiet();
        const streams = [{ name: "jobs", model, pace: { perSecond, seed: round }, timeoutMs }];
        const { streams: found, noise } = await measureStreams(running, { streams, settleSeconds: 1, seconds }, context.load);
        const figures = found.jobs!;
        if (figures.counts.failed > 0) throw new Error(`${name}: ${figures.counts.failed} jobs failed; the first: ${figures.failure}`);
        const holds = inTime(figures) >= share;
        context.say(`  round ${round} ${name} ${holds ? "holds" : "fails"}: ${describeStream(figures)} ${describeNoise(noise)}`);
        return { holds, seen: { figures, noise } };
      },
    });
    return { capacity, deadlineMs: timeoutMs, best, probes };
  } finally {
    await running.stop();
  }
}

export async function sloRow(context: RowContext): Promise<RowResult> {
  const device = await deviceModelIn(modelCache);
  const { clients } = context;
  const objectives: Objective[] = [
    { name: "mlp", model: mlp(), clients, deadline: { ms: 50 }, secondsAProbe: Math.min(2, context.seconds) },
    {
      name: "device",
      model: device,
      clients: 3 * device.maxBatchItems,
      deadline: { runs: 5 },
      secondsAProbe: Math.min(3, context.seconds),
    },
  ];
  const lines: string[][] = [];
  const details: unknown[] = [];
  for (const objective of objectives) {
    const found: Search[] = [];
    for (let round = 1; round <= context.rounds; round++) found.push(await search(context, objective, round));
    details.push(...found.map((each) => ({ model: objective.name, ...each })));
    lines.push([
      objective.name,
      shown(
        found.map(({ deadlineMs }) => deadlineMs),
        0,
      ),
      shown(
        found.map(({ capacity }) => capacity.perSecond),
        0,
      ),
      shown(
        found.map(({ best }) => best),
        0,
      ),
      shown(
        found.map(({ best, capacity }) => best && best / capacity.perSecond),
        2,
      ),
    ]);
  }
  return {
    title: `the highest rate with ${100 * share} % of all jobs in time, by chance arrivals (published, nothing is promised)`,
    table: { titles: ["model", "deadline ms", "capacity jobs/s", "highest rate jobs/s", "of capacity"], lines },
    details,
    budgets: [],
  };
}
