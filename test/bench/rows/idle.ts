/** What Switchyard costs while nobody asks for anything: memory and CPU of coordinator and worker, with one model and with thousands. */

import { readFileSync } from "node:fs";
import path from "node:path";
import { generateTinyModels } from "../../../scripts/generate-bench-models.ts";
import { round, sleep } from "../cell.ts";
import { readMachine, useBetween } from "../machine.ts";
import { startSwitchyard } from "../systems/switchyard.ts";
import { budget } from "./budget.ts";
import { modelCache } from "./models.ts";
import type { RowContext, RowResult } from "./row.ts";

const roles = ["door", "worker"] as const;
/** So that what a start leaves behind is gone: compiled code, the first scan. */
const settleSeconds = 8;

interface Idle {
  models: number;
  readySeconds: number;
  megabytes: Record<(typeof roles)[number], number>;
  cpuPercent: Record<(typeof roles)[number], number>;
}

function residentMegabytes(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1];
  return round(Number(kib) / 1024, 0);
}

async function measure(models: number, seconds: number): Promise<Idle> {
  const repository = path.join(modelCache, `tiny-${models}`);
  generateTinyModels({ folder: repository, seed: 1, count: models });
  const running = await startSwitchyard({ repository });
  try {
    await sleep(settleSeconds);
    const pids = roles.map((role) => running.roles[role]!);
    const before = readMachine(new Set(pids));
    await sleep(seconds);
    const use = useBetween(before, readMachine(new Set(pids)));
    const byRole = (value: (pid: number) => number): Idle["megabytes"] => ({ door: value(pids[0]!), worker: value(pids[1]!) });
    return {
      models,
      readySeconds: round(running.readyMs / 1000, 1),
      megabytes: byRole(residentMegabytes),
      cpuPercent: byRole((pid) => round((use.cpuUs.get(pid) ?? 0) / 1e4 / seconds, 2)),
    };
  } finally {
    await running.stop();
  }
}

/** One round: memory and idle work do not depend on what else the machine does. */
export async function idleRow(context: RowContext): Promise<RowResult> {
  const found: Idle[] = [];
  for (const models of [1, context.isQuick ? 200 : 2000]) {
    const idle = await measure(models, 2 * context.seconds);
    found.push(idle);
    context.say(`  ${JSON.stringify(idle)}`);
  }
  const each = (value: (idle: Idle) => number) => found.map((idle) => ({ value: value(idle), isQuiet: true }));
  const most = (values: { value: number; isQuiet: boolean }[]) => [
    values.reduce((left, right) => (right.value > left.value ? right : left)),
  ];
  const limit = { better: "lower", digits: 1 } as const;
  return {
    title: "nobody asks for anything",
    table: {
      titles: ["models", "ready after s", "coordinator MB", "worker MB", "coordinator CPU %", "worker CPU %"],
      lines: found.map(({ models, readySeconds, megabytes, cpuPercent }) =>
        [models, readySeconds, megabytes.door, megabytes.worker, cpuPercent.door, cpuPercent.worker].map(String),
      ),
    },
    details: found,
    budgets: [
      budget({ text: "the coordinator's memory ≤ 200 MB", rounds: most(each(({ megabytes }) => megabytes.door)), limit: 200, ...limit }),
      budget({
        text: "the worker's memory, with what it loaded unasked, ≤ 200 MB",
        rounds: most(each(({ megabytes }) => megabytes.worker)),
        limit: 200,
        ...limit,
      }),
      budget({
        text: "CPU of each ≤ 2 % of a core",
        rounds: most(each(({ cpuPercent }) => Math.max(cpuPercent.door, cpuPercent.worker))),
        limit: 2,
        ...limit,
      }),
      budget({ text: "ready within 60 s", rounds: most(each(({ readySeconds }) => readySeconds)), limit: 60, ...limit }),
    ],
  };
}
