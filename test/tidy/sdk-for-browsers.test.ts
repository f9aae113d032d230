/** What a browser would load when a page imports the SDK. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const entry = new URL("../../client-sdk/src/index.ts", import.meta.url);
const protocol = new URL("../../protocol/src/index.ts", import.meta.url);
const allowedPackages = new Set(["eventsource-parser"]);

/** Every source file that `from` loads, with the packages that it names. Imports of types alone load nothing. */
function closure(from: URL): { files: Map<string, string>; packages: Set<string> } {
  const files = new Map<string, string>();
  const packages = new Set<string>();
  const waiting = [from];
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    const path = fileURLToPath(file);
    if (files.has(path)) continue;
    const text = readFileSync(file, "utf8");
    files.set(path, text);
    for (const [, specifier] of text.matchAll(/^(?:import|export)\b(?! type\b)[^;]*?\bfrom\s+"([^"]+)";/gms)) {
      if (specifier!.startsWith(".")) waiting.push(new URL(specifier!, file));
      else if (specifier === "@switchyard/protocol") waiting.push(protocol);
      else packages.add(specifier!);
    }
  }
  return { files, packages };
}

test("the SDK needs nothing that browsers lack", () => {
  const { files, packages } = closure(entry);
  assert.ok(files.size > 15, `only ${files.size} files were found`);
  for (const name of packages) assert.ok(allowedPackages.has(name), `the SDK loads ${name}`);
  for (const [path, text] of files) {
    assert.doesNotMatch(text, /\bBuffer\.(?:from|alloc|concat|byteLength)\b|(?<!\.)\bprocess\.(?:env|std|argv)|\brequire\(/, path);
  }
});
