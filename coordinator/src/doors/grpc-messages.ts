/**
 * What the messages of gRPC calls hold, counted against the budget of all bodies from their first bytes until they are decoded, and streams that read
 * no message before they can take it. grpc-js collects a message whole before anybody sees it, so two private members of its calls are used
 * here and nowhere else: the HTTP/2 stream, whose pieces are counted, and what inflates a message. `test/integration/grpc-messages.test.ts` fails
 * where a release has them no more.
 */

import { constants, type ServerHttp2Stream } from "node:http2";
import { Metadata, ServerInterceptingCall, type ServerInterceptor, type StatusObject, status } from "@grpc/grpc-js";
import { SwitchyardError } from "@switchyard/protocol";
import { countedFromBytes, type HeldBody } from "./body-budget.ts";
import type { CallEnds } from "./grpc-calls.ts";
import { grpcCodeOf, grpcStatus } from "./grpc-status.ts";
import { inflater } from "./request-body.ts";
import { isMethod, type MethodName } from "./route-access.ts";

/** A message that is counted must be whole and taken within that, as a body over HTTP must have come. */
const mostReadingMs = 300_000;
/** Before each message: whether it is compressed, and its length. */
const headBytes = 5;

type InnerCall = ConstructorParameters<typeof ServerInterceptingCall>[0];

/** What of grpc-js is used without its leave. */
interface Collecting {
  readonly stream: ServerHttp2Stream;
  decompressMessage(framed: Buffer, encoding: string): Buffer | Promise<Buffer>;
}

/** The messages of one call that are held: pieces of one that still comes, and whole ones that were not taken yet. */
export interface HeldMessages {
  /** The handler has begun: it says itself when the call's messages are held no longer. */
  begin(): void;
  /** A message is decoded. */
  decoded(message: Buffer): void;
  /** Nothing is held any more. */
  leave(): void;
  /** No further message is read until `resume`. Only streams ask for that. */
  pause(): void;
  resume(): void;
}

const byMetadata = new WeakMap<Metadata, CallMessages>();

/** Handlers know a call by its metadata. */
export function heldBy(metadata: Metadata): HeldMessages {
  return byMetadata.get(metadata)!;
}

/** Has to be the first interceptor of a server: it looks into grpc-js's own call. Of services that are not ours messages are held only as long as they come. */
export function countMessages(ends: CallEnds): ServerInterceptor {
  return ({ path, requestStream }, call) => {
    const name = path.slice(path.lastIndexOf("/") + 1);
    const method = isMethod(name) ? name : undefined;
    return new CountedCall(call, new CallMessages(ends, call, { method, isStream: requestStream && method !== undefined }));
  };
}

class CountedCall extends ServerInterceptingCall {
  readonly #messages: CallMessages;

  constructor(call: InnerCall, messages: CallMessages) {
    super(call, {
      start: (next) =>
        next({
          onReceiveMetadata(metadata, go) {
            byMetadata.set(metadata, messages);
            messages.metadata = metadata;
            go(metadata);
          },
          onReceiveMessage(message, go) {
            messages.delivered();
            go(message);
          },
          onCancel: () => messages.over(),
        }),
    });
    this.#messages = messages;
  }

  override startRead(): void {
    this.#messages.read();
  }
}

class CallMessages implements HeldMessages {
  readonly #ends: CallEnds;
  readonly #call: InnerCall;
  readonly #method: MethodName | undefined;
  readonly #isStream: boolean;
  readonly #startMs: number;
  metadata: Metadata | undefined;
  #bytes = 0;
  /** Since the first time that they were enough to be counted. */
  #held: HeldBody | undefined;
  #isCounted = false;
  #stopWaiting: (() => void) | undefined;
  /** Messages that the handler was given and has not decoded. Not those that came in one piece with them: grpc-js gives them out by reads. */
  #undecoded = 0;
  #isPaused = false;
  /** A read that waits until messages are taken, or the handler goes on. */
  #wantsRead = false;
  #hasBegun = false;
  #isOver = false;
  /** All was given back with the stream: what becomes of messages later is counted no more. */
  #isClosed = false;

  constructor(ends: CallEnds, call: InnerCall, of: { method: MethodName | undefined; isStream: boolean }) {
    this.#ends = ends;
    this.#call = call;
    this.#method = of.method;
    this.#isStream = of.isStream;
    this.#startMs = ends.context.clock.monotonicMs();
    const inner = this.#inner();
    // before grpc-js's own listener, which keeps what comes
    inner.stream.prependListener("data", (piece: Buffer) => {
      if (!this.#isOver) this.#hold(piece.length);
    });
    const asItIs = inner.decompressMessage.bind(inner);
    inner.decompressMessage = (framed, encoding) => {
      const whole = encoding === "gzip" || encoding === "deflate" ? this.#inflate(framed, encoding) : asItIs(framed, encoding);
      if (whole instanceof Promise) return whole.then((message) => this.#came(message, framed.length + message.length));
      return this.#came(whole, framed.length);
    };
  }

  #inner(): Collecting {
    return this.#call as unknown as Collecting;
  }

  delivered(): void {
    this.#undecoded++;
  }

  read(): void {
    if (this.#isStream && (this.#isPaused || this.#undecoded > 0)) this.#wantsRead = true;
    else this.#call.startRead();
  }

  begin(): void {
    this.#hasBegun = true;
    this.#stopWaiting?.();
  }

  decoded(message: Buffer): void {
    this.#undecoded--;
    this.#hold(-message.length);
    this.#readOn();
  }

  leave(): void {
    this.#hold(-this.#bytes);
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#readOn();
  }

  #readOn(): void {
    if (!this.#wantsRead || this.#isPaused || this.#undecoded > 0) return;
    this.#wantsRead = false;
    this.#call.startRead();
  }

  /** The call was answered or left before its messages were taken. A client that goes on sending must not keep what has come. */
  over(): void {
    this.#isOver = true;
    this.#stopWaiting?.();
    if (this.#isCounted) this.#inner().stream.close(constants.NGHTTP2_NO_ERROR);
  }

  /** A message is whole. `heldBytes` were held while it came, from now on only itself is. */
  #came(message: Buffer, heldBytes: number): Buffer {
    this.#hold(this.#method === undefined ? -heldBytes : message.length - heldBytes);
    return message;
  }

  /** `moreBytes` are held from now on; the call is refused when the budget has no room for them. */
  #hold(moreBytes: number): void {
    if (this.#isClosed || (this.#isOver && moreBytes > 0)) return;
    this.#bytes += moreBytes;
    if (this.#bytes < countedFromBytes) {
      if (this.#isCounted) this.#uncount();
      return;
    }
    this.#held ??= this.#firstCounted();
    if (!this.#isCounted) {
      this.#isCounted = true;
      this.#stopWaiting = this.#ends.context.clock.after(mostReadingMs, () => this.#refuse(tooSlow()));
    }
    if (!this.#held.has(this.#bytes)) this.#refuse(tooMany());
  }

  #firstCounted(): HeldBody {
    const held = this.#ends.context.bodies.body();
    // whatever ends the call: what grpc-js holds of it goes with the stream
    this.#inner().stream.once("close", () => {
      this.#isOver = true;
      if (this.#hasBegun) return;
      this.#isClosed = true;
      this.#uncount();
    });
    return held;
  }

  #uncount(): void {
    this.#isCounted = false;
    this.#stopWaiting?.();
    this.#held?.leave();
  }

  #refuse(error: SwitchyardError): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#call.sendStatus(this.#ended(error));
  }

  #ended(error: SwitchyardError): StatusObject {
    const { requestId } = this.#ends.failure(error, { method: this.#method ?? "reflection", metadata: this.metadata ?? new Metadata() });
    if (this.#method !== undefined) this.#ends.count(this.#method, grpcCodeOf(error), this.#startMs);
    return grpcStatus(error, requestId);
  }

  /** As grpc-js does it, but what comes out is counted as it comes. Rejects with a status. */
  #inflate(framed: Buffer, encoding: string): Promise<Buffer> {
    const { maxBodyBytes } = this.#ends.context.config;
    const stream = inflater(encoding)!;
    const pieces: Buffer[] = [];
    let sizeBytes = 0;
    return new Promise((resolve, reject) => {
      stream.on("error", () => reject({ code: status.INTERNAL, details: `The message is not valid ${encoding} data` }));
      stream.on("data", (piece: Buffer) => {
        sizeBytes += piece.length;
        this.#hold(piece.length);
        pieces.push(piece);
        if (sizeBytes <= maxBodyBytes && !this.#isOver) return;
        stream.destroy();
        const details = `The message must not exceed maximum size: at most ${maxBodyBytes} bytes, got more after decompression`;
        reject({ code: status.RESOURCE_EXHAUSTED, details }); // means nothing where the call is over
      });
      stream.on("end", () => resolve(Buffer.concat(pieces, sizeBytes)));
      stream.end(framed.subarray(headBytes));
    });
  }
}

function tooMany(): SwitchyardError {
  const detail = "Too many large messages are being read at this moment; try again, or send large tensors in smaller messages";
  return new SwitchyardError("rate_limited", detail, { retryAfterMs: 1_000 });
}

function tooSlow(): SwitchyardError {
  return new SwitchyardError(
    "invalid_request",
    `The message was not sent whole within ${mostReadingMs / 1000} s; send it faster or in parts`,
  );
}
