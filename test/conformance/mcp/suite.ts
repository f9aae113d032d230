/** The official suite @modelcontextprotocol/conformance, run as it is, and its checks counted from the files that it leaves. */

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import type { Outcome } from "./outcome.ts";
import type { Peers } from "./peers.ts";

export type Revision = "2026-07-28" | "2025-11-25";
export const revisions: readonly Revision[] = ["2026-07-28", "2025-11-25"];

/** Not part of what a revision requires, and passed all the same. */
export const taskScenarios = [
  "tasks-lifecycle",
  "tasks-capability-negotiation",
  "tasks-wire-fields",
  "tasks-request-state-removal",
  "tasks-mrtr-input",
  "tasks-request-headers",
  "tasks-dispatch-and-envelope",
  "tasks-required-task-error",
  "tasks-mrtr-composition",
] as const;
export const httpScenarios = ["http-header-validation", "dns-rebinding-protection"] as const;

const suite = "@modelcontextprotocol/conformance";
const client = fileURLToPath(new URL("./client.ts", import.meta.url));
const suiteMs = 300_000;
const clientMs = 120_000;

interface Check {
  id: string;
  status: "SUCCESS" | "FAILURE" | "WARNING" | "SKIPPED" | "INFO";
  errorMessage?: string;
}

/** All that a revision requires of a server. */
export function serverSide(peers: Peers, url: string, revision: Revision): Promise<Outcome> {
  const args = ["server", "--url", url, "--requirements", revision];
  return runSuite(peers, args, {
    part: `server-${revision}`,
    what: `required of a server by ${revision}`,
    isScored: scoredBy(peers, revision),
  });
}

/** All that a revision requires of a client, which is this repository's own for upstream servers. */
export function clientSide(peers: Peers, revision: Revision): Promise<Outcome> {
  // it starts all clients at once
  const args = ["client", "--command", `${process.execPath} ${client}`, "--requirements", revision, "--timeout", String(clientMs)];
  return runSuite(peers, args, {
    part: `client-${revision}`,
    what: `required of a client by ${revision}`,
    isScored: scoredBy(peers, revision),
  });
}

export function serverScenario(peers: Peers, url: string, of: { part: string; scenario: string }): Promise<Outcome> {
  const args = ["server", "--url", url, "--scenario", of.scenario];
  return runSuite(peers, args, { part: of.part, what: of.scenario, isScored: () => true });
}

/** Scenarios that the suite runs without counting them are left out here too. */
function scoredBy(peers: Peers, revision: Revision): (folder: string) => boolean {
  const text = readFileSync(peers.file(`${suite}/requirements/${revision}.yaml`), "utf8");
  const { not_scored = [] } = parse(text) as { not_scored?: { scenario: string }[] };
  const names = not_scored.map(({ scenario }) => scenario);
  return (folder) => !names.some((name) => scenarioIn(folder) === name);
}

/** `results/server-tools-list-2026-11-26T03-00-00-000Z` and, for a scenario with a slash in its name, a folder below another. */
function scenarioIn(folder: string): string {
  return folder.replace(/-\d{4}-\d\d-\d\dT[\d-]+Z$/, "").replace(/^server-/, "");
}

async function runSuite(
  peers: Peers,
  args: readonly string[],
  of: { part: string; what: string; isScored: (folder: string) => boolean },
): Promise<Outcome> {
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-mcp-suite-"));
  try {
    const results = path.join(folder, "results");
    const { code, output } = await runNode([peers.file(`${suite}/dist/index.js`), ...args, "--output-dir", results], folder);
    const outcome: Outcome = { part: of.part, what: of.what, passed: 0, failed: 0, skipped: 0, why: [] };
    for (const { folder: scenario, checks } of await checksIn(results)) {
      if (of.isScored(scenario)) count(outcome, scenarioIn(scenario), checks);
    }
    if (outcome.passed + outcome.failed === 0) {
      outcome.failed++;
      outcome.why.push(`the suite checked nothing: ${output.trim().slice(-600)}`);
    } else if (code !== 0 && outcome.failed === 0) {
      outcome.failed++;
      outcome.why.push(`the suite ended with code ${code}: ${output.trim().slice(-600)}`);
    }
    return outcome;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function count(outcome: Outcome, scenario: string, checks: readonly Check[]): void {
  for (const { id, status, errorMessage = "" } of checks) {
    if (status === "SUCCESS") outcome.passed++;
    else if (status === "SKIPPED") outcome.skipped++;
    else if (status !== "INFO") {
      if (status === "FAILURE") outcome.failed++;
      outcome.why.push(`${status} ${scenario} ${id}: ${errorMessage.slice(0, 400)}`);
    }
  }
}

async function checksIn(folder: string): Promise<{ folder: string; checks: Check[] }[]> {
  const files = await readdir(folder, { recursive: true }).catch(() => []);
  const found = files.filter((file) => path.basename(file) === "checks.json").sort();
  return Promise.all(
    found.map(async (file) => ({
      folder: path.dirname(file),
      checks: JSON.parse(await readFile(path.join(folder, file), "utf8")) as Check[],
    })),
  );
}

export function runNode(
  args: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv = process.env,
): Promise<{ code: number | null; output: string; stdout: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
    const timer = setTimeout(() => child.kill("SIGKILL"), suiteMs);
    let output = "";
    let stdout = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    child.once("error", reject);
    child.once("close", (code) => {
      clearTimeout(timer);
      resolve({ code, output, stdout });
    });
  });
}
