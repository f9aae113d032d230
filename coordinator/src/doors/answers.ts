/** Successful answers: bytes with their headers, compressed where the client can read that and it pays. */

import { promisify } from "node:util";
import { deflate, gzip } from "node:zlib";
import type { EncodedBody } from "@switchyard/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";

const compress = { gzip: promisify(gzip), deflate: promisify(deflate) };

type Coding = keyof typeof compress;

/** Below this a compressed answer is hardly smaller. */
const worthCompressingBytes = 1024;

/**
 * How the client would have the answer compressed; undefined: not at all. `alone`: it names that coding and no other, which libraries that
 * merely say what they can read do not do.
 */
export function acceptedCoding(header: string | undefined): { coding: Coding; alone: boolean } | undefined {
  if (header === undefined) return undefined;
  const weights = new Map<string, number>();
  for (const part of header.split(",")) {
    const [coding = "", ...parameters] = part.split(";").map((word) => word.trim().toLowerCase());
    const weight = Number(parameters.find((word) => word.startsWith("q="))?.slice(2) ?? 1);
    weights.set(coding === "x-gzip" ? "gzip" : coding, weight);
  }
  const weightOf = (coding: Coding): number => weights.get(coding) ?? weights.get("*") ?? 0;
  const coding: Coding = weightOf("deflate") > weightOf("gzip") ? "deflate" : "gzip";
  return weightOf(coding) > 0 ? { coding, alone: weights.size === 1 && weights.has(coding) } : undefined;
}

/**
 * JSON of /v2 that is no inference's answer, as it is: Triton's asyncio client tells every server that it reads compressed answers, and does
 * so for inferences only.
 */
export function sendPlainJson(reply: FastifyReply, value: unknown): FastifyReply {
  return reply.header("content-type", "application/json").send(Buffer.from(JSON.stringify(value)));
}

/** JSON of the framework's own making would carry a charset, which some clients of /v2 take for another type. */
export function sendJson(request: FastifyRequest, reply: FastifyReply, value: unknown): FastifyReply | Promise<FastifyReply> {
  return sendJsonBytes(request, reply, Buffer.from(JSON.stringify(value)));
}

export function sendJsonBytes(request: FastifyRequest, reply: FastifyReply, json: Buffer): FastifyReply | Promise<FastifyReply> {
  reply.header("content-type", "application/json");
  if (json.length <= worthCompressingBytes) return reply.send(json);
  addVary(reply, "Accept-Encoding");
  return sendCompressed(reply, json, acceptedCoding(request.headers["accept-encoding"])?.coding);
}

/** Tensors in binary form are rarely smaller for it, so those are compressed only for a client that asks for just that. */
export function sendEncoded(request: FastifyRequest, reply: FastifyReply, body: EncodedBody): FastifyReply | Promise<FastifyReply> {
  const bytes = body.parts.length === 1 ? bufferOf(body.parts[0]!) : Buffer.concat(body.parts);
  if (body.headerLength === undefined) return sendJsonBytes(request, reply, bytes);
  reply.header("content-type", body.contentType).header("inference-header-content-length", String(body.headerLength));
  const accepted = acceptedCoding(request.headers["accept-encoding"]);
  if (!accepted?.alone) return reply.send(bytes);
  return sendCompressed(addVary(reply, "Accept-Encoding"), bytes, accepted.coding);
}

function sendCompressed(reply: FastifyReply, bytes: Buffer, coding: Coding | undefined): FastifyReply | Promise<FastifyReply> {
  if (coding === undefined) return reply.send(bytes);
  return compress[coding](bytes, { level: 1 }).then((small) => reply.header("content-encoding", coding).send(small));
}

export function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Adds to what other parts of the door have said the answer depends on. */
export function addVary(reply: FastifyReply, header: string): FastifyReply {
  const before = reply.getHeader("vary");
  return reply.header("vary", before === undefined ? header : `${String(before)}, ${header}`);
}
