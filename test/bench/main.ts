/**
 * The bench: Switchyard against an in-process server, against one BullMQ job per inference, and against a bare onnxruntime loop, in turns;
 * then on its own, under open loads with deadlines, several tenants, long queues and kills. One run on one machine. It reports; it does not judge: the exit code is 0 whenever all cells are valid. See docs/bench.md.
 */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { testRedisBinary } from "../support/redis.ts";
import { measureCell } from "./cell.ts";
import { LoadProcess } from "./load/load.ts";
import { describeMachine } from "./machine.ts";
import { profileUnderLoad } from "./profile.ts";
import { reportRow } from "./report.ts";
import { mlp, resnet } from "./rows/models.ts";
import type { Row, RowContext, RowResult } from "./rows/row.ts";
import { comparedWithBullmq, type RowName, rowNames, rows } from "./rows.ts";
import { type BullmqVariant, bullmqVariants, inProcess, oneJobPerInference, variantFlag, variantName } from "./systems/baselines.ts";
import { benchCores } from "./systems/bench-cores.ts";
import { providers } from "./systems/direct-session.ts";
import { type Profiled, switchyard } from "./systems/switchyard.ts";

const usage = `npm run bench -- [--row all|${rowNames.join("|")}] [--rounds 3] [--seconds 6] [--clients 64] [--quick]
                 [--bullmq best|${bullmqVariants.map(variantFlag).join("|")}]
                 [--threads 2] [--workers 1] [--coordinators 1] [--json file] [--profile coordinator|worker]`;

class WrongUse extends Error {}

interface Wishes {
  rows: readonly RowName[];
  rounds: number;
  seconds: number;
  warmSeconds: number;
  clients: number;
  threads: number;
  workers: number;
  coordinators: number;
  bullmq: string;
  json: string;
  profile: Profiled | undefined;
  isQuick: boolean;
}

function readWishes(): Wishes {
  const { values } = parseArgs({
    options: {
      row: { type: "string", default: "all" },
      rounds: { type: "string" },
      seconds: { type: "string" },
      clients: { type: "string", default: "64" },
      threads: { type: "string" },
      workers: { type: "string", default: "1" },
      coordinators: { type: "string", default: "1" },
      bullmq: { type: "string", default: "best" },
      json: { type: "string", default: "bench-results/latest.json" },
      profile: { type: "string" },
      quick: { type: "boolean", default: false },
    },
  });
  const number = (name: string, text: string): number => {
    const value = Number(text);
    if (!(value > 0)) throw new WrongUse(`--${name}: expected a number above 0, got ${text}`);
    return value;
  };
  const { row, profile } = values;
  if (row !== "all" && !(rowNames as readonly string[]).includes(row))
    throw new WrongUse(`--row: expected all, ${rowNames.join(", ")}; got ${row}`);
  if (profile !== undefined && profile !== "coordinator" && profile !== "worker")
    throw new WrongUse(`--profile: expected coordinator or worker, got ${profile}`);
  if (values.bullmq !== "best" && variantNamed(values.bullmq) === undefined)
    throw new WrongUse(`--bullmq: expected best or a variant, got ${values.bullmq}`);
  return {
    rows: row === "all" ? rowNames : [row as RowName],
    rounds: number("rounds", values.rounds ?? (values.quick ? "1" : "3")),
    seconds: number("seconds", values.seconds ?? (values.quick ? "2" : "6")),
    warmSeconds: values.quick ? 2 : 5, // coordinator and Redis keep to a core each from the third second on
    clients: number("clients", values.clients),
    threads: number("threads", values.threads ?? String(availableParallelism())),
    workers: Math.ceil(number("workers", values.workers)),
    coordinators: Math.ceil(number("coordinators", values.coordinators)),
    bullmq: values.bullmq,
    json: values.json,
    profile,
    isQuick: values.quick,
  };
}

function variantNamed(name: string): BullmqVariant | undefined {
  return bullmqVariants.find((variant) => variantFlag(variant) === name);
}

/** Trials of one variant, since single ones are off by a tenth. */
const trialTurns = 2;

/** The fastest way to do one BullMQ job per inference, found by trying each for a moment on the tiny model. */
async function bestBullmq(wishes: Wishes, load: LoadProcess): Promise<{ variant: BullmqVariant; trials: Record<string, number> }> {
  const named = variantNamed(wishes.bullmq);
  if (named !== undefined) return { variant: named, trials: {} };
  await load.prepare(mlp(), 61);
  const { clients } = wishes;
  // a stack may do better in its first seconds than it does from then on
  const plan = { model: mlp(), clients, warmClients: clients, warmSeconds: 8, seconds: 3, verifyEvery: 16 };
  const trials: Record<string, number> = {};
  for (let turn = 0; turn < trialTurns; turn++) {
    for (const variant of turn % 2 === 0 ? bullmqVariants : bullmqVariants.toReversed()) {
      const cell = await measureCell(oneJobPerInference(variant), plan, load);
      const rate = cell.figures.jobsPerSecond;
      const name = variantName(variant);
      trials[name] = (trials[name] ?? 0) + rate / trialTurns;
      console.log(`  trial b (${name}): ${rate.toFixed(0)} jobs/s${cell.noise.isNoisy ? " NOISY" : ""}`);
    }
  }
  const of = (variant: BullmqVariant): number => trials[variantName(variant)]!;
  const variant = bullmqVariants.reduce((best, one) => (of(one) > of(best) ? one : best));
  return { variant, trials: Object.fromEntries(Object.entries(trials).map(([name, rate]) => [name, Math.round(rate)])) };
}

function versionOf(library: string): string {
  const file = fileURLToPath(new URL(`../../node_modules/${library}/package.json`, import.meta.url));
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

async function describe(wishes: Wishes): Promise<Record<string, unknown>> {
  const libraries = Object.fromEntries(["bullmq", "ioredis", "fastify", "onnxruntime-node"].map((name) => [name, versionOf(name)]));
  const { kind, version } = await testRedisBinary();
  return {
    at: new Date().toISOString(),
    wishes,
    providers,
    machine: describeMachine(),
    redis: `${kind} ${version}, appendfsync everysec`,
    cores: benchCores() && wishes.coordinators === 1 ? "coordinator and Redis bound to one each while busy" : "as the system likes",
    libraries,
  };
}

/** A load process of its own for each row, so that one that fails leaves nothing to the next. */
async function withLoad<Answer>(use: (load: LoadProcess) => Promise<Answer>): Promise<Answer> {
  const load = new LoadProcess();
  try {
    return await use(load);
  } finally {
    load.close();
  }
}

/** A row that fails is told and the others go on; then the whole is not valid. */
async function bench(wishes: Wishes): Promise<void> {
  const facts = await describe(wishes);
  console.log(JSON.stringify(facts));
  const needsBullmq = wishes.rows.some((row) => comparedWithBullmq.has(row));
  const { variant, trials } = needsBullmq
    ? await withLoad((load) => bestBullmq(wishes, load))
    : { variant: bullmqVariants[0]!, trials: {} };
  const systems: RowContext["systems"] = {
    a: inProcess,
    b: oneJobPerInference(variant),
    s: switchyard({ threads: wishes.threads, furtherWorkers: wishes.workers - 1, coordinators: wishes.coordinators }),
  };
  const { rounds, seconds, warmSeconds, clients, threads, isQuick } = wishes;
  const plan = { systems, rounds, seconds, warmSeconds, clients, threads, isQuick, say: (line: string) => console.log(line) };
  const results: { row: RowName; result: RowResult }[] = [];
  const failures: string[] = [];
  for (const row of wishes.rows) {
    console.log(`${row}:`);
    const measure: Row = rows[row];
    try {
      results.push({ row, result: await withLoad((load) => measure({ ...plan, load })) });
    } catch (error) {
      failures.push(`${row}: ${(error as Error).message}`);
      console.log(`  FAILED: ${(error as Error).message}`);
    }
  }
  const titles = Object.fromEntries(Object.values(systems).map(({ id, title }) => [id, title]));
  for (const { row, result } of results) console.log(`\n${reportRow(row, result, { ...titles, ...result.titles })}`);
  mkdirSync(path.dirname(path.resolve(wishes.json)), { recursive: true });
  const report = { ...facts, titles, bullmqTrials: trials, rows: results.map(({ row, result }) => ({ row, ...result })), failures };
  writeFileSync(wishes.json, `${JSON.stringify(report, undefined, 2)}\n`);
  console.log(`\nEvery round: ${wishes.json}`);
  if (failures.length > 0) throw new Error(`not valid:\n${failures.join("\n")}`);
}

/** `--row resnet --profile …` profiles under the heavy model, all else under the tiny one. */
function profiledLoad({ rows: [row], seconds, warmSeconds, clients }: Wishes) {
  const model = row === "resnet" ? resnet() : mlp();
  return { model, clients: row === "resnet" ? 3 * model.maxBatchItems : clients, seconds, warmSeconds };
}

for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));
try {
  const wishes = readWishes();
  const { profile } = wishes;
  if (profile === undefined) await bench(wishes);
  else console.log(await withLoad((load) => profileUnderLoad(profile, { ...profiledLoad(wishes), load })));
} catch (error) {
  const isWrongUse = error instanceof WrongUse || String((error as { code?: string }).code).startsWith("ERR_PARSE_ARGS");
  process.stderr.write(`${(error as Error).message}\n${isWrongUse ? `${usage}\n` : ""}`);
  process.exitCode = 1;
}
