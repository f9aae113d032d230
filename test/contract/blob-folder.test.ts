/** A folder of large values: damage, names that run out, full disks, sweeps, and the id that all who share it read. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { blobFolder } from "@switchyard/protocol";
import { FilesystemBlobs as OwnedFolder } from "../../coordinator/src/adapters/filesystem-blobs.ts";
import { FilesystemBlobs as SharedFolder } from "../../worker/src/runner/filesystem-blobs.ts";
import { clock, codeOf, content, keepMs, openFolderPlace, same, streamOf, time } from "../support/blob-places.ts";

const folderPlace = await openFolderPlace();
const { files, owner, root } = folderPlace;
after(() => folderPlace.close());

for (const [how, again] of [
  ["put", (bytes: Uint8Array) => owner.put(bytes, { keepMs })],
  ["received", (bytes: Uint8Array) => owner.receive(streamOf(bytes), { keepMs })],
] as const) {
  for (const [what, damage] of [
    ["others of that length", content()],
    ["fewer", content(1_000)],
  ] as const) {
    test(`the same bytes that are ${how} again mend a folder that has ${what}, and are kept as long as those were`, async () => {
      const bytes = content();
      const reference = await owner.put(bytes, { keepMs });
      await owner.keep(reference, { keepMs: 10 * keepMs });
      const names = await files(reference.sha256);
      assert.equal(names.length, 2);
      // two files, both damaged
      await rm(names[0]!);
      for (const name of names) await writeFile(name, damage);
      assert.deepEqual(await again(bytes), reference);
      const left = await files(reference.sha256);
      assert.equal(left.length, 1);
      assert.ok(same(await readFile(left[0]!), bytes));
      time.nowMs += 9 * keepMs;
      await owner.sweep(time.nowMs);
      assert.ok(same(await owner.get(reference), bytes));
    });
  }
}

for (const [code, outcome] of [
  ["EMLINK", "it is copied"],
  ["EPERM", "it is copied"],
  ["ENOENT", "it is gone"],
] as const) {
  test(`a blob whose name cannot be linked with ${code} is kept on as well as it can be: ${outcome}`, async (context) => {
    const reference = await owner.put(content(), { keepMs });
    const link = context.mock.method(fs.promises, "link", () => Promise.reject(Object.assign(new Error(code), { code, syscall: "link" })));
    syncBuiltinESMExports();
    context.after(() => {
      link.mock.restore();
      syncBuiltinESMExports();
    });
    assert.equal(await owner.keep(reference, { keepMs: 10 * keepMs }), outcome === "it is copied");
    assert.equal(link.mock.callCount(), 1);
    if (outcome === "it is gone") return;
    time.nowMs += 5 * keepMs;
    await owner.sweep(time.nowMs);
    assert.ok(await owner.get(reference));
    assert.deepEqual(await readdir(path.join(root, "unfinished")), []);
  });
}

test("a folder on a full disk is told as a full store, and keeps no half of a file", async (context) => {
  const small = await mkdtemp(path.join(tmpdir(), "switchyard-full-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "tmpfs", small], { stdio: "ignore" });
  } catch {
    await rm(small, { recursive: true, force: true });
    context.skip("mounting a small file system is not allowed here");
    return;
  }
  try {
    for (const blobs of [new OwnedFolder({ root: small, clock }), new SharedFolder({ root: small, clock })]) {
      await assert.rejects(blobs.put(content(), { keepMs }), codeOf("store_full"));
      const bytes = content(50_000);
      assert.ok(same(await blobs.get(await blobs.put(bytes, { keepMs })), bytes));
      assert.deepEqual(await readdir(path.join(small, "unfinished")), []);
    }
  } finally {
    execFileSync("umount", [small]);
    await rm(small, { recursive: true, force: true });
  }
});

test("a folder that cannot be used is told as an unavailable store", async () => {
  const file = path.join(root, "a-file");
  await writeFile(file, "");
  for (const blobs of [new OwnedFolder({ root: file, clock }), new SharedFolder({ root: file, clock })]) {
    await assert.rejects(blobs.put(content(10), { keepMs }), codeOf("store_unavailable"));
  }
});

test("a sweep removes files that nobody finished, and folders that hold nothing", async () => {
  const reference = await owner.put(content(), { keepMs });
  const unfinished = path.join(root, "unfinished");
  await mkdir(unfinished, { recursive: true });
  const [stale, fresh] = [path.join(unfinished, "stale"), path.join(unfinished, "fresh")];
  await writeFile(stale, "x");
  await writeFile(fresh, "x");
  await utimes(stale, 0, (Date.now() - 3_700_000) / 1_000);
  await utimes(fresh, 0, (Date.now() - 3_500_000) / 1_000);
  time.nowMs += keepMs + 180_000;
  await owner.sweep(time.nowMs);
  assert.deepEqual(await readdir(unfinished), ["fresh"]);
  await assert.rejects(stat(path.join(root, blobFolder(reference.sha256))), { code: "ENOENT" });
  await rm(fresh);
});

test("all who share a folder read one id in it, and another folder has another", async () => {
  const ids = await Promise.all(Array.from({ length: 8 }, () => new OwnedFolder({ root, clock }).id()));
  assert.equal(new Set(ids).size, 1);
  assert.equal(await new SharedFolder({ root, clock }).folderId(), ids[0]);
  const other = await mkdtemp(path.join(tmpdir(), "switchyard-blobs-"));
  assert.equal(await new SharedFolder({ root: other, clock }).folderId(), undefined);
  assert.notEqual(await new OwnedFolder({ root: other, clock }).id(), ids[0]);
  await rm(other, { recursive: true, force: true });
});
