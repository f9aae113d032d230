/** The gRPC door beside the HTTP door in binary: where the door is all there is to do, and where the device is. */

import type { Cell } from "../cell.ts";
import { deviceModelIn } from "../systems/device-model.ts";
import { switchyard } from "../systems/switchyard.ts";
import type { System } from "../systems/system.ts";
import { budget, ratios } from "./budget.ts";
import { inTurns, rates } from "./comparisons.ts";
import { mlp, modelCache } from "./models.ts";
import type { RowContext, RowResult } from "./row.ts";

const deviceIds = { s: "s20", g: "g20" } as const;

export async function grpcRow(context: RowContext): Promise<RowResult> {
  const { clients, warmSeconds, seconds, threads, load } = context;
  const timing = { warmSeconds, seconds, verifyEvery: 16 };
  await load.prepare(mlp(), 61);
  const doors = [switchyard({ threads }), switchyard({ threads, wire: "grpc" })];
  const small = await inTurns(doors, { model: mlp(), clients, warmClients: clients, ...timing }, context);

  const device = await deviceModelIn(modelCache);
  const deviceClients = 3 * device.maxBatchItems;
  await load.prepare(device, 13);
  const devices: System[] = [
    { ...switchyard({ threads: 1 }), id: deviceIds.s },
    { ...switchyard({ threads: 1, wire: "grpc" }), id: deviceIds.g },
  ];
  const large = await inTurns(devices, { model: device, clients: deviceClients, warmClients: deviceClients, ...timing }, context);

  const ratio = (cells: Record<string, Cell[]>, over: string, under: string) => ratios(rates(cells[over]), rates(cells[under]));
  const equal = ratio(large, deviceIds.g, deviceIds.s);
  return {
    title: `gRPC and HTTP, tiny MLP with ${clients} clients, then a model of 20 ms with ${deviceClients}`,
    titles: { g: "Switchyard over gRPC", [deviceIds.s]: "20 ms model over HTTP", [deviceIds.g]: "20 ms model over gRPC" },
    cells: { ...small, ...large },
    budgets: [
      budget({ text: "tiny MLP: gRPC ≥ 0.4 × HTTP", rounds: ratio(small, "g", "s"), limit: 0.4, better: "higher" }),
      budget({ text: "20 ms model: gRPC ≥ 0.95 × HTTP", rounds: equal, limit: 0.95, better: "higher", digits: 3 }),
      budget({ text: "20 ms model: gRPC ≤ 1.05 × HTTP", rounds: equal, limit: 1.05, better: "lower", digits: 3 }),
    ],
  };
}
