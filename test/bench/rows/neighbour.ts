/**
 * Tenants that share one host. A light one beside one that sends a hundred times as much, to the same model and to another one; then three of
 * weights 1, 2 and 4, each with more than the host can do. Waits and device time come from the jobs' records.
 */

import type { JobView } from "@switchyard/protocol";
import { measureStreams, type Noise, sleep, untilQuiet } from "../cell.ts";
import { jain, quantile, worstMissPercent } from "../fairness.ts";
import type { StreamOrder } from "../load/figures.ts";
import type { StreamFigures } from "../load/stream-tally.ts";
import { twoDeviceModelsIn } from "../systems/device-model.ts";
import { jobsSince } from "../systems/job-views.ts";
import { newTenant, type RunningSwitchyard, startSwitchyard, type Tenant } from "../systems/switchyard.ts";
import type { SystemModel } from "../systems/system.ts";
import { budget } from "./budget.ts";
import { type Capacity, measureCapacity, shownCapacity } from "./capacity.ts";
import { modelCache } from "./models.ts";
import type { RowContext, RowResult } from "./row.ts";
import { describeNoise, describeStream, mustBeWhole, shown } from "./shown.ts";

const deadlineRuns = 25;
const settleSeconds = 2;
/** Of the loud tenant: this many times the light one's rate, and so many times the capacity. */
const loudness = 100;
const loudCapacities = 2;
const weights = [1, 2, 4];

interface Phase {
  noise: Noise;
  figures: Record<string, StreamFigures>;
  /** Jobs of each tenant that ended while it was measured, and ran. */
  ran: Record<string, JobView[]>;
}

interface Round {
  capacity: Capacity;
  /** p99 of the light tenant's waits: alone, beside a loud one on its model, beside a loud one on another model. */
  alone: { waitMs: number | undefined; noise: Noise };
  sameModel: { waitMs: number | undefined; noise: Noise };
  otherModel: { waitMs: number | undefined; noise: Noise };
  /** Device milliseconds of the tenants with weights. */
  shared: { deviceMs: number[]; noise: Noise };
}

interface Part {
  tenant: Tenant;
  model: SystemModel;
  perSecond: number;
}

async function measurePhase(
  running: RunningSwitchyard,
  parts: Part[],
  of: { timeoutMs: number; seconds: number; seed: number },
  context: RowContext,
): Promise<Phase> {
  await untilQuiet();
  const streams: StreamOrder[] = parts.map(({ tenant, model, perSecond }, at) => ({
    name: tenant.name,
    model,
    pace: { perSecond, seed: 10 * of.seed + at },
    timeoutMs: of.timeoutMs,
    apiKey: tenant.apiKey,
  }));
  const sinceMs = Date.now() + 1000 * settleSeconds;
  const { noise, streams: figures } = await measureStreams(running, { streams, settleSeconds, seconds: of.seconds }, context.load);
  const untilMs = sinceMs + 1000 * of.seconds;
  const ran: Record<string, JobView[]> = {};
  for (const { tenant, model } of parts) {
    mustBeWhole(tenant.name, figures[tenant.name]!);
    const jobs = await jobsSince(running.url, { model: model.name, sinceMs: sinceMs - 1000 * settleSeconds, apiKey: tenant.apiKey });
    ran[tenant.name] = jobs.filter(({ finished_at: end, timings }) => {
      const endMs = Date.parse(end ?? "");
      return endMs >= sinceMs && endMs < untilMs && (timings?.run_ms ?? 0) > 0;
    });
  }
  await sleep(of.timeoutMs / 1000); // nothing of this phase waits when the next one begins
  return { noise, figures, ran };
}

/** A job that was refused, or ended before anybody ran it, counts as one that waited for as long as it had. */
function waitP99({ ran, figures }: Phase, tenant: Tenant, timeoutMs: number): number | undefined {
  const { refused, expired } = figures[tenant.name]!.counts;
  const waits = ran[tenant.name]!.map(({ timings }) => timings!.queue_ms);
  return quantile([...waits, ...Array.from({ length: refused + expired }, () => timeoutMs)], 0.99);
}

/** Each job's part of its batch's run. */
const deviceMs = (jobs: readonly JobView[]): number =>
  jobs.reduce((sum, { timings }) => sum + timings!.run_ms / Math.max(1, timings!.batch_items), 0);

async function measureRound(context: RowContext, models: [SystemModel, SystemModel], round: number): Promise<Round> {
  const [light, loud] = [newTenant("light", 1), newTenant("loud", 1)];
  const weighted = weights.map((weight) => newTenant(`weight-${weight}`, weight));
  const running = await startSwitchyard(models[0], { threads: 1, tenants: [light, loud, ...weighted] });
  try {
    const { load, seconds, say } = context;
    const warm = { model: models[1], clients: models[1].maxBatchItems, seconds: 1 };
    await load.prepare(models[1], 13, loud.apiKey);
    await measureCapacity(running, warm, context);
    await load.prepare(models[0], 13, loud.apiKey);
    const capacity = await measureCapacity(running, { ...warm, model: models[0], clients: 3 * models[0].maxBatchItems, seconds }, context);
    say(
      `  round ${round} capacity: ${capacity.perSecond.toFixed(1)} jobs/s, a run ${capacity.runMs.toFixed(1)} ms ${describeNoise(capacity.noise)}`,
    );
    const timeoutMs = Math.ceil(deadlineRuns * capacity.runMs);
    const loudRate = loudCapacities * capacity.perSecond;
    const beside = (model: SystemModel): Part => ({ tenant: loud, model, perSecond: loudRate });
    const own: Part = { tenant: light, model: models[0], perSecond: loudRate / loudness };
    const phase = async (name: string, parts: Part[], wishes: { seconds: number; seed: number }): Promise<Phase> => {
      const found = await measurePhase(running, parts, { ...wishes, timeoutMs }, context);
      for (const [tenant, figures] of Object.entries(found.figures))
        say(`  round ${round} ${name}, ${tenant}: ${describeStream(figures)} ${describeNoise(found.noise)}`);
      return found;
    };
    const lights = async (name: string, parts: Part[], seed: number) => {
      const found = await phase(name, parts, { seconds: 2 * seconds, seed });
      return { waitMs: waitP99(found, light, timeoutMs), noise: found.noise };
    };
    const alone = await lights("alone", [own], round);
    const sameModel = await lights("same model", [own, beside(models[0])], round);
    const otherModel = await lights("other model", [own, beside(models[1])], round);
    const all = weighted.map((tenant) => ({ tenant, model: models[0], perSecond: capacity.perSecond }));
    const { noise, ran } = await phase("weights", all, { seconds, seed: round });
    return { capacity, alone, sameModel, otherModel, shared: { deviceMs: weighted.map(({ name }) => deviceMs(ran[name]!)), noise } };
  } finally {
    await running.stop();
  }
}

export async function neighbourRow(context: RowContext): Promise<RowResult> {
  const models = await twoDeviceModelsIn(modelCache);
  const rounds: Round[] = [];
  for (let round = 1; round <= context.rounds; round++) rounds.push(await measureRound(context, models, round));
  const limitMs = ({ alone, capacity }: Round): number => Math.max(2 * (alone.waitMs ?? 0), 2 * capacity.runMs);
  const against = (which: "sameModel" | "otherModel") =>
    rounds.map((round) => {
      const { waitMs, noise } = round[which];
      return { value: waitMs === undefined ? undefined : waitMs / limitMs(round), isQuiet: !(noise.isNoisy || round.alone.noise.isNoisy) };
    });
  const shares = (value: (deviceMs: number[]) => number) =>
    rounds.map(({ shared }) => ({ value: value(shared.deviceMs), isQuiet: !shared.noise.isNoisy }));
  const waits = (which: "alone" | "sameModel" | "otherModel"): string =>
    shown(
      rounds.map((round) => round[which].waitMs),
      1,
    );
  const shareOf = (at: number): string =>
    shown(
      rounds.map(({ shared }) => (100 * shared.deviceMs[at]!) / shared.deviceMs.reduce((sum, ms) => sum + ms, 0)),
      1,
    );
  return {
    title: `tenants on one host; ${shownCapacity(rounds.map(({ capacity }) => capacity))}, deadline ${deadlineRuns} runs`,
    table: {
      titles: ["light tenant's p99 wait ms: alone", "beside a loud one", "loud one on another model", "device time % of weights 1, 2, 4"],
      lines: [[waits("alone"), waits("sameModel"), waits("otherModel"), weights.map((_, at) => shareOf(at)).join(", ")]],
    },
    details: rounds,
    budgets: [
      budget({
        text: `a neighbour of ${loudness} × the load: p99 wait ≤ max(2 × alone, 2 runs), as a share of that`,
        rounds: against("sameModel"),
        limit: 1,
        better: "lower",
      }),
      budget({ text: "the same with the neighbour on another model", rounds: against("otherModel"), limit: 1, better: "lower" }),
      budget({
        text: "Jain index of device time ÷ weight ≥ 0.95",
        rounds: shares((ms) => jain(ms.map((each, at) => each / weights[at]!))),
        limit: 0.95,
        better: "higher",
        digits: 3,
      }),
      budget({
        text: "weights 1:2:4: no share is off by more than 5 %",
        rounds: shares((ms) => worstMissPercent(ms.map((got, at) => ({ got, weight: weights[at]! })))),
        limit: 5,
        better: "lower",
        digits: 1,
      }),
    ],
  };
}
