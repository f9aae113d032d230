/**
 * The GPUs of this machine as `nvidia-smi` names them: the only file that runs it. A machine without the program has none. One that hangs,
 * fails or prints what nobody can read must neither stop nor delay the start for long: it counts as none, and why is told.
 */

import { spawn } from "node:child_process";
import type { Gpu } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";

const answersMs = 5_000;
const mostBytes = 64 * 1024;

export interface FoundGpus {
  gpus: Gpu[];
  /** Why none are known although the program is there. */
  problem?: string;
}

export async function findGpus(clock: Pick<Clock, "sleep">, limitMs: number = answersMs): Promise<FoundGpus> {
  const said = await ask(clock, limitMs);
  if ("missing" in said) return { gpus: [] };
  return "problem" in said ? { gpus: [], problem: said.problem } : readGpus(said.text);
}

/** One line a GPU, `name, MiB`. All lines must be understood, else none is believed. */
export function readGpus(text: string): FoundGpus {
  const gpus: Gpu[] = [];
  for (const line of text.split("\n")) {
    if (line.trim() === "") continue;
    const match = /^\s*([\x20-\x7e]{1,100}?)\s*,\s*(\d{1,9})\s*$/.exec(line);
    if (!match)
      return { gpus: [], problem: `nvidia-smi printed ${JSON.stringify(line.slice(0, 80))}, expected a name and a number of MiB` };
    gpus.push({ name: match[1]!, memoryMb: Number(match[2]) });
  }
  return { gpus };
}

type Said = { text: string } | { problem: string } | { missing: true };

function ask(clock: Pick<Clock, "sleep">, limitMs: number): Promise<Said> {
  return new Promise((resolve) => {
    const over = new AbortController();
    const child = spawn("nvidia-smi", ["--query-gpu=name,memory.total", "--format=csv,noheader,nounits"], {
      stdio: ["ignore", "pipe", "ignore"],
      detached: true, // a group of its own, so that what it started ends with it
    });
    let text = "";
    const end = (said: Said): void => {
      over.abort();
      child.stdout.destroy();
      child.unref();
      resolve(said);
    };
    const kill = (): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
      } catch {
        // it has ended meanwhile
      }
    };
    child.once("error", (error: NodeJS.ErrnoException) =>
      end(error.code === "ENOENT" ? { missing: true } : { problem: `nvidia-smi cannot be run: ${error.message}` }),
    );
    child.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      if (text.length <= mostBytes) return;
      kill();
      end({ problem: `nvidia-smi printed more than ${mostBytes} bytes` });
    });
    child.once("close", (code) => end(code === 0 ? { text } : { problem: `nvidia-smi ended with ${code}` }));
    void clock.sleep(limitMs, over.signal).then(() => {
      if (over.signal.aborted) return;
      kill();
      end({ problem: `nvidia-smi did not answer within ${limitMs} ms` });
    });
  });
}
