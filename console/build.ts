/**
 * Builds the console into dist/: bundled, named by content, compressed ahead. Run by scripts/launch.js when sources are newer than what was built;
 * the new folder takes the old one's place whole. Fails when the scripts are larger than the budget.
 */

import { readdirSync, readFileSync, renameSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { build } from "vite";

const here = fileURLToPath(new URL(".", import.meta.url));
const target = path.join(here, "dist");
const work = path.join(here, `.dist-${process.pid}`);
/** All scripts together, as they are sent. */
const mostScriptBytes = 200_000;
const compressible = /\.(html|js|css|svg)$/;
const startedAt = new Date(); // a source that changes from now on makes it old

try {
  await build({
    root: here,
    configFile: false,
    logLevel: "warn",
    oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
    build: {
      outDir: work,
      emptyOutDir: true,
      target: "es2022",
      assetsInlineLimit: 0, // the page's policy allows no data in style sheets
      modulePreload: { polyfill: false },
      reportCompressedSize: false,
    },
  });
  let scriptBytes = 0;
  for (const name of readdirSync(work, { recursive: true, encoding: "utf8" }).filter((file) => compressible.test(file))) {
    const file = path.join(work, name);
    const bytes = readFileSync(file);
    const small = gzipSync(bytes, { level: 9 });
    writeFileSync(`${file}.gz`, small);
    writeFileSync(`${file}.br`, brotliCompressSync(bytes));
    if (name.endsWith(".js")) scriptBytes += small.length;
  }
  if (scriptBytes > mostScriptBytes)
    throw new Error(`the console's scripts are ${scriptBytes} bytes with gzip, more than ${mostScriptBytes}`);
  rmSync(target, { recursive: true, force: true });
  renameSync(work, target);
  utimesSync(path.join(target, "index.html"), startedAt, startedAt);
  if (process.argv.includes("--say")) console.log(`console: scripts of ${scriptBytes} bytes with gzip`);
} finally {
  rmSync(work, { recursive: true, force: true });
}
