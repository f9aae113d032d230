import assert from "node:assert/strict";
import { test } from "node:test";
import { inputLines } from "../../client-sdk/src/cli/input-lines.ts";

async function linesOf(pieces: readonly string[], mostBytes = 100): Promise<(string | undefined)[]> {
  async function* bytes(): AsyncGenerator<Uint8Array> {
    for (const piece of pieces) yield Buffer.from(piece, "latin1");
  }
  const lines: (string | undefined)[] = [];
  for await (const line of inputLines(bytes(), { mostBytes })) lines.push(line);
  return lines;
}

test("a line is whole in however many pieces it comes, also a letter of several bytes", async () => {
  const letters = Buffer.from("é€").toString("latin1");
  assert.deepEqual(await linesOf([...`one\r\ntwo ${letters}\n\nthree`]), ["one", "two é€", "three"]);
  assert.deepEqual(await linesOf(["one\ntw", "o\nthree\n"]), ["one", "two", "three"]);
  assert.deepEqual(await linesOf([]), []);
});

test("separators that JSON allows within a string end no line", async () => {
  const inside = Buffer.from('"\u2028\u2029"').toString("latin1");
  assert.deepEqual(await linesOf([`${inside}\n`]), ['"\u2028\u2029"']);
});

test("a line that is too long is told of, and those after it are read", async () => {
  assert.deepEqual(await linesOf(["12345\n", "123", "456", "\n12", "345\n1"], 5), ["12345", undefined, "12345", "1"]);
  assert.deepEqual(await linesOf(["123456"], 5), [undefined]);
});
