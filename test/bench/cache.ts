/**
 * What the response cache gives and costs, on the tiny MLP: the same clients against the model without a cache, against one whose answers are
 * all known, and against one where no request comes twice within an answer's life. In turns, in one run; ratios within a round.
 * Usage: node scripts/launch.js --run test/bench/cache.ts [--rounds 3] [--seconds 6] [--clients 64]
 */

import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { generateBenchModels } from "../../scripts/generate-bench-models.ts";
import { type Cell, measureCell } from "./cell.ts";
import { LoadProcess } from "./load/load.ts";
import { spreadOf } from "./statistics.ts";
import { switchyard } from "./systems/switchyard.ts";
import type { SystemModel } from "./systems/system.ts";

const repositories = fileURLToPath(new URL("../../.cache/bench-models", import.meta.url));

/** More requests than are asked in a second: with a life of a second none is known when it comes again. */
const manySamples = 20_000;
const kinds = {
  plain: { settings: "", samples: 61 },
  hits: { settings: "cache: {ttl_s: 3600}\n", samples: 61 },
  misses: { settings: "cache: {ttl_s: 1}\n", samples: manySamples },
} as const;
type Kind = keyof typeof kinds;
const kindNames = Object.keys(kinds) as Kind[];

/** The model in a repository of its own, with these further settings. */
function modelOf(kind: Kind): SystemModel {
  const repository = path.join(repositories, `mlp-cache-${kind}`);
  mkdirSync(repository, { recursive: true });
  const [made] = generateBenchModels({ folder: repository, seed: 1, which: ["mlp"] });
  writeFileSync(path.join(repository, "mlp", "model.yaml"), `max_batch_items: ${made!.maxBatchItems}\n${kinds[kind].settings}`);
  return { name: "mlp", repository, path: made!.path, maxBatchItems: made!.maxBatchItems, itemShape: [784] };
}

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "6" },
    clients: { type: "string", default: "64" },
  },
});
const clients = Number(values.clients);
const cells: Record<Kind, Cell[]> = { plain: [], hits: [], misses: [] };
const load = new LoadProcess();
try {
  for (let round = 0; round < Number(values.rounds); round++) {
    for (let turn = 0; turn < kindNames.length; turn++) {
      const kind = kindNames[(round + turn) % kindNames.length]!;
      const model = modelOf(kind);
      await load.prepare(model, kinds[kind].samples);
      const plan = { model, clients, warmClients: clients, warmSeconds: 3, seconds: Number(values.seconds), verifyEvery: 16 };
      const cell = await measureCell(switchyard({ threads: 1 }), plan, load);
      cells[kind].push(cell);
      const { figures, cpuUsPerJob, noise } = cell;
      const cpu = Object.entries(cpuUsPerJob).map(([role, us]) => `${role} ${us}`);
      console.log(
        `round ${round + 1} ${kind}: ${figures.jobsPerSecond.toFixed(0)}/s, p50 ${figures.latencyMs.p50} ms, p99 ${figures.latencyMs.p99} ms, ` +
          `CPU µs: ${cpu.join(", ")}${noise.isNoisy ? " NOISY" : ""}`,
      );
    }
  }
} finally {
  load.close();
}
const rateOf = ({ figures }: Cell): number => figures.jobsPerSecond;
const ratio = (kind: Kind, by: Kind): string => {
  const { median, low, high } = spreadOf(cells[kind].map((cell, round) => rateOf(cell) / rateOf(cells[by][round]!)));
  return `${kind} ÷ ${by}: ${median.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})`;
};
for (const kind of kindNames) console.log(`${kind}: ${spreadOf(cells[kind].map(rateOf)).median.toFixed(0)}/s`);
console.log([ratio("hits", "plain"), ratio("hits", "misses"), ratio("misses", "plain")].join("\n"));
