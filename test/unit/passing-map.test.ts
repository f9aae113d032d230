/** A map for what comes and goes: it is a map, and the collector can tell what has gone. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { PassingMap } from "../../protocol/src/passing-map.ts";

test("it holds entries as Map does, through many replacements", () => {
  const [passing, map] = [new PassingMap<string, number>(), new Map<string, number>()];
  for (let at = 0; at < 10_000; at++) {
    passing.set(`job-${at}`, at);
    map.set(`job-${at}`, at);
    if (at % 3 === 0) continue; // a third stays
    const gone = `job-${at - (at % 7)}`;
    assert.equal(passing.delete(gone), map.delete(gone));
  }
  assert.equal(passing.size, map.size);
  assert.deepEqual([...passing], [...map]);
  assert.deepEqual(passing.keys(), [...map.keys()]);
  assert.deepEqual(passing.values(), [...map.values()]);
  const [first] = map.keys();
  assert.equal(passing.get(first!), map.get(first!));
  assert.ok(passing.has(first!) && !passing.has("job-none"));
});

test("a walk may delete as it goes, also where the table is replaced on the way", () => {
  const passing = new PassingMap<number, number>();
  for (let at = 0; at < 5_000; at++) passing.set(at, at);
  const seen: number[] = [];
  for (const [key] of passing) {
    seen.push(key);
    passing.delete(key);
  }
  assert.deepEqual([seen.length, new Set(seen).size, passing.size], [5_000, 5_000, 0]);
});

const file = fileURLToPath(new URL("../../protocol/src/passing-map.ts", import.meta.url));

/** How often the collector had to look through the whole heap while two hundred thousand entries passed, some sixty at a time. */
async function wholeCollections(made: string): Promise<number> {
  const script = `import { PassingMap } from ${JSON.stringify(file)};
    const map = ${made};
    const passed = [];
    for (let at = 0; at < 200_000; at++) {
      const key = "job-" + at;
      map.set(key, new Array(100).fill(at));
      passed.push(key);
      if (passed.length > 60) map.delete(passed.shift());
      if (at === 20_000) gc(); // moves what is there among the old
    }`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--expose-gc", "--trace-gc", "--input-type=module", "-e", script]);
  return stdout.split("\n").filter((line) => line.includes("Mark-Compact")).length;
}

test("what has gone does not pile up among the old objects, as it does with a Map", async () => {
  const [map, passing] = await Promise.all([wholeCollections("new Map()"), wholeCollections("new PassingMap()")]);
  assert.ok(passing <= 2, `${passing} whole collections`);
  assert.ok(map > passing, `a Map needs no more than ${map}: V8 has changed, and Map will do again`);
});
