import assert from "node:assert/strict";
import { test } from "node:test";
import { libraries, mayImportPackages, rooms } from "./import-table.ts";
import { importsOf, packageOf, packageSources, resolveImport } from "./source-files.ts";

/** A schema library is vocabulary, not machinery: allowed wherever shapes are declared, but in packages that the table gives a place for it. */
const everywhere = new Set(["zod"]);

const sources = packageSources();
const nameOf = (file: string): string => file.slice(0, file.indexOf("/"));
const inPackage = (file: string): string => file.slice(file.indexOf("/") + 1);

test("packages import one another only along the table", () => {
  let checked = 0;
  const wrong: string[] = [];
  for (const file of sources) {
    for (const { specifier } of importsOf(file.text)) {
      checked++;
      const target = resolveImport(file.path, specifier);
      const own = nameOf(file.path);
      if (target !== undefined && nameOf(target) !== own && nameOf(target) !== "") wrong.push(`${file.path} reaches into ${target}`);
      const foreign = packageOf(specifier);
      const isOurs = foreign.startsWith("@switchyard/") || foreign === "switchyard";
      if (isOurs && !mayImportPackages[own]?.includes(foreign)) wrong.push(`${file.path} imports ${foreign}`);
    }
  }
  assert.ok(checked > 100, `only ${checked} imports were found`);
  assert.deepEqual(wrong, []);
});

test("rooms of the coordinator import one another only along the table", () => {
  let checked = 0;
  const wrong: string[] = [];
  for (const file of sources.filter(({ path }) => path.startsWith("coordinator/src/"))) {
    const room = file.path.split("/")[2] ?? "";
    const allowed = rooms[room];
    if (allowed === undefined) continue;
    for (const { specifier } of importsOf(file.text)) {
      const target = resolveImport(file.path, specifier)?.split("/")[2];
      if (target === undefined) continue;
      checked++;
      if (!allowed.includes(target)) wrong.push(`${file.path} imports ${specifier}; ${room} may import ${allowed.join(", ")}`);
    }
  }
  assert.ok(checked > 20, `only ${checked} imports were found`);
  assert.deepEqual(wrong, []);
});

test("a foreign library is loaded in one place per package", () => {
  let checked = 0;
  const wrong: string[] = [];
  for (const file of sources) {
    for (const { specifier, typeOnly } of importsOf(file.text)) {
      const library = packageOf(specifier);
      if (/^(\.|node:|@switchyard)/.test(specifier) || typeOnly) continue;
      const places = libraries[nameOf(file.path)]?.[library];
      if (places === undefined && everywhere.has(library)) continue;
      checked++;
      if (places === undefined) wrong.push(`${file.path} loads ${library}, which has no place in ${nameOf(file.path)}`);
      else if (!places.some((place) => inPackage(file.path).startsWith(place)))
        wrong.push(`${file.path} loads ${library}; its place is ${places.join(", ")}`);
    }
  }
  assert.ok(checked > 10, `only ${checked} loads were found`);
  assert.deepEqual(wrong, []);
});
