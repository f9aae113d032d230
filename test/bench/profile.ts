/** Where a process of Switchyard spends its time under the tiny model's full load: self time by function, from V8's own profiler. */

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { measureCell } from "./cell.ts";
import type { LoadProcess } from "./load/load.ts";
import { mlp } from "./rows.ts";
import { type Profiled, switchyard } from "./systems/switchyard.ts";

interface CpuProfile {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  samples: number[];
  timeDeltas: number[];
}

export interface SelfTime {
  where: string;
  percent: number;
}

const root = fileURLToPath(new URL("../../", import.meta.url));

/** The functions with most self time; idle time is left out and the rest is 100 %. */
export function selfTimes(profile: CpuProfile, top: number): SelfTime[] {
  const names = new Map(profile.nodes.map(({ id, callFrame }) => [id, nameOf(callFrame)]));
  const spent = new Map<string, number>();
  let busy = 0;
  for (const [at, id] of profile.samples.entries()) {
    const name = names.get(id)!;
    if (name === "(idle)") continue;
    const us = profile.timeDeltas[at] ?? 0;
    busy += us;
    spent.set(name, (spent.get(name) ?? 0) + us);
  }
  const sorted = [...spent].toSorted((left, right) => right[1] - left[1]).slice(0, top);
  return sorted.map(([where, us]) => ({ where, percent: (100 * us) / busy }));
}

function nameOf({ functionName, url, lineNumber }: CpuProfile["nodes"][number]["callFrame"]): string {
  const name = functionName === "" ? "(anonymous)" : functionName;
  if (url === "") return name;
  const file = url.startsWith("file:") ? path.relative(root, fileURLToPath(url)) : url;
  return `${name} ${file}:${lineNumber + 1}`;
}

/** Runs the load against a profiled process and answers its profile as text, one part per thread, and Redis's commands per job. */
export async function profileUnderLoad(
  of: Profiled,
  plan: { load: LoadProcess; clients: number; warmSeconds: number; seconds: number },
): Promise<string> {
  const folder = mkdtempSync(path.join(tmpdir(), "switchyard-profile-"));
  try {
    const { load, ...rest } = plan;
    await load.prepare(mlp(), 61);
    const cell = await measureCell(
      switchyard({ process: of, folder }),
      { ...rest, model: mlp(), warmClients: plan.clients, verifyEvery: 16 },
      load,
    );
    const parts = [
      `${cell.figures.jobsPerSecond.toFixed(0)} jobs/s while profiled; CPU µs per job ${JSON.stringify(cell.cpuUsPerJob)}; jobs a run ${cell.meanBatch}; ` +
        `Redis per job ${JSON.stringify(cell.redisPerJob)}`,
    ];
    for (const name of readdirSync(folder).toSorted()) {
      const profile = JSON.parse(readFileSync(path.join(folder, name), "utf8")) as CpuProfile;
      const lines = selfTimes(profile, 25).map(({ where, percent }) => `${percent.toFixed(1).padStart(5)} %  ${where}`);
      parts.push(`${of}, ${name}: ${profile.samples.length} samples, self time without idle`, ...lines);
    }
    return parts.join("\n");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
