/**
 * Commands that live in packages of their own: this process turns into theirs where the system can (so signals and exit codes need no
 * passing on), and starts them as a child elsewhere.
 */

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";
import { serverNodeFlags } from "@switchyard/protocol/node-flags";
import { UsageError } from "./exit-codes.ts";

interface Delegate {
  module: string;
  summary: string;
  /** Which of the command line's own options mean something there too. */
  shares?: readonly string[];
  /** It serves for long, and Node runs it with the flags for that. */
  isServer?: boolean;
}

export const delegates: Readonly<Record<string, Delegate>> = {
  up: { module: "@switchyard/coordinator/up", summary: "start Redis, a coordinator and workers on this machine" },
  coordinator: { module: "@switchyard/coordinator/main", summary: "start a coordinator", isServer: true },
  worker: { module: "@switchyard/worker/main", summary: "start a worker", shares: ["--url"], isServer: true },
  doctor: { module: "@switchyard/coordinator/doctor", summary: "check this machine and say how to fix what is wrong", shares: ["--json"] },
};

/** The delegate that a command line names, and the arguments that are its own. Options before the name go with it. */
export function findDelegate(args: readonly string[]): { name: string; args: string[] } | undefined {
  const takesValue = new Set(["--url", "--api-key"]);
  for (let at = 0; at < args.length; at++) {
    const word = args[at]!;
    if (takesValue.has(word)) at++;
    else if (word === "help" && Object.hasOwn(delegates, args[at + 1] ?? "")) return { name: args[at + 1]!, args: ["--help"] };
    else if (!word.startsWith("-")) {
      return Object.hasOwn(delegates, word) ? { name: word, args: [...args.slice(0, at), ...args.slice(at + 1)] } : undefined;
    }
  }
  return undefined;
}

const clientOptions = ["--url", "--api-key", "--json"];

/**
 * Does not return while the delegate runs; then answers its exit code. Throws UsageError for options that only calls to a server take, and
 * when its package is not installed.
 */
export async function runDelegate(name: string, args: readonly string[]): Promise<number> {
  const { module, shares = [], isServer } = delegates[name]!;
  const foreign = args.map((word) => word.split("=", 1)[0]!).find((word) => clientOptions.includes(word) && !shares.includes(word));
  if (foreign !== undefined) {
    throw new UsageError(`${foreign} is for commands that call a server; \`switchyard ${name}\` does not take it (see its --help)`);
  }
  const file = locate(module);
  if (file === undefined) {
    throw new UsageError(
      `\`switchyard ${name}\` needs the package ${module.split("/").slice(0, 2).join("/")}, which is not installed here`,
    );
  }
  const command = [...process.execArgv, ...(isServer ? serverNodeFlags : []), file, ...args];
  if (process.execve !== undefined && process.platform !== "win32" && parentPipe() === undefined)
    process.execve(process.execPath, [process.execPath, ...command], process.env);
  return startChild(command);
}

function locate(module: string): string | undefined {
  try {
    const file = fileURLToPath(import.meta.resolve(module));
    return existsSync(file) ? file : undefined;
  } catch {
    return undefined;
  }
}

/** The descriptor by which a delegate learns that whoever started us is gone; replacing this process would close it. */
function parentPipe(): number | undefined {
  const descriptor = process.env.SWITCHYARD_PARENT_PIPE;
  return descriptor !== undefined && /^\d{1,3}$/.test(descriptor) ? Number(descriptor) : undefined;
}

function startChild(command: readonly string[]): Promise<number> {
  const stdio: ("inherit" | "ignore" | number)[] = ["inherit", "inherit", "inherit"];
  const pipe = parentPipe();
  if (pipe !== undefined) {
    while (stdio.length < pipe) stdio.push("ignore");
    stdio[pipe] = pipe;
  }
  const child = spawn(process.execPath, command, { stdio });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => resolve(signal === null ? (code ?? 1) : 128 + constants.signals[signal]));
  });
}
