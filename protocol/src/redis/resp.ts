/**
 * Commands as bytes of the Redis protocol, many in one buffer. A general client builds an object, a promise and a buffer for each command;
 * on the hot path, where one turn of the event loop sends a SET per job, that was a fifth of the coordinator's machine time.
 */

/** A value in several parts is one argument: its parts follow one another. */
export type RedisArgument = string | number | Uint8Array | readonly Uint8Array[];
export type RedisCommand = readonly [name: string, ...args: RedisArgument[]];

/** Parts at least this large are sent as they are; smaller ones are gathered, because each buffer of a write costs more than its copy. */
const aloneBytes = 32 * 1024;

/** The bytes of all commands in order, as few buffers as is cheap. Strings travel as UTF-8, byte arrays as they are. */
export function encodeCommands(commands: readonly RedisCommand[]): Uint8Array[] {
  const buffers: Uint8Array[] = [];
  let gathered: (string | Uint8Array)[] = [];
  let text = "";
  const flush = (): void => {
    if (text !== "") gathered.push(text);
    text = "";
    if (gathered.length > 0) buffers.push(gather(gathered));
    gathered = [];
  };
  for (const command of commands) {
    text += `*${command.length}\r\n`;
    for (const argument of command) {
      if (typeof argument !== "object") {
        const word = typeof argument === "string" ? argument : String(argument);
        text += `$${Buffer.byteLength(word)}\r\n${word}\r\n`;
        continue;
      }
      const parts: readonly Uint8Array[] = argument instanceof Uint8Array ? [argument] : argument;
      text += `$${parts.reduce((sum, part) => sum + part.byteLength, 0)}\r\n`;
      for (const part of parts) {
        if (part.byteLength >= aloneBytes) {
          flush();
          buffers.push(part);
        } else {
          gathered.push(text, part);
          text = "";
        }
      }
      text += "\r\n";
    }
  }
  flush();
  return buffers;
}

function gather(pieces: readonly (string | Uint8Array)[]): Buffer {
  let sizeBytes = 0;
  for (const piece of pieces) sizeBytes += typeof piece === "string" ? Buffer.byteLength(piece) : piece.byteLength;
  const bytes = Buffer.allocUnsafe(sizeBytes);
  let at = 0;
  for (const piece of pieces) {
    if (typeof piece === "string") at += bytes.write(piece, at);
    else {
      bytes.set(piece, at);
      at += piece.byteLength;
    }
  }
  return bytes;
}

export type RedisReply = string | number | null | RedisReply[];

/** A reply as the client's parser gives it: bulk strings are buffers, at any depth. */
export type RawReply = Buffer | string | number | null | RawReply[];

/** The same reply with text instead of buffers. */
export function replyText(raw: RawReply): RedisReply {
  if (Array.isArray(raw)) return raw.map(replyText);
  return typeof raw === "object" && raw !== null ? raw.toString("utf8") : raw;
}
