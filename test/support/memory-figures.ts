/** Figures, drains and an overview without a store. */

import { Figures } from "../../coordinator/src/application/figures.ts";
import { Overview } from "../../coordinator/src/application/overview.ts";
import type { DrainBoard } from "../../coordinator/src/ports/drain-board.ts";
import type { FigureBoard } from "../../coordinator/src/ports/figure-board.ts";
import type { HostRegistry } from "../../coordinator/src/ports/host-registry.ts";
import type { JobStore } from "../../coordinator/src/ports/job-store.ts";
import type { ModelRegistry } from "../../coordinator/src/ports/model-registry.ts";

/** What one process leaves on it. */
export function memoryBoard(left: Map<number, Map<string, string>> = new Map(), me = "one"): FigureBoard & { reads: number } {
  return {
    reads: 0,
    async leave(slot, text) {
      left.set(slot, (left.get(slot) ?? new Map()).set(me, text));
    },
    async read(slots) {
      this.reads++;
      return slots.map((slot) => [...(left.get(slot)?.values() ?? [])]);
    },
  };
}

export function memoryDrains(asked: Set<string> = new Set()): DrainBoard {
  return { ask: async (id) => void asked.add(id), lift: async (id) => asked.delete(id) };
}

export function memoryOverview(parts: {
  hosts: HostRegistry;
  models: ModelRegistry;
  nowMs?: () => number;
  figures?: Figures;
  store?: Pick<JobStore, "waiting">;
}): Overview {
  const nowMs = parts.nowMs ?? (() => Date.now());
  const figures = parts.figures ?? new Figures({ board: memoryBoard(), nowMs });
  return new Overview({
    figures,
    forecasts: { waitMs: (_tag, waiting) => (waiting === 0 ? 0 : null) },
    hosts: parts.hosts,
    jobs: { waiting: async () => [] },
    models: parts.models,
    store: { nowMs, waiting: async () => [], ...parts.store },
  });
}
