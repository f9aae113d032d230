/** Successful answers: bytes with their headers, compressed where the client can read that and it pays. */

import { promisify } from "node:util";
import { gzip } from "node:zlib";
import type { EncodedBody } from "@switchyard/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";

const compress = promisify(gzip);

/** Below this a compressed answer is hardly smaller. */
const worthCompressingBytes = 1024;

export function acceptsGzip(header: string | undefined): boolean {
  if (header === undefined) return false;
  for (const part of header.split(",")) {
    const [coding, ...parameters] = part.split(";").map((word) => word.trim().toLowerCase());
    if (coding === "gzip" || coding === "x-gzip" || coding === "*") return !parameters.some((word) => /^q=0(\.0*)?$/.test(word));
  }
  return false;
}

/** JSON of the framework's own making would carry a charset, which some clients of /v2 take for another type. */
export function sendJson(request: FastifyRequest, reply: FastifyReply, value: unknown): FastifyReply | Promise<FastifyReply> {
  return sendJsonBytes(request, reply, Buffer.from(JSON.stringify(value)));
}

export function sendJsonBytes(request: FastifyRequest, reply: FastifyReply, json: Buffer): FastifyReply | Promise<FastifyReply> {
  reply.header("content-type", "application/json");
  if (json.length <= worthCompressingBytes) return reply.send(json);
  addVary(reply, "Accept-Encoding");
  if (!acceptsGzip(request.headers["accept-encoding"])) return reply.send(json);
  return compress(json, { level: 1 }).then((small) => reply.header("content-encoding", "gzip").send(small));
}

export function sendEncoded(request: FastifyRequest, reply: FastifyReply, body: EncodedBody): FastifyReply | Promise<FastifyReply> {
  const bytes = body.parts.length === 1 ? bufferOf(body.parts[0]!) : Buffer.concat(body.parts);
  if (body.headerLength === undefined) return sendJsonBytes(request, reply, bytes);
  reply.header("content-type", body.contentType).header("inference-header-content-length", String(body.headerLength));
  return reply.send(bytes);
}

export function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Adds to what other parts of the door have said the answer depends on. */
export function addVary(reply: FastifyReply, header: string): FastifyReply {
  const before = reply.getHeader("vary");
  return reply.header("vary", before === undefined ? header : `${String(before)}, ${header}`);
}
