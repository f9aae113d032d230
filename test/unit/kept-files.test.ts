/** Files of uploaded versions are kept on, each by itself: one that cannot be is told, and takes no other with it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type ModelFileReference, SwitchyardError, type UploadedVersion } from "@switchyard/protocol";
import { ModelUploads, type ModelUploadsParts } from "../../coordinator/src/application/model-uploads.ts";

test("a file of a version that cannot be kept on is told after the others were kept, and asked for again", async () => {
  const files = ["one", "two", "three"].map((name) => ({ name, sha256: name, sizeBytes: 1 }));
  const asked: string[] = [];
  let isRefused = true;
  const uploads = new ModelUploads({
    store: { uploads: async () => new Map([["m", { model: "m", version: 1, files } as unknown as UploadedVersion]]) },
    blobs: {
      keep: async ({ sha256 }: ModelFileReference) => {
        asked.push(sha256);
        if (isRefused && sha256 === "one") throw new SwitchyardError("store_full", "no room");
        return true;
      },
    },
    clock: { monotonicMs: () => 0 },
    log: { info() {}, warn() {}, error() {} },
  } as unknown as ModelUploadsParts);
  await assert.rejects(uploads.keepFiles(), /1 files of versions .* nothing is swept; the first is one of version 1 of m: no room/);
  assert.deepEqual(asked, ["one", "two", "three"]);
  isRefused = false;
  await uploads.keepFiles();
  assert.deepEqual(asked, ["one", "two", "three", "one"]);
});
