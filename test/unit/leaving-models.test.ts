/** What a host does with models that are gone from the registry and still in its memory. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { ModelVersion } from "@switchyard/protocol";
import { LeavingModels } from "../../worker/src/models/leaving-models.ts";

const version = { model: "digits", version: 1, tag: "aaaaaaaaaa", files: [], config: {} } as unknown as ModelVersion;

function rig() {
  const known = new Map<string, ModelVersion>();
  const state = { published: true, held: new Set<string>(), unloads: 0 };
  const leaving = new LeavingModels({
    known: { byTag: (tag) => known.get(tag), published: () => state.published },
    held: { holds: (tag) => state.held.has(tag) },
    unload: () => {
      state.unloads += 1;
    },
  });
  const load = (loaded: ModelVersion): void => {
    state.held.add(loaded.tag);
    leaving.loaded(loaded);
  };
  return { known, leaving, load, state };
}

test("a version that was removed while it was loaded goes once it is here", () => {
  const { leaving, load, state } = rig();
  leaving.add([version]);
  leaving.letGo();
  assert.equal(state.unloads, 0);
  load(version);
  leaving.letGo();
  assert.equal(state.unloads, 1);
});

test("one that is in use is asked to go until it has gone, and no longer", () => {
  const { leaving, load, state } = rig();
  load(version);
  for (let beat = 0; beat < 3; beat++) leaving.letGo();
  assert.equal(state.unloads, 3);
  state.held.clear();
  leaving.letGo();
  state.held.add(version.tag);
  leaving.letGo();
  assert.equal(state.unloads, 3);
});

test("what is in the registry again, in a folder out of sight, or in a registry that the store lost stays", () => {
  const { known, leaving, load, state } = rig();
  leaving.add([version]);
  known.set(version.tag, version);
  load(version);
  leaving.letGo();
  known.clear();
  const { files: _none, ...inFolder } = version;
  load({ ...inFolder, tag: "folder" });
  leaving.letGo();
  state.published = false;
  load({ ...version, tag: "lost" });
  leaving.letGo();
  assert.equal(state.unloads, 0);
});
