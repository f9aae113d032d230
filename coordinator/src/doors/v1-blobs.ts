/**
 * Large values for hosts that do not share the coordinators' folder: read by digest, and written back by digest. Bytes stream between socket
 * and store in both directions. No API key opens this: a value belongs to some tenant's job, and takes room before any job is charged for it.
 * Where keys are used a host shows the credential that it reads in the store; without them the door is on loopback only.
 */

import { Readable } from "node:stream";
import { SwitchyardError, sha256Pattern } from "@switchyard/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { BlobStore } from "../ports/blob-store.ts";
import { sendJson } from "./answers.ts";
import type { DoorContext } from "./door-context.ts";
import { bodyPieces } from "./request-body.ts";
import { addRoute } from "./routes.ts";

/** Outputs may be larger than any request. */
const outputsPerBody = 16;
/** As long as any result may be kept, and a day. */
const maxKeepMs = 31 * 86_400_000;

export function addBlobs(app: FastifyInstance, context: DoorContext, blobs: BlobStore): void {
  const maxBytes = outputsPerBody * context.config.maxBodyBytes;
  addRoute(app, "/v1/blobs/:sha256", {
    GET: (request, reply) => answerBlob(blobs, request, reply),
    PUT: (request, reply) => takeBlob(blobs, maxBytes, request, reply),
  });
}

async function answerBlob(blobs: BlobStore, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const skipBytes = skippedIn(request);
  const found = await blobs.open(digestIn(request), skipBytes);
  if (!found) throw new SwitchyardError("not_found", "There is no such blob (any more)");
  // A file's stream as it is: around one that nobody began to read, a wrapper would not close the file when it is destroyed.
  const stream = found.stream instanceof Readable ? found.stream : Readable.from(found.stream, { objectMode: false });
  const { sizeBytes } = found;
  reply.header("content-type", "application/octet-stream").header("accept-ranges", "bytes");
  const isPart = skipBytes > 0 && skipBytes < sizeBytes;
  if (skipBytes > 0 && !isPart) {
    stream.destroy();
    return reply.code(416).header("content-range", `bytes */${sizeBytes}`).send();
  }
  if (isPart) reply.code(206).header("content-range", `bytes ${skipBytes}-${sizeBytes - 1}/${sizeBytes}`);
  reply.header("content-length", sizeBytes - skipBytes);
  reply.header("cache-control", "private, max-age=31536000, immutable");
  if (request.method !== "HEAD") return reply.send(stream);
  stream.destroy();
  return reply.send();
}

/** Whoever was cut off goes on from there; other ranges are answered whole, as RFC 9110 allows. */
function skippedIn({ headers }: FastifyRequest): number {
  const [, from] = /^bytes=(\d{1,15})-$/.exec(headers.range ?? "") ?? [];
  return Number(from ?? 0);
}

async function takeBlob(blobs: BlobStore, maxBytes: number, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { raw } = request;
  try {
    const sha256 = digestIn(request);
    const keepMs = keepMsIn(request);
    const { sizeBytes } = await blobs.receive(bodyPieces(raw, { maxBytes, what: "A blob", isPassing: true }), { sha256, keepMs });
    return await sendJson(request, reply.code(201), { sha256, size_bytes: sizeBytes });
  } finally {
    raw.resume(); // what a refusal left unread is discarded, so that the client hears of it
  }
}

function digestIn(request: FastifyRequest): string {
  const { sha256 } = request.params as { sha256: string };
  if (sha256Pattern.test(sha256)) return sha256;
  const fields = [{ pointer: "sha256", expected: "64 lower-case hexadecimal digits", got: sha256.slice(0, 80) }];
  throw new SwitchyardError("invalid_request", "The path names no SHA-256", { fields });
}

function keepMsIn(request: FastifyRequest): number {
  const text = String((request.query as Record<string, unknown>).keep_ms ?? "");
  const keepMs = /^\d{1,12}$/.test(text) ? Number(text) : 0;
  if (keepMs >= 1 && keepMs <= maxKeepMs) return keepMs;
  const fields = [{ pointer: "keep_ms", expected: `whole milliseconds from 1 to ${maxKeepMs}`, got: text.slice(0, 40) }];
  throw new SwitchyardError("invalid_request", "keep_ms says for how long the blob is kept", { fields });
}
