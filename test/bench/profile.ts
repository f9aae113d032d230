/** Where a process of Switchyard spends its time under full load: self time by function, from V8's own profiler. */

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { measureOnce } from "./cell.ts";
import type { LoadProcess } from "./load/load.ts";
import { type Profiled, switchyard } from "./systems/switchyard.ts";
import type { SystemModel } from "./systems/system.ts";

interface CpuProfile {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  samples: number[];
  timeDeltas: number[];
}

export interface SelfTime {
  where: string;
  percent: number;
}

const idle = "(idle)";
const root = fileURLToPath(new URL("../../", import.meta.url));

type CallFrame = CpuProfile["nodes"][number]["callFrame"];

/**
 * Where most self time went, under the names that `nameOf` gives; idle time is left out and the rest is 100 %. Only the last `seconds`
 * before the last work count, which leaves out start and warm-up.
 */
export function selfTimes(
  profile: CpuProfile,
  of: { seconds: number; top: number; nameOf: (frame: CallFrame) => string },
): { busyPercent: number; top: SelfTime[] } {
  const names = new Map(profile.nodes.map(({ id, callFrame }) => [id, callFrame.functionName === "(idle)" ? idle : of.nameOf(callFrame)]));
  const spent = new Map<string, number>();
  let busy = 0;
  let seenUs = 0;
  const last = profile.samples.findLastIndex((id) => names.get(id) !== idle);
  for (let at = last; at >= 0 && seenUs < of.seconds * 1e6; at--) {
    const name = names.get(profile.samples[at]!)!;
    const us = profile.timeDeltas[at] ?? 0;
    seenUs += us;
    if (name === idle) continue;
    busy += us;
    spent.set(name, (spent.get(name) ?? 0) + us);
  }
  const sorted = [...spent].toSorted((left, right) => right[1] - left[1]).slice(0, of.top);
  return { busyPercent: (100 * busy) / seenUs, top: sorted.map(([where, us]) => ({ where, percent: (100 * us) / busy })) };
}

function functionOf({ functionName, url, lineNumber }: CallFrame): string {
  const name = functionName === "" ? "(anonymous)" : functionName;
  return url === "" ? name : `${name} ${fileOf(url)}:${lineNumber + 1}`;
}

const fileOf = (url: string): string => (url.startsWith("file:") ? path.relative(root, fileURLToPath(url)) : url);

/** A library, a folder of ours, or a part of Node. */
function partOf({ functionName, url }: CallFrame): string {
  if (url === "") return functionName.startsWith("(") ? functionName : "native code";
  const file = fileOf(url);
  return /^node_modules\/(@[^/]+\/)?[^/]+/.exec(file)?.[0] ?? (file.startsWith("node:") ? file : path.dirname(file));
}

/** Runs the load against a profiled process and answers its profile as text, one part per thread, and Redis's commands per job. */
export async function profileUnderLoad(
  of: Profiled,
  plan: { model: SystemModel; load: LoadProcess; clients: number; warmSeconds: number; seconds: number },
): Promise<string> {
  const folder = mkdtempSync(path.join(tmpdir(), "switchyard-profile-"));
  try {
    const { load, ...rest } = plan;
    await load.prepare(plan.model, 5);
    const system = switchyard({ profile: { process: of, folder } });
    const cell = await measureOnce(system, { ...rest, warmClients: plan.clients, verifyEvery: 16 }, load);
    const parts = [
      `${cell.figures.jobsPerSecond.toFixed(0)} jobs/s while profiled; CPU µs per job ${JSON.stringify(cell.cpuUsPerJob)}; jobs a run ${cell.meanBatch}`,
      `noise ${JSON.stringify(cell.noise)}`,
      "Redis per job, calls and microseconds by command:",
      ...Object.entries(cell.redisPerJob ?? {}).map(
        ([name, { calls, us }]) => `${us.toFixed(1).padStart(7)} µs  ${calls.toFixed(2)} × ${name}`,
      ),
    ];
    parts.push(
      "Redis by script, mean of a sample:",
      ...Object.entries(cell.redisScripts ?? {}).map(
        ([name, { calls, us }]) => `${(us / calls).toFixed(0).padStart(7)} µs  ${calls} × ${name}`,
      ),
    );
    for (const name of readdirSync(folder).toSorted()) {
      const profile = JSON.parse(readFileSync(path.join(folder, name), "utf8")) as CpuProfile;
      const byFunction = selfTimes(profile, { seconds: plan.seconds, top: 25, nameOf: functionOf });
      const byPart = selfTimes(profile, { seconds: plan.seconds, top: 15, nameOf: partOf });
      const shown = ({ where, percent }: SelfTime): string => `${percent.toFixed(1).padStart(5)} %  ${where}`;
      parts.push(`\n${of}, ${name}: busy for ${byFunction.busyPercent.toFixed(0)} % of the time; self time by function`);
      parts.push(...byFunction.top.map(shown), "", "by part", ...byPart.top.map(shown));
    }
    return parts.join("\n");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
