import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { mayImportPackages, rooms } from "./import-table.ts";
import { root } from "./source-files.ts";

const page = readFileSync(path.join(root, "ARCHITECTURE.md"), "utf8");

/** Rows of the table under this head, as lists of what may be imported. */
function tableUnder(head: string): Record<string, string[]> {
  const rows = page
    .slice(page.indexOf(`| ${head} | may import |`))
    .split("\n\n", 1)[0]!
    .split("\n")
    .slice(2);
  const lists = rows.map((row) => row.split("|").map((cell) => cell.trim()));
  return Object.fromEntries(lists.map(([, name, list]) => [name!, list === "nothing of ours" ? [] : list!.split(", ")]));
}

test("the page about the architecture shows the import tables that the tests hold", () => {
  assert.deepEqual(tableUnder("package"), mayImportPackages);
  assert.deepEqual(tableUnder("room"), rooms);
});

test("every file that the page about the architecture names exists", () => {
  const files = [...page.matchAll(/`((?:protocol|coordinator|worker|client-sdk|test|docs)\/[\w./-]+)`/g)].map(([, file]) => file!);
  assert.ok(files.length > 30, `only ${files.length} files were found`);
  assert.deepEqual(
    files.filter((file) => !existsSync(path.join(root, file))),
    [],
  );
});
