import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const launcher = fileURLToPath(new URL("../../scripts/launch.js", import.meta.url));
const folder = await mkdtemp(path.join(tmpdir(), "switchyard-launch-"));
after(() => rm(folder, { recursive: true, force: true }));

async function launch(source: string, act?: (kill: (signal: NodeJS.Signals) => void) => void) {
  const script = path.join(folder, "script.ts");
  await writeFile(script, source);
  // A group of its own, away from any terminal's foreground.
  const child = spawn(process.execPath, [launcher, "--run", script, "one", "two"], {
    stdio: ["ignore", "pipe", "inherit"],
    detached: true,
  });
  let output = "";
  child.stdout.on("data", (chunk) => {
    if (output === "") act?.((signal) => child.kill(signal));
    output += chunk;
  });
  const [code, signal] = await once(child, "close");
  return { code, signal, output };
}

test("a script runs on the pinned Node with its arguments, and its exit code comes out", async () => {
  const { code, output } = await launch("console.log(process.version, ...process.argv.slice(2)); process.exitCode = 7 as number;");
  assert.equal(code, 7);
  assert.match(output, /^v24\.\d+\.\d+ one two\n$/);
});

test("each stop signal reaches the script once, and the launcher waits while the script drains", async () => {
  const source = `let heard = 0; const words: string[] = [];
    for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => { words.push(name); if (heard++ === 0) setTimeout(() => { console.log(words.join()); process.exit(0); }, 200); });
    setInterval(() => {}, 1000); console.log("ready");`;
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    const { code, output } = await launch(source, (kill) => kill(name));
    assert.equal(code, 0);
    assert.equal(output, `ready\n${name}\n`);
  }
});

test("a script ends when npm, which does not say so, has died", { skip: process.platform === "win32" && "has no signals" }, async () => {
  const script = path.join(folder, "script.ts");
  await writeFile(
    script,
    `process.on("SIGTERM", () => { console.log("told to end"); process.exit(0); }); setInterval(() => {}, 1000); console.log("ready");`,
  );
  const command = `"${process.execPath}" "${launcher}" --run "${script}"; exit 0`;
  const npm = spawn("/bin/sh", ["-c", command], {
    env: { ...process.env, npm_lifecycle_event: "start" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  npm.stdout.on("data", (chunk) => {
    if (output === "") npm.kill("SIGKILL");
    output += chunk;
  });
  await once(npm, "close"); // of the pipe too, which script and launcher hold
  assert.equal(output, "ready\ntold to end\n");
});

test("a script that dies of a signal makes the launcher die of it", async () => {
  const { code, signal } = await launch(`process.kill(process.pid, "SIGKILL");`);
  assert.deepEqual([code, signal], [null, "SIGKILL"]);
});
