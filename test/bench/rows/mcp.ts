/** Calls of a model's tool beside the same jobs in JSON on /v1: where the door is all there is to do, and where the device is. */

import type { Cell } from "../cell.ts";
import { deviceModelIn } from "../systems/device-model.ts";
import { switchyard } from "../systems/switchyard.ts";
import type { System } from "../systems/system.ts";
import { budget, ratios } from "./budget.ts";
import { inTurns, rates } from "./comparisons.ts";
import { mlp, modelCache } from "./models.ts";
import type { RowContext, RowResult } from "./row.ts";

const deviceIds = { json: "j20", mcp: "m20" } as const;

export async function mcpRow(context: RowContext): Promise<RowResult> {
  const { clients, warmSeconds, seconds, threads, load } = context;
  const timing = { clients, warmClients: clients, warmSeconds, seconds, verifyEvery: 16 };
  await load.prepare(mlp(), 61);
  const doors = [switchyard({ threads, wire: "json" }), switchyard({ threads, wire: "mcp" })];
  const small = await inTurns(doors, { model: mlp(), ...timing }, context);

  const device = await deviceModelIn(modelCache);
  await load.prepare(device, 13);
  const devices: System[] = [
    { ...switchyard({ threads: 1, wire: "json" }), id: deviceIds.json },
    { ...switchyard({ threads: 1, wire: "mcp" }), id: deviceIds.mcp },
  ];
  const large = await inTurns(devices, { model: device, ...timing }, context);

  const ratio = (cells: Record<string, Cell[]>, over: string, under: string) => ratios(rates(cells[over]), rates(cells[under]));
  return {
    title: `Tool calls and JSON on /v1, ${clients} clients: tiny MLP, then a model of 20 ms`,
    titles: {
      j: "Switchyard, JSON on /v1",
      m: "Switchyard over MCP",
      [deviceIds.json]: "20 ms model, JSON on /v1",
      [deviceIds.mcp]: "20 ms model over MCP",
    },
    cells: { ...small, ...large },
    budgets: [
      budget({ text: "tiny MLP: MCP ≥ 0.2 × JSON", rounds: ratio(small, "m", "j"), limit: 0.2, better: "higher" }),
      budget({
        text: "20 ms model: MCP ≥ 0.95 × JSON",
        rounds: ratio(large, deviceIds.mcp, deviceIds.json),
        limit: 0.95,
        better: "higher",
        digits: 3,
      }),
    ],
  };
}
