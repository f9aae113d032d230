/** The rows of the bench by name, in the order in which they run. */

import { classesRow } from "./rows/classes.ts";
import { deviceRow, inputsRow, latencyRow, mlpRow, resnetRow } from "./rows/comparisons.ts";
import { goodputRow } from "./rows/goodput.ts";
import { grpcRow } from "./rows/grpc.ts";
import { idleRow } from "./rows/idle.ts";
import { killedRow } from "./rows/killed.ts";
import { mcpRow } from "./rows/mcp.ts";
import { metricsRow } from "./rows/metrics.ts";
import { millionRow } from "./rows/million.ts";
import { neighbourRow } from "./rows/neighbour.ts";
import { refusalsRow } from "./rows/refusals.ts";
import type { Row } from "./rows/row.ts";
import { sharedRow } from "./rows/shared.ts";
import { sloRow } from "./rows/slo.ts";
import { tracingRow } from "./rows/tracing.ts";

export const rows = {
  mlp: mlpRow,
  latency: latencyRow,
  resnet: resnetRow,
  inputs: inputsRow,
  device: deviceRow,
  grpc: grpcRow,
  mcp: mcpRow,
  goodput: goodputRow,
  refusals: refusalsRow,
  slo: sloRow,
  neighbour: neighbourRow,
  shared: sharedRow,
  classes: classesRow,
  million: millionRow,
  metrics: metricsRow,
  killed: killedRow,
  idle: idleRow,
  tracing: tracingRow,
} as const satisfies Record<string, Row>;

export type RowName = keyof typeof rows;
export const rowNames = Object.keys(rows) as RowName[];

/** Rows that set Switchyard against one BullMQ job per inference, whose best variant has to be found first. */
export const comparedWithBullmq: ReadonlySet<RowName> = new Set(["mlp", "latency"]);
