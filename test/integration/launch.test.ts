import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const launcher = fileURLToPath(new URL("../../scripts/launch.js", import.meta.url));
const folder = await mkdtemp(path.join(tmpdir(), "switchyard-launch-"));
after(() => rm(folder, { recursive: true, force: true }));

const mostMs = 60_000;

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
  const [code, signal] = await once(child, "close", { signal: AbortSignal.timeout(mostMs) }).catch((error) => {
    process.kill(-child.pid!, "SIGKILL"); // or this file would never end
    throw error;
  });
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

/** A clone with what was installed here, where nothing can be kept: its folder for that is a file. */
async function cloneWithoutCache(): Promise<string> {
  const clone = await mkdtemp(path.join(folder, "clone-"));
  const root = path.dirname(path.dirname(launcher));
  for (const name of ["scripts", "console/src"]) await mkdir(path.join(clone, name), { recursive: true });
  await cp(launcher, path.join(clone, "scripts/launch.js"));
  for (const name of ["package.json", "package-lock.json"]) await cp(path.join(root, name), path.join(clone, name));
  await symlink(path.join(root, "node_modules"), path.join(clone, "node_modules"));
  await writeFile(path.join(clone, "scripts/screenshots.ts"), `console.log("ran");`);
  await writeFile(path.join(clone, "scripts/other.ts"), `console.log("ran");`);
  await writeFile(path.join(clone, ".cache"), "");
  return clone;
}

test("where the console cannot be built, that is told and all else runs; what shows none builds none", async () => {
  const clone = await cloneWithoutCache();
  const run = promisify(execFile);
  const launchHere = (script: string) => run(process.execPath, [path.join(clone, "scripts/launch.js"), "--run", path.join(clone, script)]);
  const shown = await launchHere("scripts/screenshots.ts");
  assert.equal(shown.stdout, "ran\n");
  assert.match(shown.stderr, /^The console could not be built; all else works without it: .*\.cache.*\n$/);
  assert.deepEqual(await launchHere("scripts/other.ts"), { stdout: "ran\n", stderr: "" });
});

test("a source of the console that is missing keeps nothing from starting, and one that was deleted makes the console old", async () => {
  const clone = await cloneWithoutCache();
  const built = path.join(clone, "console/dist/index.html");
  await mkdir(path.dirname(built));
  await writeFile(built, "");
  const launchHere = () =>
    promisify(execFile)(process.execPath, [path.join(clone, "scripts/launch.js"), "--run", path.join(clone, "scripts/screenshots.ts")]);
  await writeFile(path.join(clone, "console/src/old.ts"), "");
  const [before, after] = [new Date(Date.now() - 60_000), new Date(Date.now() + 60_000)];
  for (const name of ["console/src/old.ts", "console/src"]) await utimes(path.join(clone, name), before, before);
  await utimes(built, after, after);
  assert.equal((await launchHere()).stderr, "", "console/index.html and others are not here");
  await utimes(built, before, before);
  await utimes(path.join(clone, "package-lock.json"), before, before);
  assert.equal((await launchHere()).stderr, "");
  await rm(path.join(clone, "console/src/old.ts"));
  assert.match((await launchHere()).stderr, /could not be built/);
});

test("a script that dies of a signal makes the launcher die of it", async () => {
  const { code, signal } = await launch(`process.kill(process.pid, "SIGKILL");`);
  assert.deepEqual([code, signal], [null, "SIGKILL"]);
});
