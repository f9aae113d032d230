/**
 * `fetch` towards an address that somebody configured: dials only addresses that may be dialled, checked after the name was resolved and used
 * as checked; follows no redirects; sends nothing but what it is given; takes no more and no faster than is allowed.
 */

import { lookup as resolveName } from "node:dns";
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage, type RequestOptions } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { isIP, type LookupFunction } from "node:net";
import type { Clock } from "../clock.ts";
import { Pace } from "./paced-bytes.ts";
import { mayDial } from "./public-addresses.ts";

export interface GuardedFetchOptions {
  /** Addresses and ranges that may be dialled although they are not public. */
  allowPrivate: readonly string[];
  /** Largest answer, and largest event of a stream of events. */
  maxMessageBytes: number;
  clock: Clock;
}

export interface GuardedFetch {
  fetch: typeof fetch;
  /** Ends every connection. */
  close(): void;
}

/** Nothing was sent. */
export class NotDialled extends Error {
  override readonly name = "NotDialled";
}

const connectMs = 10_000;
const eventsATurn = 50;

export function guardedFetch(options: GuardedFetchOptions): GuardedFetch {
  const lookup = checkedLookup(options.allowPrivate);
  // a connection of its own for each request: one that the server closes meanwhile leaves nobody wondering whether a call was made
  const agents = { http: new HttpAgent({ keepAlive: false }), https: new HttpsAgent({ keepAlive: false }) };
  const pace = new Pace(options.clock.monotonicMs());
  async function guarded(input: string | URL | Request, init: RequestInit = {}): Promise<Response> {
    const url = new URL(input instanceof Request ? input.url : input);
    const isTls = url.protocol === "https:";
    const host = url.hostname.replace(/^\[|\]$/g, "");
    if (isIP(host) !== 0 && !mayDial(host, options.allowPrivate)) throw notAllowed(host);
    const body = bytesOf(init.body);
    const headers = Object.fromEntries(new Headers(init.headers));
    const how: RequestOptions = {
      method: init.method ?? "GET",
      // compressed answers could be larger than they look
      headers: { ...headers, host: url.host, "accept-encoding": "identity", ...(body && { "content-length": String(body.length) }) },
      agent: isTls ? agents.https : agents.http,
      lookup,
    };
    const request = isTls ? httpsRequest(url, how) : httpRequest(url, how);
    const connected = isTls ? "secureConnect" : "connect";
    const message = await answered(request, { body, connected, clock: options.clock, signal: init.signal ?? undefined });
    return toResponse(message, { ...options, pace });
  }
  return {
    fetch: guarded as typeof fetch,
    close: () => {
      agents.http.destroy();
      agents.https.destroy();
    },
  };
}

function answered(
  request: ReturnType<typeof httpRequest>,
  { body, clock, connected, signal }: { body: Buffer | undefined; clock: Clock; connected: string; signal: AbortSignal | undefined },
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    let isConnected = false;
    const stopClock = clock.after(connectMs, () => request.destroy(new NotDialled(`no connection within ${connectMs} ms`)));
    const abort = (): void => void request.destroy(new DOMException("The request was aborted", "AbortError"));
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    request.once("socket", (socket) => {
      socket.once(connected, () => {
        isConnected = true;
        stopClock(); // from here on the caller's own limits hold
      });
    });
    request.once("error", (error: NodeJS.ErrnoException) => {
      stopClock();
      signal?.removeEventListener("abort", abort);
      reject(
        isConnected || error instanceof NotDialled || error.name === "AbortError" ? error : new NotDialled(error.code ?? error.message),
      );
    });
    request.once("response", (message) => {
      // the signal ends the answer, too
      message.once("close", () => signal?.removeEventListener("abort", abort));
      resolve(message);
    });
    request.end(body);
  });
}

function bytesOf(body: RequestInit["body"]): Buffer | undefined {
  if (body === undefined || body === null) return undefined;
  if (typeof body === "string") return Buffer.from(body);
  if (body instanceof URLSearchParams) return Buffer.from(body.toString());
  if (body instanceof Uint8Array) return Buffer.from(body);
  throw new TypeError("only texts and bytes are sent");
}

function toResponse(message: IncomingMessage, how: GuardedFetchOptions & { pace: Pace }): Response {
  const status = message.statusCode ?? 502;
  if (status >= 300 && status < 400 && status !== 304) {
    message.destroy();
    throw new Error(`it answers with a redirect (${status}), and redirects are not followed`);
  }
  const headers = new Headers();
  for (let index = 0; index + 1 < message.rawHeaders.length; index += 2)
    headers.append(message.rawHeaders[index]!, message.rawHeaders[index + 1]!);
  const hasBody = status !== 204 && status !== 205 && status !== 304;
  if (!hasBody) message.resume();
  return new Response(hasBody ? boundedBody(message, how) : null, { status, headers });
}

/** An answer is bounded as a whole, a stream of events by the event; and both in speed. */
function boundedBody(message: IncomingMessage, how: GuardedFetchOptions & { pace: Pace }): ReadableStream<Uint8Array> {
  const pieces = boundedPieces(message, how);
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await pieces.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: () => void message.destroy(),
  });
}

async function* boundedPieces(
  message: IncomingMessage,
  { clock, maxMessageBytes, pace }: GuardedFetchOptions & { pace: Pace },
): AsyncGenerator<Uint8Array, void, undefined> {
  const isEvents = /^text\/event-stream\b/i.test(message.headers["content-type"] ?? "");
  let sinceEnd = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    for (let rest = chunk; rest.length > 0; ) {
      const { bytes, ends, tail } = isEvents ? eventsIn(rest) : { bytes: rest.length, ends: 0, tail: rest.length };
      sinceEnd = ends > 0 ? tail : sinceEnd + bytes;
      if (sinceEnd > maxMessageBytes) throw new Error(`it sent a message of more than ${maxMessageBytes} bytes`);
      yield rest.subarray(0, bytes);
      rest = rest.subarray(bytes);
      const waitMs = pace.take({ bytes, messages: ends }, clock.monotonicMs());
      // whoever reads goes on at once: without a turn for the others a chunk of thousands of events is read through
      if (waitMs > 0 || rest.length > 0) await clock.sleep(waitMs);
    }
  }
}

/** The first events of a piece, about: how many bytes they take, how many end there, and how many bytes come after the last end. */
function eventsIn(piece: Buffer): { bytes: number; ends: number; tail: number } {
  let ends = 0;
  let last = 0;
  for (let at = piece.indexOf(0x0a); at !== -1; at = piece.indexOf(0x0a, at + 1)) {
    const next = piece[at + 1];
    if (next !== 0x0a && next !== 0x0d) continue;
    last = at + 2;
    if (++ends === eventsATurn) return { bytes: last, ends, tail: 0 };
  }
  return { bytes: piece.length, ends, tail: piece.length - last };
}

function notAllowed(address: string): NotDialled {
  return new NotDialled(`${address} is not a public address, and allowPrivate does not list it`);
}

/** Every address of the name must be allowed: one of several would be chosen by chance. */
function checkedLookup(allowed: readonly string[]): LookupFunction {
  return (hostname, options, callback) => {
    resolveName(hostname, { ...options, all: true }, (error, addresses) => {
      if (error) return callback(error, "", 0);
      const bad = addresses.find(({ address }) => !mayDial(address, allowed));
      if (bad) return callback(notAllowed(bad.address), "", 0);
      const [first] = addresses;
      if (options.all) return callback(null, addresses);
      if (first) return callback(null, first.address, first.family);
      callback(new NotDialled(`${hostname} has no address`), "", 0);
    });
  };
}
