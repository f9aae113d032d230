/**
 * The file of answers: one line an item, appended as they come, and what of it a process left behind that died. Writes one piece at a time; what
 * comes meanwhile goes together with the next.
 */

import { createReadStream } from "node:fs";
import { type FileHandle, open, truncate } from "node:fs/promises";
import type { BatchOutcome } from "../../batch-run.ts";
import { UsageError } from "../exit-codes.ts";

/** Of answers that are not written yet. */
const mostPendingChars = 1_048_576;
const newline = 0x0a;

export function answerLine({ index, jobId, ...outcome }: BatchOutcome<string>): string {
  const head = `{"index":${index},${jobId === undefined ? "" : `"job":${JSON.stringify(jobId)},`}`;
  if (outcome.error === undefined) return `${head}"result":${outcome.result}}\n`;
  const { code, message: detail, retryable } = outcome.error;
  return `${head}"error":${JSON.stringify({ code, detail, retryable })}}\n`;
}

export class AnswerFile {
  readonly #path: string;
  readonly #handle: FileHandle;
  #pending: string[] = [];
  #pendingChars = 0;
  #writing: Promise<void> | undefined;
  #failure: UsageError | undefined;
  /** Written, not promised to be on the disk. */
  sizeBytes: number;

  private constructor(path: string, handle: FileHandle, sizeBytes: number) {
    this.#path = path;
    this.#handle = handle;
    this.sizeBytes = sizeBytes;
  }

  /** Cuts the file to its whole lines, which `readAnswers` has counted. */
  static async open(path: string, sizeBytes: number): Promise<AnswerFile> {
    try {
      const handle = await open(path, "a");
      await truncate(path, sizeBytes);
      return new AnswerFile(path, handle, sizeBytes);
    } catch (error) {
      throw cannotWrite(path, error);
    }
  }

  /** Resolves at once unless much is waiting to be written. Throws UsageError when writing failed. */
  async add(line: string): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#pending.push(line);
    this.#pendingChars += line.length;
    this.#writing ??= this.#write();
    if (this.#pendingChars > mostPendingChars) await this.#writing;
  }

  async #write(): Promise<void> {
    try {
      while (this.#pending.length > 0) {
        const bytes = Buffer.from(this.#pending.join(""));
        this.#pending = [];
        this.#pendingChars = 0;
        await this.#handle.appendFile(bytes);
        this.sizeBytes += bytes.length;
      }
    } catch (error) {
      this.#failure = cannotWrite(this.#path, error);
    } finally {
      this.#writing = undefined;
    }
  }

  /** Resolves when everything is on the disk. */
  async sync(): Promise<void> {
    await this.#writing;
    if (this.#failure !== undefined) throw this.#failure;
    await this.#handle.datasync();
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

function cannotWrite(path: string, error: unknown): UsageError {
  return new UsageError(`cannot write ${path}: ${error instanceof Error ? error.message : String(error)}`);
}

/**
 * Calls `on` with each whole line of answers from `fromBytes` on; answers where the last one ends. Throws UsageError for a line that this command
 * did not write.
 */
export async function readAnswers(
  path: string,
  fromBytes: number,
  on: (answer: { index: number; failed: boolean }) => void,
): Promise<number> {
  let endBytes = fromBytes;
  let parts: Buffer[] = [];
  for await (const piece of createReadStream(path, { start: fromBytes, highWaterMark: 256 * 1024 }) as AsyncIterable<Buffer>) {
    for (let from = 0; from < piece.length; ) {
      const at = piece.indexOf(newline, from);
      parts.push(piece.subarray(from, at < 0 ? piece.length : at));
      if (at < 0) break;
      const sizeBytes = parts.reduce((sum, part) => sum + part.length, 1);
      on(answerIn(Buffer.concat(parts).toString("utf8"), path));
      parts = [];
      endBytes += sizeBytes;
      from = at + 1;
    }
  }
  return endBytes;
}

function answerIn(line: string, path: string): { index: number; failed: boolean } {
  const match = /^\{"index":(\d+),(?:"job":"[^"]*",)?"(result|error)":.*\}$/s.exec(line);
  if (match === null) throw new UsageError(`${path} holds a line that is no answer of this command: ${line.slice(0, 60)}`);
  return { index: Number(match[1]), failed: match[2] === "error" };
}
