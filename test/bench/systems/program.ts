/** Node programs that the bench starts: each says one JSON line on standard output when it is ready, and ends on SIGTERM. */

import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { serverNodeFlags } from "@switchyard/protocol/node-flags";

const readyMark = "bench-ready ";
const startMs = 120_000;

/** Whatever ends the bench ends what it started. */
const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export interface Program<Said> {
  pid: number;
  said: Said;
  /** Throws, with the end of what it said, when the program has ended by itself. */
  mustRun(): void;
  stop(): Promise<void>;
}

export function tellReady(said: unknown): void {
  process.stdout.write(`${readyMark}${JSON.stringify(said)}\n`);
}

export interface ProgramOptions {
  file: URL;
  args?: readonly string[];
  nodeArgs?: readonly string[];
  env?: Record<string, string>;
}

export interface StartOptions<Said> extends ProgramOptions {
  /** Finds in the output that the program is ready. */
  read: (line: string) => Said | undefined;
}

/** A program of the bench itself. Node runs it with the flags that coordinators and workers have. */
export function startProgram<Said>(options: ProgramOptions): Promise<Program<Said>> {
  const read = (line: string): Said | undefined =>
    line.startsWith(readyMark) ? (JSON.parse(line.slice(readyMark.length)) as Said) : undefined;
  return startUntil({ nodeArgs: serverNodeFlags, ...options, read });
}

/** Starts any program of ours and waits until `read` finds what it looks for in a line of either output. */
export async function startUntil<Said>(options: StartOptions<Said>): Promise<Program<Said>> {
  const child = spawn(process.execPath, [...(options.nodeArgs ?? []), fileURLToPath(options.file), ...(options.args ?? [])], {
    env: { ...process.env, ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let ending = "";
  const keepEnding = (chunk: Buffer): void => {
    ending = (ending + String(chunk)).slice(-4_000);
  };
  child.stdout.on("data", keepEnding);
  child.stderr.on("data", keepEnding);
  const mustRun = (): void => {
    if (child.exitCode === null && child.signalCode === null) return;
    throw new Error(`a program ended with ${child.exitCode ?? child.signalCode} under load:\n${ending}`);
  };
  running.add(child);
  const exited = new Promise<void>((resolve) => {
    child.once("exit", () => {
      running.delete(child);
      resolve();
    });
  });
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    const late = setTimeout(() => child.kill("SIGKILL"), 20_000);
    await exited;
    clearTimeout(late);
  };
  try {
    return { pid: child.pid!, said: await firstSaid(child, exited, options.read), mustRun, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function firstSaid<Said>(child: ChildProcess, exited: Promise<void>, read: (line: string) => Said | undefined): Promise<Said> {
  return new Promise((resolve, reject) => {
    let output = "";
    const late = setTimeout(() => reject(new Error(`a program did not start within ${startMs} ms:\n${output}`)), startMs);
    let ready = false;
    const hear = (chunk: Buffer): void => {
      if (ready) return; // what it says later is read and dropped, so that its pipe never fills
      output += String(chunk);
      for (const line of output.split("\n")) {
        const said = read(line);
        if (said === undefined) continue;
        ready = true;
        clearTimeout(late);
        resolve(said);
        return;
      }
    };
    child.stdout!.on("data", hear);
    child.stderr!.on("data", hear);
    void exited.then(() => {
      clearTimeout(late);
      reject(new Error(`a program ended before it was ready:\n${output}`));
    });
  });
}
