/** Commands as bytes: whatever the words are, Redis reads lengths that are right. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeCommands, type RedisCommand } from "@switchyard/protocol/redis";
import fc from "fast-check";

/** Word by word, as the protocol of Redis has it. */
function plainly(commands: readonly RedisCommand[]): Buffer {
  const pieces: Buffer[] = [];
  for (const command of commands) {
    pieces.push(Buffer.from(`*${command.length}\r\n`));
    for (const argument of command) {
      const isText = typeof argument === "string" || typeof argument === "number";
      const bytes = isText ? Buffer.from(String(argument)) : Buffer.concat(argument instanceof Uint8Array ? [argument] : [...argument]);
      pieces.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from("\r\n"));
    }
  }
  return Buffer.concat(pieces);
}

const text = fc.oneof(fc.string(), fc.string({ unit: "binary" }), fc.constantFrom("", "x".repeat(1_000), "日本語".repeat(40), "\ud800"));
const number = fc.oneof(fc.nat(), fc.integer({ min: 0, max: 120 }), fc.double(), fc.maxSafeInteger());
const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  fc.constantFrom(...[32_767, 32_768, 100_000].map((size) => new Uint8Array(size).fill(0x41))),
);
const argument = fc.oneof(text, number, bytes, fc.array(bytes, { maxLength: 4 }));
const command = fc
  .tuple(fc.constantFrom("set", "evalsha"), fc.array(argument, { maxLength: 120 }))
  .map(([name, args]): RedisCommand => [name, ...args]);

test("commands of any words and bytes are encoded as Redis reads them", () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 5 }), (commands) => {
      assert.ok(Buffer.concat(encodeCommands(commands)).equals(plainly(commands)));
    }),
  );
});

test("large bytes are sent as they are, small ones are gathered", () => {
  const large = new Uint8Array(40_000);
  const buffers = encodeCommands([
    ["set", "a", [Buffer.from("head"), large]],
    ["set", "b", "c"],
  ]);
  assert.equal(buffers.length, 3);
  assert.equal(buffers[1], large);
});
