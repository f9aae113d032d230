/** What traces cost: none named, a hundredth of them recorded, all of them. Spans go to a collector that takes and drops them. */

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { switchyard } from "../systems/switchyard.ts";
import type { System } from "../systems/system.ts";
import { inTurns } from "./comparisons.ts";
import { mlp } from "./models.ts";
import type { RowContext, RowResult } from "./row.ts";

export async function tracingRow(context: RowContext): Promise<RowResult> {
  const { clients, load, seconds, threads, warmSeconds } = context;
  await load.prepare(mlp(), 61);
  const collector = createServer((request, response) => {
    request.resume().on("end", () => response.writeHead(200, { "content-type": "application/x-protobuf" }).end());
  });
  await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
  const OTEL_EXPORTER_OTLP_ENDPOINT = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
  const traced = (id: string, share: number): System => {
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER: "parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG: String(share) };
    return { ...switchyard({ threads, env }), id };
  };
  try {
    const systems = [switchyard({ threads }), traced("t1", 0.01), traced("t100", 1)];
    const cells = await inTurns(systems, { model: mlp(), clients, warmClients: clients, warmSeconds, seconds, verifyEvery: 16 }, context);
    const titles = { s: "tracing off", t1: "1 % of traces recorded", t100: "all traces recorded" };
    return { title: `tracing, tiny MLP, binary, ${clients} clients`, titles, cells, budgets: [] };
  } finally {
    collector.close();
    collector.closeAllConnections();
  }
}
