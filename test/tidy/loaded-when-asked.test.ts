/** What a coordinator loads at its start: libraries of doors that nobody may ever ask at are loaded with the first who does. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const entry = new URL("../../coordinator/src/main.ts", import.meta.url);
const later = ["@grpc/proto-loader", "@grpc/reflection", "@modelcontextprotocol/", "@opentelemetry/", "pngjs"];

/** Every file that is loaded with `from`, and which packages each of them names. Dynamic imports and those of types alone load nothing. */
function loadedWith(from: URL): Map<string, string[]> {
  const loaded = new Map<string, string[]>();
  const waiting = [from];
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    const path = fileURLToPath(file);
    if (loaded.has(path)) continue;
    const packages: string[] = [];
    loaded.set(path, packages);
    for (const [, specifier] of readFileSync(file, "utf8").matchAll(/^(?:import|export)\b(?! type\b)[^;]*?\bfrom\s+"([^"]+)";/gms)) {
      if (specifier!.startsWith(".")) waiting.push(new URL(specifier!, file));
      else packages.push(specifier!);
    }
  }
  return loaded;
}

test("the libraries of the Model Context Protocol, of tracing and of .proto files are not loaded before they are asked for", () => {
  const loaded = loadedWith(entry);
  assert.ok(loaded.size > 100, `only ${loaded.size} files were found`);
  const early = [...loaded].flatMap(([path, packages]) =>
    packages.filter((name) => later.some((one) => name.startsWith(one))).map((name) => `${path} loads ${name}`),
  );
  assert.deepEqual(early, []);
});
