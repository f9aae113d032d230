/**
 * npm test: all groups, or those named, or single files: `npm test -- unit`, `npm test -- test/unit/config.test.ts`.
 * What starts with a dash goes to node --test. One run of the runner, so that the closing figures count everything.
 */

import { spawn } from "node:child_process";
import { existsSync, globSync } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const groups = ["tidy", "unit", "contract", "simulation", "integration", "chaos", "e2e"];
/** Run only when they are named. */
const special = ["gpu"];
/**
 * Files at once. Integration tests start servers and wait for them, for their time limits and for what comes after a fault: two cores are a third
 * idle with two files. More at once would only make them slow and wrong.
 */
const concurrency = Math.min(4, Math.max(3, Math.floor(availableParallelism() / 2)));
const longestTestMs = 180_000;
/** Hundreds of processes start from the same files: what they compile is kept for the next one. */
const compiled = `${root}/.cache/compiled`;

const given = process.argv.slice(2);
const options = given.filter((word) => word.startsWith("-"));
const named = given.filter((word) => !word.startsWith("-"));
const isFile = (word: string): boolean => word.endsWith(".ts") && existsSync(`${root}/${word}`);
const unknown = named.filter((word) => !groups.includes(word) && !special.includes(word) && !isFile(word));
if (unknown.length > 0) {
  console.error(`No such test group or file: ${unknown.join(", ")}. Groups: ${groups.join(", ")}`);
  process.exit(2);
}
const filesOf = (group: string): string[] =>
  group === "unit" ? ["test/all-unit-tests.ts"] : globSync(`test/${group}/**/*.test.ts`, { cwd: root }).sort();
const files = (named.length > 0 ? named : groups).flatMap((word) => (isFile(word) ? [word] : filesOf(word)));
if (files.length === 0) {
  console.error(`No test files in ${(named.length > 0 ? named : groups).join(", ")}`);
  process.exit(2);
}

const isChosen = options.some((option) => option.startsWith("--test-reporter"));
const reporter = isChosen ? [] : [`--test-reporter=${process.stdout.isTTY ? "spec" : new URL("brief-reporter.ts", import.meta.url).href}`];
if (process.env.SWITCHYARD_TEST_MODELS === undefined) {
  console.log("SWITCHYARD_TEST_MODELS is not set: tests that need further models are skipped.");
}
const limits = [`--test-concurrency=${concurrency}`, `--test-timeout=${longestTestMs}`];
const child = spawn(process.execPath, ["--test", ...limits, ...reporter, ...options, ...files], {
  cwd: root,
  stdio: "inherit",
  env: { NODE_COMPILE_CACHE: compiled, ...process.env },
});
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
child.once("exit", (code) => {
  process.exitCode = code ?? 1;
});
