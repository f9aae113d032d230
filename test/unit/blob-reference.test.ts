import assert from "node:assert/strict";
import { test } from "node:test";
import {
  blobFileName,
  blobFolder,
  decodeFrame,
  encodeBlobReference,
  encodeFrame,
  readBlobFileName,
  readBlobReference,
  SwitchyardError,
} from "@switchyard/protocol";
import fc from "fast-check";

const digest = fc.stringMatching(/^[0-9a-f]{64}$/);

test("a reference gives back the digest and the size that went into it, wherever it lies in memory", () => {
  fc.assert(
    fc.property(digest, fc.nat({ max: Number.MAX_SAFE_INTEGER }), fc.nat(9), (sha256, sizeBytes, offset) => {
      const bytes = encodeBlobReference({ sha256, sizeBytes });
      const elsewhere = new Uint8Array(offset + bytes.length).subarray(offset);
      elsewhere.set(bytes);
      assert.deepEqual(readBlobReference(elsewhere), { sha256, sizeBytes });
      assert.ok(bytes.length < 64);
    }),
  );
});

test("no frame is taken for a reference, and no reference for a frame", () => {
  fc.assert(
    fc.property(fc.array(fc.string(), { maxLength: 8 }), fc.jsonValue(), (names, extra) => {
      const frame = encodeFrame(
        names.map((name) => ({ name, datatype: "UINT8", shape: [1], bytes: Uint8Array.of(255) })),
        extra,
      );
      assert.equal(readBlobReference(frame), undefined);
      // what sets them apart: the first word of a frame always leaves 4 when divided by 8, that of a reference leaves 7
      assert.equal(new DataView(frame.buffer).getUint32(0, true) % 8, 4);
    }),
  );
  const reference = encodeBlobReference({ sha256: "ab".repeat(32), sizeBytes: 9 });
  assert.throws(() => decodeFrame(reference), SwitchyardError);
  assert.equal(readBlobReference(new Uint8Array()), undefined);
  assert.equal(readBlobReference(Uint8Array.of(255, 255, 255)), undefined);
});

test("a reference that is cut off or has something behind it is refused", () => {
  const whole = encodeBlobReference({ sha256: "0f".repeat(32), sizeBytes: 12_000_000 });
  for (let length = 4; length < whole.length; length++) assert.throws(() => readBlobReference(whole.subarray(0, length)), SwitchyardError);
  assert.throws(() => readBlobReference(Uint8Array.of(...whole, 0)), SwitchyardError);
  assert.throws(() => encodeBlobReference({ sha256: "ABC", sizeBytes: 1 }), TypeError);
});

test("a blob's file name says until when it is kept, in whole minutes and never less than asked", () => {
  const sha256 = "12".repeat(32);
  for (const expiresMs of [0, 1, 59_999, 60_000, 60_001, 1_800_000_000_123]) {
    const read = readBlobFileName(blobFileName({ sha256, expiresMs }));
    assert.equal(read?.sha256, sha256);
    assert.ok(read.expiresMs >= expiresMs && read.expiresMs < expiresMs + 60_000);
  }
  assert.equal(blobFolder(sha256), "12/12");
  for (const name of ["folder-id", sha256, `${sha256}.`, `${sha256}.1x`, `x${sha256}.1`]) assert.equal(readBlobFileName(name), undefined);
});
