#!/usr/bin/env node
/**
 * Starts the command line on the Node that this project pins, whatever Node found this file (20 or newer). Plain JavaScript, because an
 * older Node cannot read the TypeScript sources. Passes signals and the exit code on.
 */

import { spawn } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const source = join(here, "../src/cli/main.ts");
const main = existsSync(source) ? source : join(here, "../dist/cli/main.js");

function pinnedNode() {
  try {
    const home = dirname(createRequire(import.meta.url).resolve("node/package.json"));
    const path = join(home, "bin", process.platform === "win32" ? "node.exe" : "node");
    if (existsSync(path)) return path;
  } catch {
    // Not installed beside us: the Node that runs now has to do.
  }
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (main === source && (major < 22 || (major === 22 && minor < 18))) {
    console.error(
      `switchyard: Node ${process.versions.node} cannot run TypeScript and the pinned Node is not installed; run \`npm ci\` in the clone`,
    );
    process.exit(1);
  }
  return process.execPath;
}

const node = pinnedNode();
if (realpathSync(node) === realpathSync(process.execPath)) {
  process.argv[1] = main;
  await import(main);
} else {
  const child = spawn(node, [main, ...process.argv.slice(2)], { stdio: "inherit" });
  // A terminal gives Ctrl-C to the child as well; the programs that count signals take two at once as one.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.on("error", (error) => {
    console.error(`switchyard: cannot start ${node}: ${error.message}`);
    process.exit(1);
  });
  child.on("exit", (code, signal) => process.exit(signal === null ? code : 128 + constants.signals[signal]));
}
