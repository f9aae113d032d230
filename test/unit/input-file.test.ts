import assert from "node:assert/strict";
import { test } from "node:test";
import {
  decodeFrame,
  encodeBlobReference,
  encodeFrame,
  encodeInputFileReference,
  isLocalDisk,
  readBlobReference,
  readInputReference,
  SwitchyardError,
  sightOfFolder,
} from "@switchyard/protocol";
import fc from "fast-check";

const name = fc.stringMatching(/^[a-z2-7]{10}$/);

test("a reference to a file gives back folder and size, wherever it lies in memory, and is no frame and no blob's", () => {
  fc.assert(
    fc.property(name, name, fc.nat({ max: Number.MAX_SAFE_INTEGER }), fc.nat(9), (folder, sight, sizeBytes, offset) => {
      const bytes = encodeInputFileReference({ folder, sight, sizeBytes });
      const elsewhere = new Uint8Array(offset + bytes.length).subarray(offset);
      elsewhere.set(bytes);
      assert.deepEqual(readInputReference(elsewhere), { kind: "file", folder, sight, sizeBytes });
      assert.throws(() => decodeFrame(elsewhere), SwitchyardError);
      assert.throws(() => readBlobReference(elsewhere), SwitchyardError);
    }),
  );
});

test("what stands for inputs is told apart: a frame, a blob, a file", () => {
  const blob = { sha256: "ab".repeat(32), sizeBytes: 9 };
  assert.deepEqual(readInputReference(encodeBlobReference(blob)), { kind: "blob", ...blob });
  assert.equal(readInputReference(encodeFrame([{ name: "x", datatype: "UINT8", shape: [1], bytes: Uint8Array.of(255) }])), undefined);
  assert.equal(readInputReference(new Uint8Array()), undefined);
});

test("a reference that is cut off, has something behind it, or names a path, is refused", () => {
  const whole = encodeInputFileReference({ folder: "abcdefghij", sight: "klmnopqrst", sizeBytes: 70_000 });
  for (let length = 4; length < whole.length; length++) assert.throws(() => readInputReference(whole.subarray(0, length)), SwitchyardError);
  assert.throws(() => readInputReference(Uint8Array.of(...whole, 0)), SwitchyardError);
  for (const folder of ["../../etc/", "a/../../../", "ABCDEFGHIJ", "short"])
    assert.throws(() => encodeInputFileReference({ folder, sight: "klmnopqrst", sizeBytes: 1 }), TypeError);
  const path = Uint8Array.from(whole);
  path.set(new TextEncoder().encode("../../etc/"), whole.length - 20);
  assert.throws(() => readInputReference(path), SwitchyardError);
});

test("two see one folder when nothing that they see differs", () => {
  const seen = { id: "one\n", bootId: "boot\n", dev: 1, ino: 2 };
  assert.equal(sightOfFolder(seen), sightOfFolder({ ...seen, id: "one" }));
  for (const other of [{ id: "two" }, { bootId: "other" }, { dev: 2 }, { ino: 3 }])
    assert.notEqual(sightOfFolder(seen), sightOfFolder({ ...seen, ...other }));
});

test("disks that are gone with their machine or container, or are reached by a network, are not taken", () => {
  const [ext4, tmpfs, overlayfs, nfs] = [0xef53, 0x01021994, 0x794c7630, 0x6969];
  assert.deepEqual([ext4, tmpfs, overlayfs, nfs].map(isLocalDisk), [true, false, false, false]);
});
