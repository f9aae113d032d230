/** Runs a Python program of checks against a server; each sentence that it prints is a test of its own. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";

interface Result {
  sentence: string;
  skipped?: string;
  failure?: string;
}

export interface PythonChecks {
  python: string;
  /** File in this folder. */
  program: string;
  /** Which of the server's doors it is about. */
  way: Way;
  url: string;
  /** host:port */
  grpc: string;
  models: readonly string[];
}

export const ways = ["HTTP", "gRPC"] as const;
type Way = (typeof ways)[number];

export async function pythonChecks(test: TestContext, checks: PythonChecks): Promise<void> {
  const folder = fileURLToPath(new URL(".", import.meta.url));
  const asked = { SWITCHYARD_URL: checks.url, SWITCHYARD_GRPC: checks.grpc, CHECKED_MODELS: checks.models.join(",") };
  const env = { ...process.env, ...asked, PYTHONDONTWRITEBYTECODE: "1" };
  const child = spawn(checks.python, [checks.program, checks.way], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  let complaints = "";
  child.stderr.on("data", (chunk) => {
    complaints += chunk;
  });
  const code = new Promise<number | null>((resolve) => child.once("close", resolve));
  let seen = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    if (!line.startsWith("{")) continue; // what a client prints by itself
    const { sentence, skipped, failure } = JSON.parse(line) as Result;
    seen++;
    await test.test(sentence, { skip: skipped ?? false }, () => {
      if (failure !== undefined) assert.fail(failure);
    });
  }
  assert.equal(await code, 0, complaints);
  assert.ok(seen > 5, `only ${seen} checks ran:\n${complaints}`);
}
