import assert from "node:assert/strict";
import { test } from "node:test";
import type { EstimatesView } from "@switchyard/protocol";
import { needsOf } from "../../coordinator/src/doors/mcp/prompt-facts.ts";

const device = { device: "cpu/2", size_class: 0, source: "window" as const, samples: 100, item_ms: 5 };
const estimates = (devices: EstimatesView["devices"]): EstimatesView => ({ model: "m", version: 1, network_ms: 1, devices });

test("hosts are planned for by the batch size that serves most, with room for bursts", () => {
  const runs = [
    { items: 1, ms: 8 },
    { items: 8, ms: 18 },
    { items: 16, ms: 48 },
  ];
  const view = estimates([{ ...device, runs, overhead_ms: 2 }]);
  assert.deepEqual(needsOf(view, 1_000), [{ device: "cpu/2", items_per_s: 400, batch_items: 8, hosts: 4 }]);
  assert.deepEqual(needsOf(view, 1), [{ device: "cpu/2", items_per_s: 400, batch_items: 8, hosts: 1 }]);
  assert.deepEqual(needsOf(view, undefined), [{ device: "cpu/2", items_per_s: 400, batch_items: 8 }]);
});

test("of jobs of several sizes the slowest decide, each kind of host for itself, and what was never measured is left out", () => {
  const view = estimates([
    { ...device, runs: [{ items: 1, ms: 10 }] },
    { ...device, size_class: 9, runs: [{ items: 1, ms: 100 }] },
    { ...device, size_class: 4, runs: [{ items: 1, ms: 50 }] },
    { ...device, device: "cuda/0", runs: [{ items: 4, ms: 1 }] },
    { ...device, device: "cpu/4", runs: [] },
    { ...device, device: "cpu/8", runs: [{ items: 1, ms: 0 }] },
  ]);
  assert.deepEqual(needsOf(view, 7), [
    { device: "cpu/2", items_per_s: 10, batch_items: 1, hosts: 1 },
    { device: "cuda/0", items_per_s: 4_000, batch_items: 4, hosts: 1 },
  ]);
  assert.equal(needsOf(view, 7.1)[0]?.hosts, 2);
});
