/**
 * The logs of the processes that `up` started. They write to files by themselves, so that a killed `up` breaks no pipe of theirs;
 * this follows the files and passes on what a person at the terminal should see.
 */

import { closeSync, mkdirSync, openSync, readSync, renameSync, statSync } from "node:fs";
import path from "node:path";
import { StringDecoder } from "node:string_decoder";

const keepBytes = 16 * 2 ** 20;

export class LogTail {
  readonly file: string;
  readonly #name: string;
  readonly #show: "all" | "warnings" | "nothing";
  readonly #say: (line: string) => void;
  readonly #decoder = new StringDecoder();
  #readBytes: number;
  #rest = "";
  #last: string[] = [];

  /** Among the warnings are errors and what is no log line at all (a crash). */
  constructor(options: { folder: string; name: string; show: "all" | "warnings" | "nothing"; say: (line: string) => void }) {
    mkdirSync(options.folder, { recursive: true });
    this.file = path.join(options.folder, `${options.name}.log`);
    this.#name = options.name;
    this.#show = options.show;
    this.#say = options.say;
    let sizeBytes = statSync(this.file, { throwIfNoEntry: false })?.size ?? 0;
    if (sizeBytes > keepBytes) {
      renameSync(this.file, `${this.file}.1`);
      sizeBytes = 0;
    }
    this.#readBytes = sizeBytes;
  }

  /** A descriptor for the process to write to; the caller closes it after the start. */
  open(): number {
    return openSync(this.file, "a", 0o600);
  }

  /** Shows what was written since the last call. */
  read(): void {
    const sizeBytes = statSync(this.file, { throwIfNoEntry: false })?.size ?? 0;
    if (sizeBytes <= this.#readBytes) return;
    const chunk = Buffer.alloc(Math.min(sizeBytes - this.#readBytes, 2 ** 20));
    const descriptor = openSync(this.file, "r");
    const count = readSync(descriptor, chunk, 0, chunk.length, this.#readBytes);
    closeSync(descriptor);
    this.#readBytes += count;
    const lines = (this.#rest + this.#decoder.write(chunk.subarray(0, count))).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#take(line);
  }

  /** The last lines that were read, for a message about the process's end. */
  ending(): string[] {
    this.read();
    return this.#last;
  }

  #take(line: string): void {
    if (line.trim() === "") return;
    this.#last = [...this.#last.slice(-11), line];
    if (this.#show === "all" || (this.#show === "warnings" && isLoud(line))) this.#say(`${this.#name}: ${readable(line)}`);
  }
}

function parse(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith("{")) return undefined;
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

/** Levels are words, or pino's numbers (40 is a warning); an entry without one is no complaint. */
function isLoud(line: string): boolean {
  const entry = parse(line);
  if (entry === undefined) return true;
  const { level } = entry;
  return typeof level === "number" ? level >= 40 : ["warn", "warning", "error", "fatal"].includes(String(level));
}

function readable(line: string): string {
  const { level: _level, time: _time, msg, message, pid: _pid, hostname: _hostname, ...facts } = parse(line) ?? { msg: line };
  const rest = Object.keys(facts).length > 0 ? ` ${JSON.stringify(facts)}` : "";
  return `${String(msg ?? message ?? "")}${rest}`.trim();
}
