/**
 * Bytes that come in pieces, as the lines that they are, in groups that came together. Holds one unfinished line at most, and of a line that
 * is too long nothing.
 */

import { SwitchyardError } from "@switchyard/protocol";

export interface Line {
  /** Its number in the body, from 0; blank lines have one too, and are left out. */
  index: number;
  /** Without its end; absent when it is longer than allowed. */
  bytes: Uint8Array | undefined;
}

export interface LineLimits {
  maxLineBytes: number;
  /** Throws where so much of an unfinished line may not be held. */
  hold(sizeBytes: number): void;
}

/** Groups are handled as one, while everybody else waits. */
const maxGroupLines = 100;
const maxGroupBytes = 256 * 1024;
const newline = 0x0a;

export async function* lineGroups(pieces: AsyncIterable<Uint8Array>, limits: LineLimits): AsyncGenerator<Line[], void, undefined> {
  const lines = new LineSplitter(limits);
  for await (const piece of pieces) {
    for (let from = 0; from < piece.length; ) {
      from = lines.read(piece, from);
      if (from < piece.length) yield lines.group();
    }
    if (lines.hasGroup) yield lines.group();
  }
  lines.end();
  if (lines.hasGroup) yield lines.group();
}

/** Lines of a body that is there: without an end, the last is one too. */
export function countLines(body: Uint8Array): number {
  let count = body.length > 0 && body.at(-1) !== newline ? 1 : 0;
  for (let at = body.indexOf(newline); at >= 0; at = body.indexOf(newline, at + 1)) count++;
  return count;
}

class LineSplitter {
  readonly #limits: LineLimits;
  #group: Line[] = [];
  #groupBytes = 0;
  /** Of the line that has no end yet. */
  #parts: Uint8Array[] = [];
  #sizeBytes = 0;
  #index = 0;

  constructor(limits: LineLimits) {
    this.#limits = limits;
  }

  get hasGroup(): boolean {
    return this.#group.length > 0;
  }

  /** What has been read, which is forgotten. */
  group(): Line[] {
    const group = this.#group;
    this.#group = [];
    this.#groupBytes = 0;
    return group;
  }

  /** Reads until a group is full or the piece is used up; answers where it stopped. */
  read(piece: Uint8Array, start: number): number {
    let from = start;
    while (from < piece.length && this.#group.length < maxGroupLines && this.#groupBytes < maxGroupBytes) {
      const at = piece.indexOf(newline, from);
      const to = at < 0 ? piece.length : at;
      this.#add(piece.subarray(from, to));
      if (at >= 0) this.end();
      from = to + 1;
    }
    return from;
  }

  #add(part: Uint8Array): void {
    this.#sizeBytes += part.length;
    if (this.#sizeBytes > this.#limits.maxLineBytes) this.#parts = [];
    else {
      this.#limits.hold(this.#sizeBytes);
      this.#parts.push(part);
    }
  }

  /** The line ends here; nothing is no line. */
  end(): void {
    const isTooLong = this.#sizeBytes > this.#limits.maxLineBytes;
    const bytes = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts);
    if (isTooLong) this.#group.push({ index: this.#index, bytes: undefined });
    else if (!isBlank(bytes)) {
      this.#group.push({ index: this.#index, bytes: trimmed(bytes) });
      this.#groupBytes += bytes.length;
    }
    this.#index++;
    this.#parts = [];
    this.#sizeBytes = 0;
  }
}

function isBlank(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d);
}

/** A carriage return belongs to the end of the line. */
function trimmed(bytes: Uint8Array): Uint8Array {
  return bytes.at(-1) === 0x0d ? bytes.subarray(0, -1) : bytes;
}

export function lineTooLong(maxLineBytes: number): SwitchyardError {
  const expected = `at most ${maxLineBytes} bytes`;
  return new SwitchyardError("payload_too_large", `The line must not exceed maximum size: ${expected}`, {
    fields: [{ pointer: "", expected, got: "more" }],
  });
}
