/**
 * Reads a request's body to bytes: never more than the limit, before or after decompression, whatever its headers promise. What comes
 * beyond the limit is discarded as it arrives, so that the client can read the refusal; the request's time limit bounds that.
 */

import type { IncomingMessage } from "node:http";
import { createGunzip, createInflate, type Gunzip, type Inflate } from "node:zlib";
import { SwitchyardError } from "@switchyard/protocol";

const nothing = Buffer.alloc(0);

/**
 * Between these sizes the buffer is made once and filled, so that a large body is copied once and its pieces are free at once. Above, a
 * promise alone buys no memory.
 */
const fillFromBytes = 64 * 1024;
const fillToBytes = 8 * 1024 * 1024;

/** Throws `payload_too_large`, `unsupported_encoding`, or `invalid_request` when the stream is cut off or not what it says. */
export function readBody(raw: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const { headers } = raw;
  if (headers["content-length"] === undefined && headers["transfer-encoding"] === undefined) return Promise.resolve(nothing);
  if (Number(headers["content-length"]) > maxBytes) {
    raw.resume();
    return Promise.reject(tooLarge(maxBytes, `a body of ${headers["content-length"]} bytes`));
  }
  const encoding = headers["content-encoding"];
  if (encoding === undefined || encoding === "identity") {
    const promised = Number(headers["content-length"]);
    return promised >= fillFromBytes && promised <= fillToBytes ? fill(raw, promised) : collect(raw, maxBytes);
  }
  return inflate(raw, encoding.trim().toLowerCase(), maxBytes);
}

function tooLarge(maxBytes: number, got: string): SwitchyardError {
  return new SwitchyardError("payload_too_large", `The body must not exceed maximum size: at most ${maxBytes} bytes, got ${got}`, {
    fields: [{ pointer: "body", expected: `at most ${maxBytes} bytes`, got }],
  });
}

function cutOff(): SwitchyardError {
  return new SwitchyardError("invalid_request", "The connection closed before the whole body had come");
}

/** A body whose length is promised and within the limit. HTTP itself ends it there; a shorter one is cut off. */
function fill(raw: IncomingMessage, promisedBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const body = Buffer.allocUnsafeSlow(promisedBytes);
    let size = 0;
    const leave = (): void => {
      raw.off("data", onData).off("end", onEnd).off("close", onClose).off("error", onClose);
    };
    const onData = (chunk: Buffer): void => {
      size += chunk.copy(body, size);
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

function collect(raw: IncomingMessage, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const leave = (): void => {
      raw.off("data", onData).off("end", onEnd).off("close", onClose).off("error", onClose);
    };
    const onData = (chunk: Buffer): void => {
      size += chunk.length;
      if (size <= maxBytes) {
        chunks.push(chunk);
        return;
      }
      leave();
      raw.resume();
      reject(tooLarge(maxBytes, "more"));
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

function inflate(raw: IncomingMessage, encoding: string, maxBytes: number): Promise<Buffer> {
  const stream = inflater(encoding);
  if (stream === undefined) {
    raw.resume();
    const fields = [{ pointer: "Content-Encoding", expected: "gzip, deflate or identity", got: encoding.slice(0, 64) }];
    return Promise.reject(new SwitchyardError("unsupported_encoding", "Content-Encoding must be gzip, deflate or identity", { fields }));
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
      if (size > maxBytes) fail(tooLarge(maxBytes, "more after decompression"));
      else chunks.push(chunk);
    });
    stream.on("end", () => resolve(Buffer.concat(chunks, size)));
    stream.on("error", () => fail(new SwitchyardError("invalid_request", `The body is not valid ${encoding} data`)));
    raw.on("close", () => {
      if (!raw.complete) fail(cutOff());
    });
    raw.pipe(stream);
  });
}

function inflater(encoding: string): Gunzip | Inflate | undefined {
  if (encoding === "gzip" || encoding === "x-gzip") return createGunzip();
  return encoding === "deflate" ? createInflate() : undefined;
}
