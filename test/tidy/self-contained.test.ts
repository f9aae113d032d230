import assert from "node:assert/strict";
import { test } from "node:test";
import { repositoryFiles } from "./source-files.ts";

/** Words that would tie the repository to one machine or one registry. Written in parts, so that this file does not name them. */
const banned = [
  {
    what: "an absolute path of some machine",
    pattern: new RegExp(`(^|["'\`\\s(=])/(${["work", "root", "home", "Users"].join("|")})/[A-Za-z0-9._-]+`, "m"),
  },
  { what: "a path in a temporary folder", pattern: new RegExp(`["'\`\\s(=]/${"tmp"}/[A-Za-z0-9._-]+`) },
  { what: "a package registry's host", pattern: new RegExp(["registry", "npmjs"].join("\\."), "i") },
];

test("no file names a machine's folders or a package registry", () => {
  const files = repositoryFiles();
  assert.ok(files.length > 50, `only ${files.length} files were found`);
  const wrong: string[] = [];
  for (const { path, text } of files) {
    for (const { what, pattern } of banned) {
      const match = pattern.exec(text);
      if (match) wrong.push(`${path}:${text.slice(0, match.index).split("\n").length}: ${what}: ${match[0].trim()}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test("cancelled is written with two l's", () => {
  const single = new RegExp(`\\b${"cancel"}(ed|ing)\\b`, "i");
  const files = repositoryFiles().filter(({ path }) => /\.(ts|js|lua|md|yaml|json)$/.test(path) && path !== "package-lock.json");
  assert.ok(files.length > 50);
  const wrong = files.flatMap(({ path, text }) => (single.test(text) ? [`${path}: ${single.exec(text)?.[0]}`] : []));
  assert.deepEqual(wrong, []);
});
