/** How scripts are put together: fragments where they are included, without what nobody uses. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { assembleScript, scriptNames } from "@switchyard/protocol/redis";

const assembled = (files: Record<string, string>): string[] =>
  assembleScript("claim", (file) => files[file]!)
    .source.split("\n")
    .filter((line) => line !== "");

const fragment = `-- Fragment: for tests.

local one, two = 1, 2
local three = 3

-- Says so.
local function first()
  return one
end

local function second()
  return first()
end

local function third(text)
  if text then
    return second()
  end
  return third
end

local seen = {} -- by name
local function fourth()
  return seen
end
`;

test("what a fragment defines stands where it is used, be it by what is used, and nothing else of it", () => {
  const source = assembled({ "claim.lua": "-- Does.\n-- @include lib-a.lua\nreturn second()", "lib-a.lua": fragment });
  assert.deepEqual(source, [
    "#!lua",
    "-- Does.",
    "-- Fragment: for tests.",
    "local one, two = 1, 2",
    "-- Says so.",
    "local function first()",
    "  return one",
    "end",
    "local function second()",
    "  return first()",
    "end",
    "return second()",
  ]);
});

test("to name itself, or to be named in a comment, is no use", () => {
  const source = assembled({ "claim.lua": "-- @include lib-a.lua\n-- third and fourth\nreturn three", "lib-a.lua": fragment });
  assert.deepEqual(source, ["#!lua", "-- Fragment: for tests.", "local three = 3", "-- third and fourth", "return three"]);
});

test("fragments use each other, and may stand within a function", () => {
  const source = assembled({
    "claim.lua": "local function seldom()\n  -- @include lib-a.lua lib-b.lua\n  return fifth\nend\nreturn seldom()",
    "lib-a.lua": "local six = 6\nlocal seven = 7\n",
    "lib-b.lua": "local function fifth()\n  return six\nend\n",
  });
  assert.deepEqual(source, [
    "#!lua",
    "local function seldom()",
    "local six = 6",
    "local function fifth()",
    "  return six",
    "end",
    "  return fifth",
    "end",
    "return seldom()",
  ]);
});

test("its flags come first, and equal sources have equal digests", () => {
  const files: Record<string, string> = { "claim.lua": "-- Does.\n-- Flags: allow-oom\nreturn 1" };
  const script = assembleScript("claim", (file) => files[file]!);
  assert.match(script.source, /^#!lua flags=allow-oom\n/);
  assert.equal(script.sha, assembleScript("claim", (file) => files[file]!).sha);
  assert.match(script.sha, /^[0-9a-f]{40}$/);
});

const folder = new URL("../../protocol/src/lua/", import.meta.url);
const fragments = readdirSync(folder).filter((file) => file.startsWith("lib-"));
const lua = (file: string): string => readFileSync(new URL(file, folder), "utf8");
const codeOf = (text: string): string => text.replaceAll(/--.*$/gm, "");

test("fragments are written as the assembly reads them: whole functions, constants on one line, and single names", () => {
  assert.ok(fragments.length > 10);
  for (const file of fragments) {
    const text = lua(file);
    assert.doesNotMatch(text, /^local function .*\bend$/m, `${file}: a function on one line would take what follows with it`);
    const rest = codeOf(text)
      .replaceAll(/^local function \w+\([\s\S]*?^end$/gm, "")
      .replaceAll(/^local \w+(?:, \w+)* = .*\S\s*$/gm, "")
      .replaceAll(/^local \w+$/gm, "");
    assert.equal(rest.trim(), "", `${file}: what stands at its top is none of them`);
  }
});

test("what a script takes from fragments is defined above its use", () => {
  const defined = new Set(fragments.flatMap((file) => [...lua(file).matchAll(/^local function (\w+)/gm)].map(([, name]) => name!)));
  assert.ok(defined.size > 40);
  for (const name of scriptNames) {
    const lines = codeOf(assembleScript(name, lua).source).split("\n");
    for (const [at, line] of lines.entries()) {
      for (const [, called] of line.matchAll(/(?<![.\w])(\w+)\(/g)) {
        if (!defined.has(called!)) continue;
        const above = lines.slice(0, at + 1).some((one) => new RegExp(`local (?:function )?(?:\\w+, )*${called}\\b`).test(one));
        assert.ok(above, `${name}, line ${at + 1}: ${called} is called and not defined above`);
      }
    }
  }
});
