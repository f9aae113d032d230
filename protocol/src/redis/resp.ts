/**
 * Commands as bytes of the Redis protocol, many in one buffer. A general client builds an object, a promise and a buffer for each command;
 * on the hot path, where one turn of the event loop sends a SET per job, that was a fifth of the coordinator's machine time.
 */

export type RedisArgument = string | number | Uint8Array;
export type RedisCommand = readonly [name: string, ...args: RedisArgument[]];

/** One buffer that holds all commands in order. Strings travel as UTF-8, byte arrays as they are. */
export function encodeCommands(commands: readonly RedisCommand[]): Buffer {
  const parts: (string | Uint8Array)[] = [];
  let text = "";
  let sizeBytes = 0;
  for (const command of commands) {
    text += `*${command.length}\r\n`;
    for (const argument of command) {
      if (typeof argument === "object") {
        text += `$${argument.byteLength}\r\n`;
        sizeBytes += Buffer.byteLength(text) + argument.byteLength;
        parts.push(text, argument);
        text = "\r\n";
      } else {
        const word = typeof argument === "string" ? argument : String(argument);
        text += `$${Buffer.byteLength(word)}\r\n${word}\r\n`;
      }
    }
  }
  sizeBytes += Buffer.byteLength(text);
  parts.push(text);
  const bytes = Buffer.allocUnsafe(sizeBytes);
  let at = 0;
  for (const part of parts) {
    if (typeof part === "string") at += bytes.write(part, at);
    else {
      bytes.set(part, at);
      at += part.byteLength;
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
