/** What is written while a version is removed, and who is left with it when its removal ends in the middle. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  emptyTally,
  type ModelAlias,
  type ModelState,
  type ModelVersion,
  type QueueTally,
  SwitchyardError,
  type UploadedVersion,
} from "@switchyard/protocol";
import { VersionRemoval } from "../../coordinator/src/application/version-removal.ts";
import type { Clock } from "../../coordinator/src/clock.ts";
import type { ModelStatus } from "../../coordinator/src/ports/model-registry.ts";

const of = { model: "m", version: 1 };
const upload = { ...of, digest: "d", files: [] } as unknown as UploadedVersion;
const storeMs = 1_000_000;

interface Meanwhile {
  alias: (of: Partial<ModelAlias["target"]>) => void;
  load: () => void;
  open: () => void;
  /** The store refuses so many changes from now on. */
  lose: (changes: number) => void;
  /** Another coordinator took the mark away. */
  clear: () => void;
  entry: () => UploadedVersion | undefined;
}

/** `act`: what happens while the removal waits for the other coordinators. */
function rig({ act = () => {}, answeredMs = 0 }: { act?: (meanwhile: Meanwhile) => void; answeredMs?: number } = {}) {
  const entries = new Map([[1, upload]]);
  const aliases = new Map<string, ModelAlias>();
  const states = new Map<string, ModelState>();
  let openQueues: string[] = [];
  let lost = 0;
  let published = 0;
  let nowMs = 0;
  let hasActed = false;
  const status = { version: { ...of, digest: "d" } as unknown as ModelVersion } as ModelStatus;
  const removal = new VersionRemoval({
    uploads: {
      find: async () => entries.get(1),
      change: async (_of: unknown, change: (before: UploadedVersion | undefined, nowMs: number) => UploadedVersion | undefined) => {
        if (lost-- > 0) throw new SwitchyardError("store_unavailable", "away");
        const after = change(entries.get(1), storeMs);
        if (after) entries.set(1, after);
        else entries.delete(1);
        return after;
      },
    } as never,
    aliases: { all: async () => new Map([["m", aliases]]) } as never,
    states: { all: async () => states } as never,
    models: {
      leaving: () => [...entries.values()].filter(({ leavingMs }) => leavingMs !== undefined),
      promised: () => [status.version],
      queuesOf: async () => ["tag"],
      resolve: () => status,
      versions: () => [status],
    },
    jobs: { openQueues: async () => openQueues },
    statistics: { read: async () => new Map<string, QueueTally>([["tag", { ...emptyTally(), lastMs: answeredMs }]]) },
    takeOver: async () => {
      published++;
    },
    clock: {
      monotonicMs: () => nowMs,
      sleep: async (ms: number) => {
        nowMs += ms;
        if (hasActed) return;
        hasActed = true;
        act({
          alias: (target) => void aliases.set("a", { target, previous: [], updatedMs: 0 } as ModelAlias),
          load: () => states.set("m", { state: "loaded" } as ModelState),
          open: () => (openQueues = ["tag"]),
          lose: (changes) => (lost = changes),
          clear: () => entries.set(1, upload),
          entry: () => entries.get(1),
        });
      },
    } as unknown as Clock,
    log: { info() {}, warn() {}, error() {} },
  });
  return { removal, entries, published: () => published, pass: (ms: number) => (nowMs += ms) };
}

test("a version that nothing stands on is marked, and gone when every coordinator knows", async () => {
  let marked: UploadedVersion | undefined;
  const { entries, published, removal } = rig({ act: ({ entry }) => (marked = entry()) });
  await removal.remove(of);
  assert.deepEqual(marked, { ...upload, leavingMs: storeMs });
  assert.equal(entries.size, 0);
  assert.equal(published(), 2);
});

for (const [what, act, why] of [
  ["an alias names it", ({ alias }) => alias({ version: 1 }), /the alias 'a' names it;/],
  ["a split names it", ({ alias }) => alias({ split: { 1: 5, 2: 5 } }), /in its split/],
  ["a shadow names it", ({ alias }) => alias({ version: 2, shadow: { version: 1, share: 1 } }), /as its shadow/],
  ["it is loaded by request", ({ load }) => load(), /is loaded by request/],
  ["a job for it was admitted", ({ open }) => open(), /jobs for it wait or run/],
] as [string, (meanwhile: Meanwhile) => void, RegExp][]) {
  test(`a version of which ${what} while it is removed was never gone, and stays as it was`, async () => {
    const { entries, published, removal } = rig({ act });
    const isToldWhy = (error: unknown): boolean =>
      error instanceof SwitchyardError && error.code === "version_in_use" && why.test(error.message);
    await assert.rejects(removal.remove(of), isToldWhy);
    assert.deepEqual([...entries.values()], [upload]);
    assert.equal(published(), 2);
  });
}

test("a store that is away for a moment while the version is to stay hides neither the reason nor the version", async () => {
  const { entries, removal } = rig({
    act: ({ lose, open }) => {
      open();
      lose(3);
    },
  });
  await assert.rejects(removal.remove(of), { code: "version_in_use" });
  assert.deepEqual([...entries.values()], [upload]);
});

test("a mark that nobody goes on with is taken away by any coordinator, but not while its removal may still be under way", async () => {
  const { entries, removal } = rig({ act: ({ lose }) => lose(100) }); // as if it had died
  await assert.rejects(removal.remove(of), { code: "store_unavailable" });
  assert.deepEqual([...entries.values()], [{ ...upload, leavingMs: storeMs }]);
  const other = rig();
  other.entries.set(1, entries.get(1)!);
  await other.removal.endAbandoned();
  other.pass(14_000);
  await other.removal.endAbandoned();
  assert.deepEqual([...other.entries.values()], [{ ...upload, leavingMs: storeMs }]);
  await assert.rejects(other.removal.remove(of), { code: "model_not_ready" });
  other.pass(1_000);
  await other.removal.endAbandoned();
  assert.deepEqual([...other.entries.values()], [upload]);
});

test("a removal whose mark was taken away meanwhile removes nothing", async () => {
  const { entries, removal } = rig({ act: ({ clear }) => clear() });
  await assert.rejects(removal.remove(of), { code: "changed_meanwhile" });
  assert.deepEqual([...entries.values()], [upload]);
});

test("a version that answered a job within the last minute is not even marked", async () => {
  const { entries, published, removal } = rig({ answeredMs: storeMs - 59_000 });
  await assert.rejects(removal.remove(of), { code: "version_in_use", message: /answered a job within the last 60 s/ });
  assert.deepEqual([...entries.values()], [upload]);
  assert.equal(published(), 0);
  await rig({ answeredMs: storeMs - 60_000 }).removal.remove(of);
});
