/**
 * Reads a request's body, whole or piece by piece: never more than the limit, before or after decompression, whatever its headers promise, and never more
 * at once than the budget of all bodies. What comes beyond is discarded as it arrives, so that the client can read the refusal; the
 * request's time limit bounds that.
 */

import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { createGunzip, createInflate, type Gunzip, type Inflate } from "node:zlib";
import { SwitchyardError } from "@switchyard/protocol";
import type { HeldBody } from "./body-budget.ts";

const nothing = Buffer.alloc(0);

/**
 * Between these sizes the buffer is made once and filled, so that a large body is copied once and its pieces are free at once. Above, a
 * promise alone buys no memory.
 */
const fillFromBytes = 64 * 1024;
const fillToBytes = 8 * 1024 * 1024;

/** How much of one body may come, and what its bytes count against. */
export interface Reading {
  maxBytes: number;
  /** As "A blob"; default: the body. */
  what?: string;
  /** Added to a refusal: what the client can do instead. */
  advice?: string;
  held?: HeldBody;
}

/** Throws `payload_too_large`, `unsupported_encoding`, `queue_full`, or `invalid_request` when the stream is cut off or not what it says. */
export function readBody(raw: IncomingMessage, reading: Reading): Promise<Buffer> {
  const { headers } = raw;
  if (headers["content-length"] === undefined && headers["transfer-encoding"] === undefined) return Promise.resolve(nothing);
  if (Number(headers["content-length"]) > reading.maxBytes) {
    raw.resume();
    return Promise.reject(tooLarge(reading, `a body of ${headers["content-length"]} bytes`));
  }
  const encoding = encodingOf(headers);
  if (encoding === "identity") {
    const promised = Number(headers["content-length"]);
    if (promised < fillFromBytes) return come(raw, promised).then((body) => body ?? collect(raw, reading));
    return promised <= fillToBytes ? fill(raw, promised, reading) : collect(raw, reading);
  }
  return inflate(raw, encoding, reading);
}

/** The body's coding, however it is spelled. */
export function encodingOf(headers: IncomingHttpHeaders): string {
  return headers["content-encoding"]?.trim().toLowerCase() ?? "identity";
}

interface PiecesReading extends Omit<Reading, "held"> {
  /** Whoever reads has no further use for a piece when it asks for the next one. Then its memory is free at once. */
  isPassing?: boolean;
}

/**
 * The body piece by piece, as it comes. What a caller leaves unread is discarded, so that the client can read a refusal. Throws as `readBody`,
 * what can be known from the headers at once.
 */
export function bodyPieces(raw: IncomingMessage, reading: PiecesReading): AsyncIterable<Buffer> {
  const { headers } = raw;
  if (Number(headers["content-length"]) > reading.maxBytes) {
    raw.resume();
    throw tooLarge(reading, `a body of ${headers["content-length"]} bytes`);
  }
  const encoding = encodingOf(headers);
  const stream = encoding === "identity" ? undefined : inflater(encoding);
  if (stream === undefined && encoding !== "identity") {
    raw.resume();
    throw unknownEncoding(encoding);
  }
  return piecesOf(raw, stream, reading, encoding);
}

/** Not the socket's own iterator: leaving that one early would close the connection before the refusal is sent. */
async function* piecesOf(
  raw: IncomingMessage,
  stream: Gunzip | Inflate | undefined,
  reading: PiecesReading,
  encoding: string,
): AsyncGenerator<Buffer, void, undefined> {
  const onClose = (): void => void (raw.complete || stream?.destroy(cutOff()));
  let sizeBytes = 0;
  try {
    if (stream !== undefined) raw.on("close", onClose).pipe(stream);
    const source = stream ?? raw.iterator({ destroyOnReturn: false });
    for await (const piece of source as AsyncIterable<Buffer>) {
      sizeBytes += piece.length;
      if (sizeBytes > reading.maxBytes) throw tooLarge(reading, stream === undefined ? "more" : "more after decompression");
      yield piece;
      if (reading.isPassing) release(piece);
    }
  } catch (error) {
    if (error instanceof SwitchyardError) throw error;
    throw stream === undefined ? cutOff() : notEncoded(encoding);
  } finally {
    raw.off("close", onClose);
    if (stream !== undefined) {
      raw.unpipe(stream);
      stream.destroy();
    }
    raw.resume();
  }
}

/**
 * Frees a body, or a piece of one, that nobody reads any more, if its memory is its own. V8 lets tens of megabytes pile up before it looks for those
 * that nobody needs, since they are memory outside its heap, and then looks through all of that.
 */
export function release({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}

function tooLarge({ maxBytes, what = "The body", advice }: Omit<Reading, "held">, got: string): SwitchyardError {
  const detail = `${what} must not exceed maximum size: at most ${maxBytes} bytes, got ${got}${advice === undefined ? "" : `. ${advice}`}`;
  return new SwitchyardError("payload_too_large", detail, { fields: [{ pointer: "body", expected: `at most ${maxBytes} bytes`, got }] });
}

/** The budget of all bodies has no room. */
export function tooMany(): SwitchyardError {
  return new SwitchyardError("queue_full", "Too many large bodies are being read at this moment; try again", { retryAfterMs: 1_000 });
}

function cutOff(): SwitchyardError {
  return new SwitchyardError("invalid_request", "The connection closed before the whole body had come");
}

/** Why a body of which this much has come is refused; undefined while it is not. */
function refusal(reading: Reading, sizeBytes: number, got: string): SwitchyardError | undefined {
  if (sizeBytes > reading.maxBytes) return tooLarge(reading, got);
  return reading.held === undefined || reading.held.has(sizeBytes) ? undefined : tooMany();
}

/**
 * A body that came together with its headers, as small ones do: the parser hands it over before anything else of this turn runs. Undefined where
 * there is more to wait for.
 */
async function come(raw: IncomingMessage, promisedBytes: number): Promise<Buffer | undefined> {
  await undefined;
  if (raw.readableLength !== promisedBytes) return undefined;
  const body = raw.read() as Buffer | null;
  raw.resume(); // to its end, which Node waits for
  return body ?? nothing;
}

/** A body whose length is promised and within the limit. HTTP itself ends it there; a shorter one is cut off. */
function fill(raw: IncomingMessage, promisedBytes: number, reading: Reading): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const body = Buffer.allocUnsafeSlow(promisedBytes);
    let size = 0;
    const leave = (): void => {
      raw.off("data", onData).off("end", onEnd).off("close", onClose).off("error", onClose);
    };
    const onData = (chunk: Buffer): void => {
      size += chunk.copy(body, size);
      release(chunk);
      const refused = refusal(reading, size, "more");
      if (refused === undefined) return;
      leave();
      raw.resume();
      reject(refused);
    };
    const onEnd = (): void => {
      leave();
      if (size === promisedBytes) resolve(body);
      else reject(cutOff());
    };
    const onClose = (): void => {
      leave();
      reject(cutOff());
    };
    raw.on("data", onData).on("end", onEnd).on("close", onClose).on("error", onClose);
  });
}

function collect(raw: IncomingMessage, reading: Reading): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const leave = (): void => {
      raw.off("data", onData).off("end", onEnd).off("close", onClose).off("error", onClose);
    };
    const onData = (chunk: Buffer): void => {
      size += chunk.length;
      const refused = refusal(reading, size, "more");
      if (refused === undefined) {
        chunks.push(chunk);
        return;
      }
      leave();
      raw.resume();
      reject(refused);
    };
    const onEnd = (): void => {
      leave();
      resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, size));
    };
    const onClose = (): void => {
      leave();
      reject(cutOff());
    };
    raw.on("data", onData).on("end", onEnd).on("close", onClose).on("error", onClose);
  });
}

function inflate(raw: IncomingMessage, encoding: string, reading: Reading): Promise<Buffer> {
  const stream = inflater(encoding);
  if (stream === undefined) {
    raw.resume();
    return Promise.reject(unknownEncoding(encoding));
  }
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const fail = (error: SwitchyardError): void => {
      raw.unpipe(stream);
      stream.destroy();
      raw.resume();
      reject(error);
    };
    stream.on("data", (chunk: Buffer) => {
      size += chunk.length;
      const refused = refusal(reading, size, "more after decompression");
      if (refused) fail(refused);
      else chunks.push(chunk);
    });
    stream.on("end", () => resolve(Buffer.concat(chunks, size)));
    stream.on("error", () => fail(notEncoded(encoding)));
    raw.on("close", () => {
      if (!raw.complete) fail(cutOff());
    });
    raw.pipe(stream);
  });
}

function unknownEncoding(encoding: string): SwitchyardError {
  const fields = [{ pointer: "Content-Encoding", expected: "gzip, deflate or identity", got: encoding.slice(0, 64) }];
  return new SwitchyardError("unsupported_encoding", "Content-Encoding must be gzip, deflate or identity", { fields });
}

function notEncoded(encoding: string): SwitchyardError {
  return new SwitchyardError("invalid_request", `The body is not valid ${encoding} data`);
}

export function inflater(encoding: string): Gunzip | Inflate | undefined {
  if (encoding === "gzip" || encoding === "x-gzip") return createGunzip();
  return encoding === "deflate" ? createInflate() : undefined;
}
