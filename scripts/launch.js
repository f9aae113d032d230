/**
 * The front step of every npm script and of the command line in a clone: plain JavaScript for any Node from 20 on.
 * It installs what package-lock.json asks for if that is not there, builds the console if its sources are newer than what was built, then runs
 * the pinned Node on
 *   node scripts/launch.js --run <script.ts> [arguments]      a script of this repository
 *   node scripts/launch.js [arguments]                        the command line
 * with the same terminal, and ends as that process ends.
 */

import { spawn } from "node:child_process";
import { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
/** Asked at once: npm may be gone before anybody watches. */
const startedBy = process.ppid;
const pinnedNode = path.join(root, "node_modules", "node", "bin", process.platform === "win32" ? "node.exe" : "node");

/** Whether node_modules holds what package-lock.json asks for; npm leaves its own account of it there. */
function isInstalled() {
  if (!existsSync(pinnedNode)) return false;
  try {
    const wanted = JSON.parse(readFileSync(path.join(root, "package-lock.json"), "utf8")).packages;
    const present = JSON.parse(readFileSync(path.join(root, "node_modules", ".package-lock.json"), "utf8")).packages;
    const same = (name) => present[name]?.version === wanted[name]?.version && present[name]?.integrity === wanted[name]?.integrity;
    const missing = Object.keys(wanted).some((name) => name !== "" && !same(name) && !(wanted[name].optional && !present[name]));
    return !missing && Object.keys(present).every((name) => wanted[name] !== undefined);
  } catch {
    return false;
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

/** Two launches of a fresh clone must not both write node_modules: one installs, the other waits. Answers a function that lets go. */
async function lockInstall() {
  const folder = path.join(root, ".cache");
  const file = path.join(folder, "install.lock");
  const own = `${file}.${process.pid}`;
  mkdirSync(folder, { recursive: true });
  writeFileSync(own, String(process.pid));
  let told = false;
  try {
    for (;;) {
      try {
        linkSync(own, file); // fails if the file exists, and the file is never seen without its text
        return () => rmSync(file, { force: true });
      } catch (error) {
        if (error.code !== "EEXIST") throw error;
      }
      let holder;
      try {
        holder = Number(readFileSync(file, "utf8"));
      } catch {
        continue;
      }
      if (!isAlive(holder)) {
        removeStale(file, holder, `${own}.stale`);
        continue;
      }
      if (!told) process.stderr.write(`Process ${holder} is installing the dependencies, or building the console; waiting for it.\n`);
      told = true;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  } finally {
    rmSync(own, { force: true });
  }
}

/** Takes a dead process's lock away, and puts it back if a live one had replaced it meanwhile. */
function removeStale(file, holder, aside) {
  try {
    renameSync(file, aside);
    if (Number(readFileSync(aside, "utf8")) !== holder) linkSync(aside, file);
  } catch {
    // Another launch was faster; the next look decides.
  }
  rmSync(aside, { force: true });
}

function npmCommand() {
  const running = process.env.npm_execpath;
  if (running?.endsWith(".js") && existsSync(running)) return [process.execPath, running];
  return [process.platform === "win32" ? "npm.cmd" : "npm"];
}

function runNpm(args) {
  const [command, ...before] = npmCommand();
  // onnxruntime-node would download CUDA libraries after installation; the CPU library comes inside the package.
  const env = { ...process.env, ONNXRUNTIME_NODE_INSTALL: "skip", ONNXRUNTIME_NODE_INSTALL_CUDA: "skip" };
  return new Promise((resolve) => {
    const options = { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] };
    // Windows starts .cmd files in a shell only
    const child = command.endsWith(".cmd")
      ? spawn([command, ...args].join(" "), { ...options, shell: true })
      : spawn(command, [...before, ...args], options);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
    child.once("error", (error) => resolve({ code: 1, output: `${output}${error.message}\n` }));
    child.once("close", (code) => resolve({ code: code ?? 1, output }));
  });
}

/** Answers what went wrong, or undefined. */
async function install() {
  const release = await lockInstall();
  try {
    if (isInstalled()) return undefined; // the launch that we waited for did it
    process.stderr.write("Installing dependencies (npm ci) …\n");
    const started = Date.now();
    const { code, output } = await runNpm(["ci", "--include=dev", "--no-audit", "--no-fund", "--loglevel=error"]);
    if (code !== 0) return `${output}\nThe dependencies could not be installed: npm ci ended with code ${code}.\n`;
    if (!existsSync(pinnedNode)) return `${output}\nnpm ci ran, but brought no Node (are install scripts switched off?).\n`;
    process.stderr.write(`Installed in ${((Date.now() - started) / 1000).toFixed(0)} s.\n`);
    return undefined;
  } finally {
    release();
  }
}

/** The newest change of a file or of a folder and all below it, whose own date tells what was deleted. 0 for what is not there. */
function changedMs(name) {
  const file = path.join(root, name);
  const stats = statSync(file, { throwIfNoEntry: false });
  if (!stats?.isDirectory()) return stats?.mtimeMs ?? 0;
  return Math.max(stats.mtimeMs, ...readdirSync(file).map((below) => changedMs(path.join(name, below))));
}

/** The build dates what it made to its own start. */
function isConsoleBuilt() {
  const sources = ["console/src", "console/index.html", "console/build.ts", "client-sdk/src/cli/image-tensor.ts", "package-lock.json"];
  const built = path.join(root, "console", "dist", "index.html");
  if (!existsSync(path.join(root, "console", "src"))) return true; // a folder that has only what is needed to run
  return existsSync(built) && Math.max(...sources.map(changedMs)) <= statSync(built).mtimeMs;
}

/** Whether somebody may look at the console in what is run: tests in a browser, pictures, a coordinator. */
function showsConsole([first, script = "", ...rest]) {
  if (first !== "--run") return first === "up" || first === "coordinator";
  const named = rest.filter((word) => !word.startsWith("-"));
  if (path.basename(script) === "test.ts") return named.length === 0 || named.some((word) => word.includes("e2e"));
  return path.basename(script) === "screenshots.ts";
}

/** Without it everything works but the console, so that whatever goes wrong here is told and keeps nothing from starting. */
async function buildConsole() {
  let release = () => {};
  try {
    if (isConsoleBuilt()) return;
    release = await lockInstall(); // fails where nothing may be written
    if (isConsoleBuilt()) return;
    const child = spawn(pinnedNode, [path.join(root, "console", "build.ts")], { cwd: root, stdio: ["ignore", "ignore", "pipe"] });
    let output = "";
    child.stderr.on("data", (chunk) => (output += chunk));
    const code = await new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", resolve);
    });
    if (code !== 0) throw new Error(output.trim() || `it ended with code ${code}`);
  } catch (error) {
    process.stderr.write(`The console could not be built; all else works without it: ${error.message}\n`);
  } finally {
    release();
  }
}

/** Runs the pinned Node with our terminal, passes signals on, and ends as it ends. */
function become(args) {
  const bin = path.join(root, "node_modules", ".bin");
  const env = { ...process.env, PATH: `${bin}${path.delimiter}${process.env.PATH ?? ""}` };
  /** @type {import("node:child_process").ChildProcess} */
  let child;
  const handlers = new Map();
  let isTold = false;
  // before there is a child: a signal in between would end us and leave it alone
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR2"]) {
    // After a Ctrl-C the terminal has told the child already; nobody can see that here, so those who count signals take two as one.
    const pass = () => {
      if (signal !== "SIGUSR2") isTold = true;
      child.kill(signal);
    };
    handlers.set(signal, pass);
    process.on(signal, pass);
  }
  child = spawn(pinnedNode, args, { stdio: "inherit", env });
  endWithNpm(() => isTold || child.kill("SIGTERM"));
  child.once("error", (error) => {
    process.stderr.write(`${pinnedNode} could not be started: ${error.message}\n`);
    process.exit(1);
  });
  child.once("exit", (code, signal) => {
    if (signal === null) process.exit(code ?? 1);
    for (const [name, pass] of handlers) process.off(name, pass);
    process.kill(process.pid, signal);
    setTimeout(() => process.exit(128 + (constants.signals[signal] ?? 0)), 1000); // a signal that does not end us
  });
}

/** npm and its shell die of a SIGTERM without telling us; whoever stopped `npm start` that way expects everything to stop. */
function endWithNpm(end) {
  if (process.env.npm_lifecycle_event === undefined || process.platform === "win32") return;
  const watch = setInterval(() => {
    if (process.ppid === startedBy) return;
    clearInterval(watch);
    end();
  }, 500);
  watch.unref();
}

export async function launch(args) {
  const major = Number.parseInt(process.versions.node, 10);
  if (major < 20) {
    process.stderr.write(`Switchyard needs Node 20 or newer to start; this is ${process.version}. See https://nodejs.org.\n`);
    process.exit(1);
  }
  const failure = isInstalled() ? undefined : await install();
  if (failure !== undefined) {
    process.stderr.write(failure);
    process.exit(1);
  }
  if (showsConsole(args)) await buildConsole();
  if (args[0] === "--run") become(args.slice(1));
  else become([path.join(root, "client-sdk", "src", "cli", "main.ts"), ...args]);
}

if (process.argv[1] && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) await launch(process.argv.slice(2));
