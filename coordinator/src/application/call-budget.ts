/**
 * How many calls of tools are here at once, and how many bytes of arguments they hold: for one server, so that one that answers nothing does not
 * take everybody's part, and in all. Counted from the moment that a call is known until it ends, whatever it waits for.
 */

import { SwitchyardError } from "@switchyard/protocol";

export interface CallLimits {
  /** Calls of one server. */
  calls: number;
  serverBytes: number;
  allBytes: number;
}

const callLimits: CallLimits = { calls: 1_000, serverBytes: 32 << 20, allBytes: 128 << 20 };

export interface HeldCall {
  /** Throws `queue_full` when there is no room for them. */
  add(sizeBytes: number): void;
  leave(): void;
}

export class CallBudget {
  readonly #limits: CallLimits;
  #allBytes = 0;
  readonly #servers = new Map<string, { calls: number; bytes: number }>();

  constructor(limits: CallLimits = callLimits) {
    this.#limits = limits;
  }

  /** Throws `queue_full`; then nothing is held. */
  enter(server: string): HeldCall {
    const held = this.#servers.get(server) ?? { calls: 0, bytes: 0 };
    if (held.calls >= this.#limits.calls) throw full(`Too many calls of the MCP server ${server} are under way or wait: ${held.calls}`);
    this.#servers.set(server, held);
    held.calls++;
    let ownBytes = 0;
    return {
      add: (sizeBytes) => {
        const { allBytes, serverBytes } = this.#limits;
        if (held.bytes + sizeBytes > serverBytes) {
          throw full(
            `Calls of the MCP server ${server} that are under way or wait hold too much: at most ${serverBytes} bytes of arguments`,
          );
        }
        if (this.#allBytes + sizeBytes > allBytes) {
          throw full(`Calls of MCP servers that are under way or wait hold too much: at most ${allBytes} bytes of arguments`);
        }
        ownBytes += sizeBytes;
        held.bytes += sizeBytes;
        this.#allBytes += sizeBytes;
      },
      leave: () => {
        held.bytes -= ownBytes;
        this.#allBytes -= ownBytes;
        ownBytes = 0;
        if (--held.calls === 0 && this.#servers.get(server) === held) this.#servers.delete(server);
      },
    };
  }
}

function full(what: string): SwitchyardError {
  return new SwitchyardError("queue_full", `${what}; try again`, { retryAfterMs: 1_000 });
}
