import assert from "node:assert/strict";
import { test } from "node:test";
import { repositoryFiles } from "./source-files.ts";

const scripts = repositoryFiles().filter(({ path }) => path.startsWith("protocol/src/lua/") && path.endsWith(".lua"));
const header = (text: string): string => /^(--.*\n)*/.exec(text)?.[0] ?? "";

test("each Lua script opens with its purpose, KEYS, ARGV, Answers and what it Keeps", () => {
  const whole = scripts.filter(({ path }) => !/\/lib-[^/]+$/.test(path));
  assert.ok(whole.length > 5, `only ${whole.length} scripts were found`);
  const wrong: string[] = [];
  for (const { path, text } of whole) {
    const top = header(text);
    if (!/^-- [A-Z].*[.:]/.test(top)) wrong.push(`${path}: the first line says what the script does`);
    for (const word of ["KEYS", "ARGV", "Answers", "Keeps"])
      if (!new RegExp(`^-- ${word}\\b`, "m").test(top)) wrong.push(`${path}: no ${word}`);
  }
  assert.deepEqual(wrong, []);
});

test("each Lua fragment opens with what it is", () => {
  const fragments = scripts.filter(({ path }) => /\/lib-[^/]+$/.test(path));
  assert.ok(fragments.length > 0);
  for (const { path, text } of fragments) assert.match(header(text), /^-- Fragment: \S/, path);
});

test("no Lua script searches the keyspace or blocks", () => {
  assert.ok(scripts.length > 5);
  for (const { path, text } of scripts) {
    const code = text.replace(/--.*$/gm, "");
    assert.doesNotMatch(code, /call\(\s*['"](KEYS|SCAN|FLUSHALL|FLUSHDB|BLPOP|BZPOPMIN|WAIT)['"]/i, path);
  }
});
