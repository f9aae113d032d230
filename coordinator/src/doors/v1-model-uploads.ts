/** Versions that come by the interface: the ONNX file as a streamed body, weights in files of their own ahead of it, and the configuration. */

import { modelNamePattern, SwitchyardError, versionNumberIn } from "@switchyard/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { IncomingFile, ModelUploads } from "../application/model-uploads.ts";
import type { VersionName } from "../ports/upload-store.ts";
import { sendJson } from "./answers.ts";
import { digestOf } from "./body-digest.ts";
import type { DoorContext } from "./door-context.ts";
import { bodyPieces, encodingOf, readBody } from "./request-body.ts";
import { addRoute, type Handler } from "./routes.ts";
import type { ModelPath } from "./v2-inference.ts";

const maxConfigBytes = 1 << 20;

export function addModelUploads(app: FastifyInstance, context: DoorContext): void {
  addRoute(app, "/v1/models/:model/versions/:version/files/*", { PUT: (request, reply) => stageFile(context, request, reply) });
  addRoute(app, "/v1/models/:model/config", {
    PUT: async (request, reply) => {
      const body = await readBody(request.raw, { maxBytes: maxConfigBytes });
      const config = await uploadsOf(context).configure(modelIn(request), body.toString("utf8"));
      return sendJson(request, reply, config);
    },
    DELETE: async (request, reply) => {
      await uploadsOf(context).configure(modelIn(request), undefined);
      return reply.code(204).send();
    },
  });
}

/** 201 when it was made, 200 when it was there with the same content. */
export const putVersion =
  (context: DoorContext): Handler =>
  async (request, reply) => {
    const of = versionNameIn(request);
    const { created, version } = await taken(context, request, (file) => uploadsOf(context).put(of, file));
    const { digest, model, signature, sizeBytes } = version;
    reply.code(created ? 201 : 200).header("location", `/v1/models/${model}/versions/${version.version}`);
    return sendJson(request, reply, {
      ...{ model, version: version.version, digest, size_bytes: sizeBytes },
      ...{ inputs: signature.inputs, outputs: signature.outputs },
    });
  };

export const removeVersion =
  ({ removal }: DoorContext): Handler =>
  async (request, reply) => {
    if (removal === undefined) throw new SwitchyardError("unsupported", "This coordinator removes no models");
    await removal.remove(versionNameIn(request));
    return reply.code(204).send();
  };

async function stageFile(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const name = (request.params as { "*": string })["*"];
  const { sha256, sizeBytes } = await taken(context, request, (file) => uploadsOf(context).stage(versionNameIn(request), name, file));
  return sendJson(request, reply.code(201), { name, sha256, size_bytes: sizeBytes });
}

async function taken<T>(context: DoorContext, { raw }: FastifyRequest, take: (file: IncomingFile) => Promise<T>): Promise<T> {
  try {
    if (context.draining()) throw new SwitchyardError("draining", "This coordinator is shutting down; ask another one");
    const encoding = encodingOf(raw.headers);
    if (encoding !== "identity") {
      const fields = [{ pointer: "Content-Encoding", expected: "identity", got: encoding.slice(0, 64) }];
      throw new SwitchyardError("unsupported_encoding", "Files of models come as they are, without Content-Encoding", { fields });
    }
    const type = (raw.headers["content-type"] ?? "").split(";", 1)[0]!.trim().toLowerCase();
    if (type === "multipart/form-data" || type === "application/x-www-form-urlencoded") {
      const fields = [{ pointer: "Content-Type", expected: "application/octet-stream", got: type }];
      throw new SwitchyardError("unsupported_media_type", "The body is the file itself (curl -T model.onnx), no form", { fields });
    }
    const sha256 = digestOf(raw.headers);
    const what = "A file of a model (SWITCHYARD_MAX_MODEL)";
    const stream = bodyPieces(raw, { maxBytes: context.config.maxModelBytes, what, isPassing: true });
    return await take({ stream, ...(sha256 !== undefined && { sha256 }) });
  } finally {
    raw.resume(); // what a refusal left unread is discarded, so that the client hears of it
  }
}

function uploadsOf({ uploads }: DoorContext): ModelUploads {
  if (uploads === undefined) throw new SwitchyardError("unsupported", "This coordinator takes no models");
  return uploads;
}

function modelIn(request: FastifyRequest): string {
  const { model } = request.params as ModelPath;
  if (modelNamePattern.test(model)) return model;
  const expected = 'a letter or digit, then at most 127 letters, digits, ".", "_" or "-"';
  throw new SwitchyardError("invalid_request", `A model's name must be ${expected}`, {
    fields: [{ pointer: "model", expected, got: model.slice(0, 128) }],
  });
}

function versionNameIn(request: FastifyRequest): VersionName {
  const model = modelIn(request);
  const { version } = request.params as ModelPath;
  const number = versionNumberIn(version ?? "");
  if (number === undefined) {
    const fields = [{ pointer: "version", expected: "a whole number, such as 1", got: version!.slice(0, 64) }];
    throw new SwitchyardError("invalid_request", "A version is a whole number, such as 1", { fields });
  }
  return { model, version: number };
}
