import assert from "node:assert/strict";
import { test } from "node:test";
import { type SeenHost, shareTheirId } from "@switchyard/protocol";

const first: SeenHost = { lives: true, draining: false, registeredMs: 0, beatMs: 20_000 };
const second: SeenHost = { lives: true, draining: false, registeredMs: 10_000, beatMs: 20_000 };

const cases: [string, SeenHost, SeenHost, boolean][] = [
  ["live and beat beside each other", first, second, true],
  ["live, one of them silent for a beat or two", { ...first, beatMs: 18_500 }, second, true],
  ["have just met", { ...first, beatMs: 12_900 }, { ...second, beatMs: 12_800 }, false],
  ["follow each other, the first dead and not judged yet", { ...first, beatMs: 9_900 }, second, false],
  ["follow each other, the first lost", { ...first, lives: false }, second, false],
  ["follow each other, the first still finishing", { ...first, draining: true }, second, false],
  ["are drained, by one wish for their id", { ...first, draining: true }, { ...second, draining: true }, true],
];
for (const [what, one, other, expected] of cases) {
  test(`two hosts of one id that ${what} ${expected ? "share it" : "do not share it"}`, () => {
    assert.deepEqual([shareTheirId(one, other), shareTheirId(other, one)], [expected, expected]);
  });
}
