/** What was sent in one session, so that a client whose stream broke gets what it missed. Bounded: what is older is gone. */

import type { EventStore, JSONRPCMessage } from "@modelcontextprotocol/server";

const mostEvents = 256;
const mostChars = 512 * 1024;

interface Sent {
  streamId: string;
  message: JSONRPCMessage;
  chars: number;
}

export class SessionEvents implements EventStore {
  /** By event id, oldest first. */
  readonly #sent = new Map<string, Sent>();
  #chars = 0;
  #count = 0;

  async storeEvent(streamId: string, message: JSONRPCMessage): Promise<string> {
    this.#count += 1;
    const id = String(this.#count);
    const chars = JSON.stringify(message).length;
    this.#sent.set(id, { streamId, message, chars });
    this.#chars += chars;
    for (const [oldest, { chars: its }] of this.#sent) {
      if (this.#sent.size <= mostEvents && this.#chars <= mostChars) break;
      this.#sent.delete(oldest);
      this.#chars -= its;
    }
    return id;
  }

  async getStreamIdForEventId(eventId: string): Promise<string | undefined> {
    return this.#sent.get(eventId)?.streamId;
  }

  async replayEventsAfter(
    lastEventId: string,
    { send }: { send(eventId: string, message: JSONRPCMessage): Promise<void> },
  ): Promise<string> {
    const last = this.#sent.get(lastEventId);
    if (last === undefined) throw new Error("that event is no longer kept");
    let isAfter = false;
    for (const [id, { message, streamId }] of [...this.#sent]) {
      if (isAfter && streamId === last.streamId && "jsonrpc" in message) await send(id, message);
      isAfter ||= id === lastEventId;
    }
    return last.streamId;
  }
}
