/** Pictures that calls bring: what is no honest PNG image is refused before it is unpacked. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32, deflateSync } from "node:zlib";
import { PixelBudget, readPng } from "../../coordinator/src/doors/mcp/png-pixels.ts";

function chunk(type: string, data: Buffer): Buffer {
  const named = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const frame = Buffer.alloc(8 + named.length);
  frame.writeUInt32BE(data.length, 0);
  named.copy(frame, 4);
  frame.writeUInt32BE(crc32(named), 4 + named.length);
  return frame;
}

/** Grey, eight bits a pixel. */
function head(width: number, height: number, { extra = 0, interlaced = false } = {}): Buffer {
  const data = Buffer.alloc(13 + extra);
  data.writeUInt32BE(width, 0);
  data.writeUInt32BE(height, 4);
  data[8] = 8;
  data[12] = interlaced ? 1 : 0;
  return chunk("IHDR", data);
}

function png(...chunks: Buffer[]): Buffer {
  return Buffer.concat([Buffer.from("89504e470d0a1a0a", "hex"), ...chunks, chunk("IEND", Buffer.alloc(0))]);
}

const rows = (bytes: Buffer): Buffer => chunk("IDAT", deflateSync(bytes));
const refusal = (words: RegExp) => ({ code: "invalid_request", message: words });

test("images are read, interlaced ones too", () => {
  const { height, rgb, width } = readPng(png(head(2, 1), rows(Buffer.of(0, 255, 10))), "/inputs/image");
  assert.deepEqual([width, height, [...rgb]], [2, 1, [255, 255, 255, 10, 10, 10]]);
  assert.deepEqual([...readPng(png(head(1, 1, { interlaced: true }), rows(Buffer.of(0, 7))), "/x").rgb], [7, 7, 7]);
});

test("an interlaced image that unpacks to more than its head says is refused", () => {
  const bomb = png(head(8, 8, { interlaced: true }), rows(Buffer.alloc(64 * 1024 * 1024)));
  assert.ok(bomb.length < 100_000);
  assert.throws(
    () => readPng(bomb, "/inputs/image"),
    refusal(/\/inputs\/image must be a PNG image; it is a damaged one \(.*larger than 608 bytes/),
  );
});

test("an image with a second head is refused: the size was asked of the first", () => {
  const large = rows(Buffer.alloc((3_000 + 1) * 3_000));
  assert.throws(() => readPng(png(head(3_000, 3_000), large), "/x"), refusal(/at most 4194304 pixels/));
  assert.throws(() => readPng(png(head(8, 8), head(3_000, 3_000), large), "/x"), refusal(/it has two heads/));
  const hidden = png(head(8, 8), chunk("tEXt", Buffer.alloc(20)), head(3_000, 3_000), large);
  assert.throws(() => readPng(hidden, "/x"), refusal(/it has two heads/));
});

test("an image whose head is none is refused", () => {
  assert.throws(() => readPng(png(head(1, 1, { extra: 1 }), rows(Buffer.of(0, 7))), "/x"), refusal(/does not begin with its head/));
  assert.throws(() => readPng(png(chunk("tEXt", Buffer.alloc(20)), head(1, 1), rows(Buffer.of(0, 7))), "/x"), refusal(/pixels|head/));
  assert.throws(() => readPng(png(head(0, 1), rows(Buffer.of(0))), "/x"), refusal(/it is 0 × 1/));
  assert.throws(() => readPng(png(head(2, 1), rows(Buffer.of(0, 255, 10))).subarray(0, 40), "/x"), refusal(/damaged/));
});

test("the images of one call are counted together, before they are unpacked", () => {
  const budget = new PixelBudget(10);
  const two = png(head(2, 2), rows(Buffer.of(0, 1, 2, 0, 3, 4)));
  for (let at = 0; at < 2; at++) assert.equal(readPng(two, "/x", budget).width, 2);
  const cut = two.subarray(0, 50);
  assert.throws(
    () => readPng(cut, "/items/2/image", budget),
    refusal(/\/items\/2\/image must be within 10 pixels, of all images of a call/),
  );
});
