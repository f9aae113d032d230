/**
 * Commands that live in packages of their own: this process turns into theirs where the system can (so signals and exit codes need no
 * passing on), and starts them as a child elsewhere.
 */

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";
import { UsageError } from "./exit-codes.ts";

export const delegates: Readonly<Record<string, { module: string; summary: string }>> = {
  up: { module: "@switchyard/coordinator/up", summary: "start Redis, a coordinator and workers on this machine" },
  coordinator: { module: "@switchyard/coordinator/main", summary: "start a coordinator" },
  worker: { module: "@switchyard/worker/main", summary: "start a worker" },
  doctor: { module: "@switchyard/coordinator/doctor", summary: "check this machine and say how to fix what is wrong" },
};

/** The delegate that a command line names, and the arguments that are its own. Options before the name go with it. */
export function findDelegate(args: readonly string[]): { name: string; args: string[] } | undefined {
  const takesValue = new Set(["--url", "--api-key"]);
  for (let at = 0; at < args.length; at++) {
    const word = args[at]!;
    if (takesValue.has(word)) at++;
    else if (!word.startsWith("-")) {
      return Object.hasOwn(delegates, word) ? { name: word, args: [...args.slice(0, at), ...args.slice(at + 1)] } : undefined;
    }
  }
  return undefined;
}

/** Does not return while the delegate runs; then answers its exit code. Throws UsageError when its package is not installed. */
export async function runDelegate(name: string, args: readonly string[]): Promise<number> {
  const { module } = delegates[name]!;
  const file = locate(module);
  if (file === undefined) {
    throw new UsageError(
      `\`switchyard ${name}\` needs the package ${module.split("/").slice(0, 2).join("/")}, which is not installed here`,
    );
  }
  const command = [...process.execArgv, file, ...args];
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
