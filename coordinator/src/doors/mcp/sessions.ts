/**
 * Sessions of the legacy era. Each lives in the coordinator that opened it and is bound to the key that opened it; another coordinator, or the
 * same one after a restart, answers 404, on which clients open a new one. Bounded in number, by key and in all, and by idle time.
 */

import { randomUUID } from "node:crypto";
import {
  isInitializeRequest,
  type McpHandlerRequestOptions,
  type McpServer,
  type Server,
  WebStandardStreamableHTTPServerTransport,
} from "@modelcontextprotocol/server";
import { newIncarnation } from "@switchyard/protocol/redis";
import type { Caller } from "../../application/caller.ts";
import type { DoorContext } from "../door-context.ts";
import { isSameCaller, principalOf } from "./request-facts.ts";
import type { MakeServer } from "./serving.ts";
import { SessionEvents } from "./session-events.ts";

const idleMs = 30 * 60_000;
const mostSessions = 1_024;
const mostOfOneKey = 64;
/** As the library answers it. */
const sessionNotFound = -32_001;
const serverError = -32_000;
/** As the Language Server Protocol has it; this one has no word for it. */
const requestCancelled = -32_800;

interface Session {
  transport: WebStandardStreamableHTTPServerTransport;
  server: Server | McpServer;
  caller: Caller;
  /** Requests that are being answered, streams among them. */
  open: number;
  cancelIdle: () => void;
}

/** One HTTP request's use of a session. */
export interface SessionUse {
  fetch(asked: Request, given: McpHandlerRequestOptions): Promise<Response>;
  /** When the answer was sent. */
  end(): void;
}

export class Sessions {
  readonly #context: DoorContext;
  readonly #make: MakeServer;
  readonly #coordinator = newIncarnation();
  /** By id; those that were used last stand last. */
  readonly #sessions = new Map<string, Session>();

  constructor(context: DoorContext, make: MakeServer) {
    this.#context = context;
    this.#make = make;
  }

  use(id: string | undefined, caller: Caller): SessionUse {
    const session = id === undefined ? undefined : this.#sessions.get(id);
    if (id === undefined) return { fetch: (asked, given) => this.#open(asked, given, caller), end: () => {} };
    if (session === undefined || !isSameCaller(session.caller, caller)) return { fetch: async () => unknownSession(), end: () => {} };
    session.open += 1;
    session.cancelIdle();
    this.#sessions.delete(id);
    this.#sessions.set(id, session);
    return {
      fetch: (asked, given) => session.transport.handleRequest(asked, given),
      end: () => {
        session.open -= 1;
        this.#watch(id, session);
      },
    };
  }

  async #open(asked: Request, given: McpHandlerRequestOptions, caller: Caller): Promise<Response> {
    const { parsedBody } = given;
    if (!isInitializeRequest(parsedBody)) {
      const why = "The header Mcp-Session-Id is required: a session begins with initialize, or use revision 2026-07-28, which has none";
      return refusal(400, serverError, why);
    }
    if (this.#context.draining()) return refusal(503, serverError, "This coordinator is shutting down; ask another one");
    if (!(await this.#makeRoom(caller))) {
      return refusal(503, serverError, "Too many sessions are open at this moment; end some, or try again", { "retry-after": "5" });
    }
    let id: string | undefined;
    const server = await this.#make({ caller, era: "legacy" });
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: () => `${this.#coordinator}.${randomUUID()}`,
      eventStore: new SessionEvents(),
      maxRequestBodySize: this.#context.config.maxJsonBytes,
      onsessioninitialized: (made) => {
        id = made;
        this.#sessions.set(made, session);
        this.#watch(made, session);
      },
      onsessionclosed: (gone) => void this.#end(gone),
    });
    const session: Session = { transport, server, caller, open: 0, cancelIdle: () => {} };
    await server.connect(transport);
    answerCancelled(transport);
    const response = await transport.handleRequest(asked, given);
    if (id === undefined) await server.close();
    return response;
  }

  /** Clients forget their sessions: the one of this key that was idle for longest gives way. */
  async #makeRoom(caller: Caller): Promise<boolean> {
    const principal = principalOf(caller);
    const own = [...this.#sessions].filter(([, session]) => principalOf(session.caller) === principal);
    if (own.length < mostOfOneKey && this.#sessions.size < mostSessions) return true;
    const [idle] = own.find(([, { open }]) => open === 0) ?? [];
    if (idle === undefined) return false;
    await this.#end(idle);
    return true;
  }

  #watch(id: string, session: Session): void {
    session.cancelIdle();
    if (session.open === 0 && this.#sessions.get(id) === session) {
      session.cancelIdle = this.#context.clock.after(idleMs, () => void this.#end(id));
    }
  }

  async #end(id: string): Promise<void> {
    const session = this.#sessions.get(id);
    if (session === undefined) return;
    this.#sessions.delete(id);
    session.cancelIdle();
    await session.server.close().catch(() => {});
  }

  async close(): Promise<void> {
    await Promise.all([...this.#sessions.keys()].map((id) => this.#end(id)));
  }
}

/**
 * The library answers nothing to a request that was cancelled, and so leaves the stream open on which the answer was to come, for as long as the
 * client does. This ends it: clients pass over an answer that they do not wait for.
 */
function answerCancelled(transport: WebStandardStreamableHTTPServerTransport): void {
  const { onmessage } = transport;
  transport.onmessage = (message, extra) => {
    onmessage?.(message, extra);
    if (!("method" in message) || message.method !== "notifications/cancelled") return;
    const { requestId: id } = (message.params ?? {}) as { requestId?: string | number };
    if (id === undefined) return;
    // one that has been answered, or never was, has no stream
    void transport.send({ jsonrpc: "2.0", id, error: { code: requestCancelled, message: "The request was cancelled" } }).catch(() => {});
  };
}

function unknownSession(): Response {
  return refusal(404, sessionNotFound, "There is no such session here: begin a new one with initialize");
}

function refusal(status: number, code: number, message: string, headers: Record<string, string> = {}): Response {
  return Response.json({ jsonrpc: "2.0", id: null, error: { code, message } }, { status, headers });
}
