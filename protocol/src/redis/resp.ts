/**
 * Commands as bytes of the Redis protocol, many in one buffer. A general client builds an object, a promise and a buffer for each command;
 * on the hot path, where one turn of the event loop sends a SET per job, that was a fifth of the coordinator's machine time.
 */

/** A value in several parts is one argument: its parts follow one another. */
export type RedisArgument = string | number | Uint8Array | readonly Uint8Array[];
export type RedisCommand = readonly [name: string, ...args: RedisArgument[]];

/** Parts at least this large are sent as they are; smaller ones are gathered, because each buffer of a write costs more than its copy. */
const aloneBytes = 32 * 1024;
/** A mark, a length and the line ends around an argument or before a command; also the longest text of a number. */
const headRoom = 26;
const [asterisk, dollar, carriageReturn, lineFeed] = [0x2a, 0x24, 0x0d, 0x0a];
const longestAscii = 0x7f;
/** Strings of many makes come here (cut, joined, constant), so that a look-up of the method at each of them would never be known in advance. */
const unitAt: (this: string, index: number) => number = String.prototype.charCodeAt;

/** The bytes of all commands in order, as few buffers as is cheap. Strings travel as UTF-8, byte arrays as they are. */
export function encodeCommands(commands: readonly RedisCommand[]): Uint8Array[] {
  return encodeInto(commands, 1) ?? encodeInto(commands, 3)!;
}

/**
 * `mostPerUnit`: bytes of a string's code unit; with 1 undefined is answered where a string holds more than ASCII. Words are mostly short, and
 * written unit by unit: to join them as strings took twice as long, and so did members of a class in the place of `at`.
 */
function encodeInto(commands: readonly RedisCommand[], mostPerUnit: 1 | 3): Uint8Array[] | undefined {
  const bytes = Buffer.allocUnsafe(roomFor(commands, mostPerUnit));
  const buffers: Uint8Array[] = [];
  let [from, at] = [0, 0];
  for (const command of commands) {
    at = writeHead(bytes, at, asterisk, command.length);
    for (const argument of command) {
      if (typeof argument !== "object") {
        const word = typeof argument === "string" ? argument : String(argument);
        at = writeAscii(bytes, at, word) || (mostPerUnit === 3 ? writeText(bytes, at, word) : 0);
        if (at === 0) return undefined;
        continue;
      }
      const parts: readonly Uint8Array[] = argument instanceof Uint8Array ? [argument] : argument;
      at = writeHead(bytes, at, dollar, sizeOf(parts));
      for (const part of parts) {
        if (part.byteLength >= aloneBytes) {
          if (at > from) buffers.push(bytes.subarray(from, at));
          from = at;
          buffers.push(part);
        } else {
          bytes.set(part, at);
          at += part.byteLength;
        }
      }
      at = writeLineEnd(bytes, at);
    }
  }
  if (at > from) buffers.push(bytes.subarray(from, at));
  return buffers;
}

function roomFor(commands: readonly RedisCommand[], mostPerUnit: number): number {
  let room = 0;
  for (const command of commands) {
    room += headRoom * (command.length + 1);
    for (const argument of command) {
      if (typeof argument === "string") room += mostPerUnit * argument.length;
      else if (typeof argument === "number") room += headRoom;
      else if (argument instanceof Uint8Array) room += gatheredBytes(argument);
      else for (const part of argument) room += gatheredBytes(part);
    }
  }
  return room;
}

function gatheredBytes({ byteLength }: Uint8Array): number {
  return byteLength < aloneBytes ? byteLength : 0;
}

function sizeOf(parts: readonly Uint8Array[]): number {
  let sizeBytes = 0;
  for (const part of parts) sizeBytes += part.byteLength;
  return sizeBytes;
}

/** Each of these answers where the next byte goes. */
function writeHead(bytes: Buffer, start: number, mark: number, value: number): number {
  let at = start;
  bytes[at++] = mark;
  const digits = String(value);
  for (let index = 0; index < digits.length; index++) bytes[at++] = digits.charCodeAt(index);
  return writeLineEnd(bytes, at);
}

function writeLineEnd(bytes: Buffer, at: number): number {
  bytes[at] = carriageReturn;
  bytes[at + 1] = lineFeed;
  return at + 2;
}

/** 0 where the word holds more than ASCII. */
function writeAscii(bytes: Buffer, start: number, word: string): number {
  const { length } = word;
  let at = writeHead(bytes, start, dollar, length);
  for (let index = 0; index < length; index++) {
    const unit = unitAt.call(word, index);
    if (unit > longestAscii) return 0;
    bytes[at++] = unit;
  }
  return writeLineEnd(bytes, at);
}

function writeText(bytes: Buffer, start: number, word: string): number {
  const at = writeHead(bytes, start, dollar, Buffer.byteLength(word));
  return writeLineEnd(bytes, at + bytes.write(word, at));
}

export type RedisReply = string | number | null | RedisReply[];

/** A reply as the client's parser gives it: bulk strings are buffers, at any depth. */
export type RawReply = Buffer | string | number | null | RawReply[];

/** The same reply with text instead of buffers. */
export function replyText(raw: RawReply): RedisReply {
  if (Array.isArray(raw)) return raw.map(replyText);
  return typeof raw === "object" && raw !== null ? raw.toString("utf8") : raw;
}
