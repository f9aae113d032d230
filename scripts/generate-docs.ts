/**
 * Writes docs/reference/, the README's table of settings, and the dashboards and rules of deploy/ from the sources that they describe. `--check` writes nothing and names what is
 * stale; a test does the same.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { generatedDeployment } from "../deploy/observability/generated.ts";
import { accessPage } from "./reference-pages/access.ts";
import { commandLinePage } from "./reference-pages/command-line.ts";
import { configHead, configPage, configRows } from "./reference-pages/config.ts";
import { errorsPage } from "./reference-pages/errors.ts";
import { markdownTable } from "./reference-pages/markdown-table.ts";
import { metricsPage } from "./reference-pages/metrics.ts";
import { modelYamlPage } from "./reference-pages/model-yaml.ts";

const root = new URL("../", import.meta.url);

/** Text of every generated file, by path from the root. */
export async function generatedDocs(): Promise<Map<string, string>> {
  return new Map([
    ["docs/reference/access.md", accessPage()],
    ["docs/reference/errors.md", errorsPage()],
    ["docs/reference/cli.md", await commandLinePage()],
    ["docs/reference/config.md", configPage()],
    ["docs/reference/metrics.md", await metricsPage()],
    ["docs/reference/model-yaml.md", modelYamlPage()],
    ...generatedDeployment(),
    ["README.md", withTable(readFileSync(new URL("README.md", root), "utf8"), "settings", markdownTable(configHead, configRows()))],
  ]);
}

/** Replaces what stands between `<!-- name -->` and `<!-- end of name -->`. */
function withTable(text: string, name: string, table: string): string {
  const place = new RegExp(`(<!-- ${name}[^\\n]* -->\\n)[\\s\\S]*?(<!-- end of ${name} -->)`);
  if (!place.test(text)) throw new Error(`README.md has no place for ${name}`);
  return text.replace(place, (_whole, start: string, end: string) => `${start}${table}\n${end}`);
}

/** Paths of generated files that are not what their sources say. */
export async function staleDocs(): Promise<string[]> {
  const stale: string[] = [];
  for (const [path, text] of await generatedDocs()) if (written(path) !== text) stale.push(path);
  return stale;
}

function written(path: string): string | undefined {
  try {
    return readFileSync(new URL(path, root), "utf8");
  } catch {
    return undefined;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const stale = await staleDocs();
  const docs = await generatedDocs();
  if (process.argv.includes("--check")) {
    for (const path of stale) console.log(`stale: ${path}`);
    process.exitCode = stale.length === 0 ? 0 : 1;
  } else {
    for (const path of stale) writeFileSync(new URL(path, root), docs.get(path)!);
    console.log(stale.length === 0 ? "nothing is stale" : `written: ${stale.join(", ")}`);
  }
}
