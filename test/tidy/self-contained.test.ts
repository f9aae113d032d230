import assert from "node:assert/strict";
import { test } from "node:test";
import { repositoryFiles } from "./source-files.ts";

/** Before a path that stands on its own, rather than at the end of an address or of a longer path. */
const start = "(?:^|[\"'`\\s(=:,[<>])";

/** What would tie the repository to one machine, one folder beside it or one registry. Written in parts, so that this file does not name them. */
const banned = [
  {
    what: "an absolute path of some machine",
    pattern: new RegExp(`(?:${start}|//)/(${["work", "root", "home", "Users"].join("|")})(?![\\w-])`, "m"),
    like: ["work", "home"].flatMap((folder) => [`see "/${folder}/main"`, `\`/${folder}\``, `file:///${folder}/x`]),
  },
  {
    what: "a path in a temporary folder",
    pattern: new RegExp(`(?:${start}|//)/(${["tmp", "var/tmp", "var/folders", "private/tmp", "dev/shm"].join("|")})(?![\\w-])`, "m"),
    like: [`(/${"tmp"}/switchyard-1)`, `in /${"tmp"}.`, `file:///${"tmp"}/x`],
  },
  {
    what: "a folder beside the clone",
    pattern: new RegExp(`${["\\.\\.", "shared"].join("/")}\\b`),
    like: [["..", "shared", "models"].join("/")],
  },
  {
    what: "a package registry's host",
    pattern: new RegExp(
      `\\b(${[
        ["registry", "npmjs"],
        ["registry", "yarnpkg"],
        ["pypi", "org"],
        ["files", "pythonhosted"],
        ["deb", "debian"],
        ["crates", "io"],
        ["proxy", "golang"],
        ["registry-1", "docker"],
      ]
        .map((name) => name.join("\\."))
        .join("|")})\\b`,
      "i",
    ),
    like: [["https://registry", "npmjs", "org/x"].join("."), ["https://pypi", "org/simple"].join(".")],
  },
];

/** What runs the checks may know the machine that it runs on. */
const mayKnow = (path: string): boolean => path.startsWith(".ci/") || path === ".gitignore";

test("no file names a machine's folders or a package registry", () => {
  for (const { what, pattern, like } of banned) for (const text of like) assert.match(text, pattern, `the rule misses ${what}`);
  const files = repositoryFiles().filter(({ path }) => !mayKnow(path));
  assert.ok(files.length > 50, `only ${files.length} files were found`);
  const wrong: string[] = [];
  for (const { path, text } of files) {
    for (const { what, pattern } of banned) {
      const match = pattern.exec(text);
      if (match) wrong.push(`${path}:${text.slice(0, match.index + 1).split("\n").length}: ${what}: ${match[0].trim()}`);
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
