/** The file of items, one a line: what it holds, told in one pass, and its lines one by one. Never holds more than a line. */

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { UsageError } from "../exit-codes.ts";

export interface ItemFile {
  sha256: string;
  /** With blank ones. */
  lines: number;
  /** Without. */
  items: number;
}

/** As the server's own limit of a body. */
const maxLineBytes = 64 * 1024 * 1024;
const newline = 0x0a;

/** Throws UsageError when it cannot be read. */
export async function scanItems(file: string): Promise<ItemFile> {
  const hash = createHash("sha256");
  const found = { lines: 0, items: 0 };
  let isOpen = false;
  let isBlank = true;
  const end = (): void => {
    found.lines++;
    if (!isBlank) found.items++;
    [isOpen, isBlank] = [false, true];
  };
  for await (const piece of piecesOf(file)) {
    hash.update(piece);
    for (let from = 0; from < piece.length; ) {
      const at = piece.indexOf(newline, from);
      const to = at < 0 ? piece.length : at;
      isOpen = true;
      for (let byte = from; isBlank && byte < to; byte++) isBlank = isSpace(piece[byte]!);
      if (at >= 0) end();
      from = to + 1;
    }
  }
  if (isOpen) end();
  return { ...found, sha256: hash.digest("hex") };
}

/** Lines that are not blank, each with its number from 0. */
export async function* itemsOf(file: string): AsyncGenerator<{ index: number; text: string }, void, undefined> {
  let index = 0;
  let parts: Buffer[] = [];
  let sizeBytes = 0;
  const line = (): string => {
    const text = (parts.length === 1 ? parts[0]! : Buffer.concat(parts)).toString("utf8").trim();
    [parts, sizeBytes] = [[], 0];
    return text;
  };
  for await (const piece of piecesOf(file)) {
    for (let from = 0; from < piece.length; ) {
      const at = piece.indexOf(newline, from);
      const to = at < 0 ? piece.length : at;
      sizeBytes += to - from;
      if (sizeBytes > maxLineBytes) throw new UsageError(`${file}: line ${index} is longer than ${maxLineBytes} bytes`);
      parts.push(piece.subarray(from, to));
      if (at >= 0) {
        const text = line();
        if (text !== "") yield { index, text };
        index++;
      }
      from = to + 1;
    }
  }
  const text = line();
  if (text !== "") yield { index, text };
}

async function* piecesOf(file: string): AsyncGenerator<Buffer, void, undefined> {
  try {
    yield* createReadStream(file, { highWaterMark: 256 * 1024 }) as AsyncIterable<Buffer>;
  } catch (error) {
    throw new UsageError(`cannot read ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x09 || byte === 0x0d;
}
