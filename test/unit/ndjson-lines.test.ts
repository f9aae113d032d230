import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { countLines, lineGroups } from "../../coordinator/src/doors/ndjson-lines.ts";

async function* pieces(text: string, cuts: readonly number[]): AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(text);
  let from = 0;
  for (const cut of [...cuts, bytes.length].map((at) => Math.min(at, bytes.length)).sort((a, b) => a - b)) {
    yield bytes.subarray(from, cut);
    from = cut;
  }
}

async function linesIn(text: string, how: { cuts?: readonly number[]; maxLineBytes?: number } = {}) {
  const { cuts = [], maxLineBytes = 1_000 } = how;
  let most = 0;
  const hold = (sizeBytes: number): void => {
    most = Math.max(most, sizeBytes);
  };
  const groups = await Array.fromAsync(lineGroups(pieces(text, cuts), { maxLineBytes, hold }));
  const lines = groups.flat().map(({ index, bytes }) => [index, bytes && Buffer.from(bytes).toString()]);
  return { groups, lines, most };
}

test("lines are the same however their bytes were cut", async () => {
  const line = fc.stringMatching(/^[ \ta-zé]{0,12}$/);
  await fc.assert(
    fc.asyncProperty(fc.array(line), fc.array(fc.nat(200)), fc.boolean(), async (texts, cuts, ended) => {
      const text = texts.join("\n") + (ended ? "\n" : "");
      const expected = text.split("\n").flatMap((each, index) => (each.trim() === "" ? [] : [[index, each]]));
      assert.deepEqual((await linesIn(text, { cuts })).lines, expected);
    }),
  );
});

test("of a line that is too long nothing is kept", async () => {
  const { lines, most } = await linesIn(`ab\n${"x".repeat(500)}\ncd`, { cuts: [10, 50, 120, 300], maxLineBytes: 100 });
  assert.deepEqual(lines, [
    [0, "ab"],
    [1, undefined],
    [2, "cd"],
  ]);
  assert.ok(most <= 100);
});

test("many lines come in groups of a hundred at most", async () => {
  const { groups, lines } = await linesIn("x\n".repeat(250));
  assert.deepEqual(
    groups.map((group) => group.length),
    [100, 100, 50],
  );
  assert.equal(lines.length, 250);
});

test("lines are counted with or without an end of the last", () => {
  for (const [text, count] of [
    ["", 0],
    ["a", 1],
    ["a\n", 1],
    ["\n", 1],
    ["a\nb", 2],
  ] as const)
    assert.equal(countLines(Buffer.from(text)), count, JSON.stringify(text));
});
