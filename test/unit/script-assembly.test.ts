/** How scripts are put together: fragments where they are included, without what nobody uses. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { assembleScript } from "@switchyard/protocol/redis";

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
