import assert from "node:assert/strict";
import { test } from "node:test";
import { importsOf, packageSources, withoutComments } from "./source-files.ts";

const clockWords =
  /\b(Date\.now|performance\.now|new Date\(\s*\)|setTimeout|setInterval|AbortSignal\.timeout|timers\/promises|Math\.random|process\.hrtime)\b/;

test("time and chance are read in one file per package, and protocol has neither", () => {
  const sources = packageSources();
  const clocks = sources.filter(({ path }) => path.endsWith("/src/clock.ts"));
  assert.deepEqual(clocks.map(({ path }) => path).sort(), [
    "client-sdk/src/clock.ts",
    "console/src/clock.ts",
    "coordinator/src/clock.ts",
    "worker/src/clock.ts",
  ]);
  for (const { path, text } of clocks) assert.match(text, clockWords, `${path} reads no clock: the rule looks for the wrong words`);
  const wrong: string[] = [];
  for (const { path, text } of sources) {
    if (clocks.some((clock) => clock.path === path)) continue;
    const lines = withoutComments(text).split("\n");
    for (const [index, line] of lines.entries()) if (clockWords.test(line)) wrong.push(`${path}:${index + 1}: ${line.trim()}`);
  }
  assert.deepEqual(wrong, []);
});

test("protocol does no input or output", () => {
  const allowed = new Set(["node:crypto", "node:buffer"]);
  const sources = packageSources().filter(({ path }) => path.startsWith("protocol/"));
  assert.ok(sources.length > 5);
  const wrong = sources.flatMap(({ path, text }) =>
    importsOf(text)
      .filter(({ specifier }) => specifier.startsWith("node:") && !allowed.has(specifier))
      .map(({ specifier }) => `${path} imports ${specifier}`),
  );
  assert.deepEqual(wrong, []);
});
