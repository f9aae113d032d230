/** What is written while a version is removed, and after every coordinator knows: the removal finds it, and puts the version back. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type ModelAlias, type ModelState, type ModelVersion, SwitchyardError, type UploadedVersion } from "@switchyard/protocol";
import { VersionRemoval } from "../../coordinator/src/application/version-removal.ts";
import type { Clock } from "../../coordinator/src/clock.ts";
import type { ModelStatus } from "../../coordinator/src/ports/model-registry.ts";

const of = { model: "m", version: 1 };
const upload = { ...of, digest: "d", files: [] } as unknown as UploadedVersion;

function rig(act: (parts: { alias: (of: Partial<ModelAlias["target"]>) => void; load: () => void; open: () => void }) => void = () => {}) {
  const entries = new Map([[1, upload]]);
  const aliases = new Map<string, ModelAlias>();
  const states = new Map<string, ModelState>();
  let openQueues: string[] = [];
  let published = 0;
  const status = { version: { ...of, digest: "d" } as unknown as ModelVersion } as ModelStatus;
  const removal = new VersionRemoval({
    uploads: {
      find: async () => entries.get(1),
      change: async (_of: unknown, change: (before: UploadedVersion | undefined) => UploadedVersion | undefined) => {
        const after = change(entries.get(1));
        if (after) entries.set(1, after);
        else entries.delete(1);
        return after;
      },
    } as never,
    aliases: { all: async () => new Map([["m", aliases]]) } as never,
    states: { all: async () => states } as never,
    models: { promised: () => [status.version], queuesOf: async () => ["tag"], resolve: () => status, versions: () => [status] },
    jobs: { openQueues: async () => openQueues },
    takeOver: async () => {
      published++;
    },
    clock: {
      sleep: async () => {
        const alias = (target: Partial<ModelAlias["target"]>): void =>
          void aliases.set("a", { target, previous: [], updatedMs: 0 } as ModelAlias);
        act({ alias, load: () => states.set("m", { state: "loaded" } as ModelState), open: () => (openQueues = ["tag"]) });
      },
    } as unknown as Clock,
    log: { info() {}, warn() {}, error() {} },
  });
  return { removal, entries, published: () => published };
}

test("a version that nothing stands on is removed, and published as gone", async () => {
  const { entries, published, removal } = rig();
  await removal.remove(of);
  assert.equal(entries.size, 0);
  assert.equal(published(), 1);
});

for (const [what, act, why] of [
  ["an alias names it", ({ alias }) => alias({ version: 1 }), /the alias 'a' names it;/],
  ["a split names it", ({ alias }) => alias({ split: { 1: 5, 2: 5 } }), /in its split/],
  ["a shadow names it", ({ alias }) => alias({ version: 2, shadow: { version: 1, share: 1 } }), /as its shadow/],
  ["it is loaded by request", ({ load }) => load(), /is loaded by request/],
  ["a job for it was admitted", ({ open }) => open(), /jobs for it wait or run/],
] as [string, Parameters<typeof rig>[0], RegExp][]) {
  test(`a version of which ${what} while it is removed is put back as it was`, async () => {
    const { entries, published, removal } = rig(act);
    await assert.rejects(
      removal.remove(of),
      (error) => error instanceof SwitchyardError && error.code === "version_in_use" && why.test(error.message),
    );
    assert.deepEqual([...entries.values()], [upload]);
    assert.equal(published(), 2);
  });
}
