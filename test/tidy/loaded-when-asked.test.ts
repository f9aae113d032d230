/** What processes and threads load at their start: libraries that may never be needed are loaded with the first need. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = new URL("../../", import.meta.url);
const { exports: protocolEntries } = JSON.parse(readFileSync(new URL("protocol/package.json", root), "utf8")) as {
  exports: Record<string, string>;
};

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
      else if (specifier!.startsWith(protocol)) waiting.push(protocolEntry(specifier!));
      else packages.push(specifier!);
    }
  }
  return loaded;
}

const protocol = "@switchyard/protocol";

function protocolEntry(specifier: string): URL {
  const entry = protocolEntries[`.${specifier.slice(protocol.length)}`];
  assert.ok(entry, `${specifier} is no entry of ${protocol}`);
  return new URL(entry, new URL("protocol/", root));
}

/** `fewest`: so many files at least must be found, or the search itself is broken. */
function assertLater({ entry, later, fewest }: { entry: string; later: readonly string[]; fewest: number }): void {
  const loaded = loadedWith(new URL(entry, root));
  assert.ok(loaded.size >= fewest, `only ${loaded.size} files were found`);
  const early = [...loaded].flatMap(([path, packages]) =>
    packages.filter((name) => later.some((one) => name.startsWith(one))).map((name) => `${path} loads ${name}`),
  );
  assert.deepEqual(early, []);
}

test("a coordinator loads the libraries of the Model Context Protocol, of tracing and of .proto files once they are asked for", () => {
  const later = ["@grpc/proto-loader", "@grpc/reflection", "@modelcontextprotocol/", "@opentelemetry/", "pngjs"];
  assertLater({ entry: "coordinator/src/main.ts", later, fewest: 100 });
});

for (const thread of ["worker/src/runner/runner-thread.ts", "worker/src/runtime/session-thread.ts"]) {
  test(`${thread} checks nothing that people write: it loads no schemas`, () => {
    assertLater({ entry: thread, later: ["zod"], fewest: 40 });
  });
}

test("a worker imports no node:http, with which Node's whole HTTP client would come", () => {
  assertLater({ entry: "worker/src/main.ts", later: ["node:http"], fewest: 60 });
});

test("the command line loads the libraries of schemas, of YAML and of progress bars with the first command that needs them", () => {
  assertLater({
    entry: "client-sdk/src/cli/command-line.ts",
    later: ["zod", "yaml", "cli-progress", "pngjs", "@modelcontextprotocol/"],
    fewest: 80,
  });
});
