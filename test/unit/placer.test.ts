/** What the placement loop makes of hosts as they beat: which of their queues are models to plan for. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { ModelVersion } from "@switchyard/protocol";
import { Placer } from "../../coordinator/src/application/placer.ts";
import type { HostDirectory, HostSnapshot } from "../../coordinator/src/ports/host-registry.ts";
import type { ModelRegistry } from "../../coordinator/src/ports/model-registry.ts";
import type { HostOrders } from "../../coordinator/src/ports/placement-board.ts";

const published = (tag: string, config: ModelVersion["config"]): ModelVersion =>
  ({ model: tag, version: 1, digest: tag, tag, sizeBytes: 1000, path: "", signature: { inputs: [], outputs: [] }, config }) as ModelVersion;

test("a queue of jobs with a requirement of their own is no model: nothing is dropped to make room for what is already there", async () => {
  const base = published("base", { pin: true });
  const coming = published("coming", { pin: true });
  const choosy: ModelVersion = { ...base, tag: "choosy", require: { labels: { site: "north" } } };
  const byTag = new Map([base, coming, choosy].map((version) => [version.tag, version]));
  const held = { maxItems: 1, reason: "", loadMs: 1 };
  const host = {
    incarnation: "one",
    view: { id: "one", state: "ready" },
    facts: { modelMemoryMb: 1_000, mostModels: 2, labels: {} },
    loaded: { base: held, choosy: held },
    usedMs: {},
    failures: {},
  } as unknown as HostSnapshot;
  let orders: ReadonlyMap<string, HostOrders> = new Map();
  const placer = new Placer({
    hosts: { snapshots: () => [host], able: () => [host] } as unknown as HostDirectory,
    openQueues: async () => [],
    models: { promised: () => [], published: () => [base, coming], versionOf: (tag: string) => byTag.get(tag) } as unknown as ModelRegistry,
    board: {
      lead: async () => true,
      want: async () => {},
      wanted: async () => new Set<string>(),
      publish: async (plan) => {
        orders = plan;
      },
    },
    clock: { monotonicMs: () => 1_000 } as never,
    log: { info: () => {} } as never,
  });
  await placer.round();
  assert.deepEqual(orders.get("one"), { load: ["coming"], drop: [], keep: ["base", "coming"] });
});
