/** A gRPC call over a plain HTTP/2 stream: sends any part of a message, and neither finishes nor leaves unless it is told to. */

import { once } from "node:events";
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import { status } from "@grpc/grpc-js";
import { inferenceService } from "./grpc-client.ts";
import type { OpenGrpc } from "./open-grpc.ts";

export interface PlainCall {
  stream: ClientHttp2Stream;
  /** The word of the status and its text, as soon as they come. */
  ended: Promise<{ code: string; details: string; retryAfter: string | undefined }>;
}

/** A message as it goes over the wire; `bytes` of it may be fewer than `promised`. */
export function framed(bytes: Buffer, { compressed = false, promised = bytes.length } = {}): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(compressed ? 1 : 0, 0);
  head.writeUInt32BE(promised, 1);
  return Buffer.concat([head, bytes]);
}

export class PlainGrpc {
  readonly session: ClientHttp2Session;

  constructor(door: Pick<OpenGrpc, "grpc" | "leaving">) {
    this.session = connect(`http://${door.grpc}`);
    this.session.on("error", () => {});
    door.leaving.push(() => this.session.destroy());
  }

  /** Resolves when the server has read all that was sent before. */
  async heard(): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(resolve)); // what was written in this turn goes out first
    await new Promise<void>((resolve) => this.session.ping(() => resolve()));
  }

  /** Resolves when the bytes are on their way. */
  async begin(bytes: Buffer, headers: Record<string, string> = {}, method = "ModelInfer"): Promise<PlainCall> {
    const stream = this.session.request({
      ":method": "POST",
      ":path": `/${inferenceService}/${method}`,
      "content-type": "application/grpc",
      te: "trailers",
      ...headers,
    });
    stream.on("error", () => {});
    const ended = new Promise<Awaited<PlainCall["ended"]>>((resolve) => {
      const read = (fields: Record<string, unknown>): void => {
        if (fields["grpc-status"] === undefined) return;
        const details = decodeURI(String(fields["grpc-message"] ?? ""));
        const retryAfter = fields["retry-after"] as string | undefined;
        resolve({ code: status[Number(fields["grpc-status"])]!, details, retryAfter });
      };
      stream.on("response", read).on("trailers", read);
    });
    stream.resume();
    stream.write(bytes);
    if (stream.pending) await once(stream, "ready");
    return { stream, ended };
  }
}
