/** Files of uploaded versions are kept on, each by itself: one that cannot be is told, and takes no other with it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type ModelFileReference, SwitchyardError, type UploadedVersion } from "@switchyard/protocol";
import { ModelUploads, type ModelUploadsParts } from "../../coordinator/src/application/model-uploads.ts";

const dayMs = 86_400_000;

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
    log: { info() {}, warn() {}, error() {} },
  } as unknown as ModelUploadsParts);
  await assert.rejects(uploads.keepFiles(0), /1 files of versions .* nothing is swept; the first is one of version 1 of m: no room/);
  assert.deepEqual(asked, ["one", "two", "three"]);
  isRefused = false;
  await uploads.keepFiles(0);
  assert.deepEqual(asked, ["one", "two", "three", "one"]);
});

test("files are kept on twice a day by the clock of the sweep, and at once when that has leapt, forwards or back", async () => {
  const start = Date.UTC(2026, 0, 1);
  const file = { name: "one", sha256: "one", sizeBytes: 1 };
  let asked = 0;
  const uploads = new ModelUploads({
    store: { uploads: async () => new Map([["m", { model: "m", version: 1, files: [file] } as unknown as UploadedVersion]]) },
    blobs: { keep: async () => ++asked > 0 },
    log: { info() {}, warn() {}, error() {} },
  } as unknown as ModelUploadsParts);
  const askedAt = async (nowMs: number): Promise<number> => {
    await uploads.keepFiles(nowMs);
    return asked;
  };
  assert.equal(await askedAt(start), 1);
  assert.equal(await askedAt(start + dayMs / 2 - 1), 1);
  assert.equal(await askedAt(start + dayMs / 2), 2);
  // the machine slept, say: for it only moments have passed
  assert.equal(await askedAt(start + 9 * dayMs), 3);
  assert.equal(await askedAt(start - 9 * dayMs), 4);
});
