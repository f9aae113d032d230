/**
 * Many commands in one write on a connection that ioredis keeps: it connects, authenticates, parses and reconnects, while the commands
 * are encoded here at once and need no object of their own kind each. Only what ioredis says of its public `sendCommand` is used: a
 * command is something with a name that is resolved or rejected, and a pipeline decides itself when its bytes are written.
 * Knows no library and no socket: it is given the client.
 */

import { encodeCommands, type RawReply, type RedisCommand } from "./resp.ts";

/** What is used of an ioredis client. */
export interface WireClient {
  readonly status: string;
  readonly stream: { write(bytes: Uint8Array): unknown; cork(): void; uncork(): void };
  sendCommand(command: unknown, stream: unknown): unknown;
}

class WireCommand {
  readonly name: string;
  readonly args: never[] = [];
  readonly resolve: (reply: RawReply) => void;
  readonly reject: (error: Error) => void;

  constructor(name: string, settle: (reply: RawReply | Error) => void) {
    this.name = name;
    this.resolve = settle;
    this.reject = settle;
  }

  /** Already written, together with its neighbours. */
  toWritable(): string {
    return "";
  }
  setReplyContext(): void {}
}

/**
 * Replies in order; one that Redis refused, or that was cut off with the connection, is an Error in its place. Throws at once when the
 * connection is not ready. The client must neither resend nor queue commands by itself (autoResendUnfulfilledCommands: false,
 * maxRetriesPerRequest: 0, reconnectOnError never 2), nor time them: these commands cannot be written twice.
 */
export function sendOnWire(client: WireClient, commands: readonly RedisCommand[]): Promise<(RawReply | Error)[]> {
  if (client.status !== "ready") return Promise.reject(new Error("the connection to Redis is not ready"));
  const { promise, resolve } = Promise.withResolvers<(RawReply | Error)[]>();
  const replies: (RawReply | Error)[] = new Array(commands.length);
  let missing = commands.length;
  if (missing === 0) resolve(replies);
  const sink = { isPipeline: true, destination: { redis: client }, write(): void {} };
  const buffers = encodeCommands(commands);
  if (buffers.length > 1) client.stream.cork(); // one system call for all of them
  for (const buffer of buffers) client.stream.write(buffer);
  if (buffers.length > 1) client.stream.uncork();
  for (const [at, command] of commands.entries()) {
    const settle = (reply: RawReply | Error): void => {
      replies[at] = reply;
      missing -= 1;
      if (missing === 0) resolve(replies);
    };
    client.sendCommand(new WireCommand(command[0], settle), sink);
  }
  return promise;
}
