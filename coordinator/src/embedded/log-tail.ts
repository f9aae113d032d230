/**
 * The logs of the processes that `up` started. They write to files by themselves, so that a killed `up` breaks no pipe of theirs;
 * this follows the files, passes on what a person at the terminal should see, and keeps them from growing for ever.
 */

import { closeSync, ftruncateSync, mkdirSync, openSync, readSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { StringDecoder } from "node:string_decoder";

/** A larger file begins anew, and the one before it is kept beside it: twice that of each process, and a little more. */
const keepBytes = 16 * 2 ** 20;
const pieceBytes = 2 ** 20;

export class LogTail {
  readonly file: string;
  readonly #name: string;
  readonly #show: "all" | "warnings" | "nothing";
  readonly #say: (line: string) => void;
  readonly #decoder = new StringDecoder();
  #readBytes: number;
  /** Beyond which it begins anew. */
  #mostBytes = keepBytes;
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
    if (sizeBytes < this.#readBytes) this.#readBytes = 0; // somebody else has emptied it
    if (sizeBytes > this.#mostBytes) this.#beginAnew();
    else if (sizeBytes > this.#readBytes) this.#readOn(sizeBytes);
  }

  #readOn(sizeBytes: number): void {
    const chunk = Buffer.alloc(Math.min(sizeBytes - this.#readBytes, pieceBytes));
    const descriptor = openSync(this.file, "r");
    const count = readSync(descriptor, chunk, 0, chunk.length, this.#readBytes);
    closeSync(descriptor);
    this.#readBytes += count;
    this.#split(chunk.subarray(0, count));
  }

  /**
   * The process holds the file itself, and so cannot be given another: what is there is copied, and the file emptied. It appends, and goes on at the new
   * end. What it writes between the last look and the emptying, some microseconds, is lost.
   */
  #beginAnew(): void {
    const before = `${this.file}.1`;
    try {
      const from = openSync(this.file, "r+");
      try {
        drop(before); // its room may be needed
        this.#copy(from, before);
        ftruncateSync(from);
      } finally {
        closeSync(from);
      }
      this.#readBytes = 0;
      this.#mostBytes = keepBytes;
    } catch {
      // the disk is full, say: half a copy is of no use there, and the next try is not to come at once
      drop(before);
      this.#mostBytes += keepBytes;
    }
  }

  /** All that is there, and what comes meanwhile; what was not read yet is. */
  #copy(from: number, before: string): void {
    const to = openSync(before, "w", 0o600);
    try {
      const piece = Buffer.alloc(pieceBytes);
      for (let at = 0; ; ) {
        const count = readSync(from, piece, 0, piece.length, at);
        if (count === 0) return;
        writeFileSync(to, piece.subarray(0, count));
        at += count;
        if (at <= this.#readBytes) continue;
        const fresh = piece.subarray(Math.max(0, count - (at - this.#readBytes)), count);
        this.#readBytes = at;
        this.#split(fresh);
      }
    } finally {
      closeSync(to);
    }
  }

  #split(bytes: Uint8Array): void {
    const lines = (this.#rest + this.#decoder.write(bytes)).split("\n");
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

function drop(file: string): void {
  try {
    rmSync(file, { force: true });
  } catch {
    // whoever writes there is told why it cannot be
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
