/**
 * Serves `subscriptions/listen` of the stateless revision. The protocol's own handler keeps one bus for all streams and asks nobody who listens,
 * so each stream gets a handler of its own, with a bus on which only its subscription speaks; and it is told to acknowledge only those resources
 * that its caller may read. A reader that falls too far behind is dropped, and listens again.
 */

import {
  type AuthInfo,
  createMcpHandler,
  type McpHttpHandler,
  type McpServerFactory,
  type ServerEventBus,
} from "@modelcontextprotocol/server";
import { SwitchyardError } from "@switchyard/protocol";
import type { Caller } from "../../application/caller.ts";
import type { Log } from "../../ports/log.ts";
import { allLists, type ChangeEvent, type Changes, mostFollowed, type Subscription } from "./changes.ts";
import { asProtocolError } from "./protocol-errors.ts";
import { bounded } from "./stream-bounds.ts";

const method = "subscriptions/listen";

export interface ListenRequest {
  /** Of the JSON-RPC request, as it came. */
  body: unknown;
  caller: Caller;
  /** Whether its key is still good. */
  isAllowed: () => boolean;
  /** For the factory. */
  authInfo?: AuthInfo;
}

export interface StreamLimits {
  /** Between comments that keep the connection open. */
  keepAliveMs?: number;
  /** What a reader may leave unread. */
  maxBehindBytes?: number;
}

interface Parts extends StreamLimits {
  changes: Changes;
  /** As for all other requests: it says which capabilities there are. */
  factory: McpServerFactory;
  log: Log;
}

type Listener = Parameters<ServerEventBus["subscribe"]>[0];

export function isListen(body: unknown): boolean {
  return isObject(body) && body.method === method;
}

export class ChangeStreams {
  readonly #parts: Parts;
  readonly #open = new Set<McpHttpHandler>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Answers with the stream, or with the refusal as JSON-RPC has it. Never throws. */
  async fetch(request: Request, asked: ListenRequest): Promise<Response> {
    const { changes, factory, keepAliveMs, log, maxBehindBytes } = this.#parts;
    const listeners = new Set<Listener>();
    const bus = busFor(listeners);
    const handler = createMcpHandler(factory, { bus, legacy: "reject", ...(keepAliveMs !== undefined && { keepAliveMs }) });
    let subscription: Subscription | undefined;
    const end = (): void => {
      subscription?.close();
      this.#open.delete(handler);
    };
    try {
      subscription = changes.open({
        caller: asked.caller,
        isAllowed: asked.isAllowed,
        lists: allLists, // the handler knows which were asked for
        tell: (event) => tellAll(listeners, event),
        end: () => void handler.close(),
      });
      this.#open.add(handler);
      const parsedBody = await allowed(asked.body, subscription);
      const response = await handler.fetch(request, { parsedBody, ...(asked.authInfo && { authInfo: asked.authInfo }) });
      if (response.body !== null && response.headers.get("content-type")?.startsWith("text/event-stream")) {
        return new Response(bounded(response.body, { maxBehindBytes, end }), response);
      }
      end();
      return response;
    } catch (error) {
      end();
      return refusal(asked.body, error, log);
    }
  }

  /** Ends the streams in order: their readers are told that nothing follows. */
  async close(): Promise<void> {
    await Promise.all([...this.#open].map((handler) => handler.close()));
  }
}

function tellAll(listeners: ReadonlySet<Listener>, event: ChangeEvent): void {
  for (const listener of [...listeners]) listener(event);
}

function busFor(listeners: Set<Listener>): ServerEventBus {
  return {
    publish() {}, // nobody does: what has changed is looked at
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}

/** The request with those resources only that the subscription may follow; what is not well formed is left for the handler to refuse. */
async function allowed(body: unknown, subscription: Subscription): Promise<unknown> {
  if (!isObject(body) || !isObject(body.params) || !isObject(body.params.notifications)) return body;
  const { resourceSubscriptions: asked, ...others } = body.params.notifications;
  if (!Array.isArray(asked) || !asked.every((uri) => typeof uri === "string")) return body;
  const wanted = new Set<string>(asked);
  if (wanted.size > mostFollowed) {
    const fields = [{ pointer: "notifications/resourceSubscriptions", expected: `at most ${mostFollowed}`, got: String(wanted.size) }];
    throw new SwitchyardError("invalid_request", `one stream follows at most ${mostFollowed} resources`, { fields });
  }
  const uris = [...wanted];
  const isFollowed = await Promise.all(uris.map((uri) => mayFollow(subscription, uri)));
  const followed = uris.filter((_uri, at) => isFollowed[at]);
  const notifications = { ...others, ...(followed.length > 0 && { resourceSubscriptions: followed }) };
  return { ...body, params: { ...body.params, notifications } };
}

/** Throws `store_unavailable`, and whatever else is no answer about this resource. */
async function mayFollow(subscription: Subscription, uri: string): Promise<boolean> {
  try {
    await subscription.follow(uri);
    return true;
  } catch (error) {
    if (error instanceof SwitchyardError && error.code !== "store_unavailable") return false;
    throw error;
  }
}

function refusal(body: unknown, thrown: unknown, log: Log): Response {
  const { code, data, message } = asProtocolError(thrown, { method, log });
  const id = isObject(body) && (typeof body.id === "string" || typeof body.id === "number") ? body.id : null;
  return Response.json({ jsonrpc: "2.0", id, error: { code, message, data } });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
