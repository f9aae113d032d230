/**
 * The HTTP door: one server for /v1, /v2 and the probes. Owns what concerns every request: ids, limits, origins, draining, errors, the
 * request histogram. Bodies are read by the routes that want one, so that a refusal costs no memory.
 */

import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { SwitchyardError } from "@switchyard/protocol";
import Fastify, { type FastifyInstance } from "fastify";
import type { Clock, LoopClock } from "../clock.ts";
import { BodyBudget } from "./body-budget.ts";
import { type DoorContext, type HttpConfig, largestBodiesHeld } from "./door-context.ts";
import { addGuards } from "./guard.ts";
import { OpenCalls } from "./open-calls.ts";
import { sendError } from "./problem.ts";
import { TurnWait } from "./turn-wait.ts";
import { addAliases } from "./v1-aliases.ts";
import { addBlobs } from "./v1-blobs.ts";
import { addCluster } from "./v1-cluster.ts";
import { addDeadLetters } from "./v1-dead-letters.ts";
import { addJobs } from "./v1-jobs.ts";
import { addModelUploads } from "./v1-model-uploads.ts";
import { addInference } from "./v2-inference.ts";
import { addModels } from "./v2-models.ts";

/** From the first byte to the end of the body. */
const requestTimeoutMs = 300_000;
const headersTimeoutMs = 20_000;
const keepAliveMs = 72_000;
const maxPathPartChars = 512;

export interface HttpServer {
  /** Resolves with the address once it listens; throws a plain Error that says what to do when the port is taken. */
  listen(where: { host: string; port: number }): Promise<{ host: string; port: number }>;
  /** Answers waits and ends streams now, so that clients move on to another coordinator; held inferences go on. */
  endWaits(): void;
  /** Answers held inferences now: `draining`, with their job's id; jobs that nobody could ask for again are cancelled. */
  endHeld(): void;
  /** Stops listening, ends waits and streams, and resolves when the last answer is sent. */
  close(): Promise<void>;
}

/** What a door is made of; JSON has the limit of all bodies unless a smaller one is given. */
export type HttpServerParts = Omit<DoorContext, "calls" | "turns" | "bodies" | "config"> & {
  clock: Clock & LoopClock;
  config: Omit<HttpConfig, "maxJsonBytes" | "maxModelBytes"> & { maxJsonBytes?: number; maxModelBytes?: number };
};

export function createHttpServer(parts: HttpServerParts): HttpServer {
  let closing = false;
  const context: DoorContext = {
    ...parts,
    config: { maxJsonBytes: parts.config.maxBodyBytes, maxModelBytes: parts.config.maxBodyBytes, ...parts.config },
    draining: () => closing || parts.draining(),
    calls: new OpenCalls(),
    turns: new TurnWait(parts.clock),
    bodies: new BodyBudget(largestBodiesHeld * parts.config.maxBodyBytes),
  };
  const app = Fastify({
    logger: false,
    bodyLimit: context.config.maxBodyBytes,
    requestTimeout: requestTimeoutMs,
    keepAliveTimeout: keepAliveMs,
    forceCloseConnections: "idle",
    return503OnClosing: false,
    exposeHeadRoutes: false,
    requestIdHeader: false,
    genReqId: requestIds(),
    http: { headersTimeout: headersTimeoutMs },
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: maxPathPartChars },
    frameworkErrors: (error, request, reply) => sendError(error, request, reply, context.log),
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", (_request, _payload, done) => done(null, undefined));
  app.setErrorHandler((error, request, reply) => sendError(error, request, reply, context.log));
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split("?", 1)[0]!.slice(0, 256);
    return sendError(new SwitchyardError("not_found", `There is nothing at ${path}`), request, reply, context.log);
  });
  addEveryRequest(app, context);
  addGuards(app, context.access);
  addInference(app, context);
  addModels(app, context);
  addJobs(app, context);
  addDeadLetters(app, context);
  addCluster(app, context);
  addModelUploads(app, context);
  addAliases(app, context);
  if (context.blobs) addBlobs(app, context, context.blobs);
  return {
    listen: (where) => listen(app, where),
    endWaits: () => context.calls.endWaits(),
    endHeld: () => context.calls.endHeld(),
    close: () => {
      closing = true;
      context.calls.endWaits();
      context.turns.stop();
      return app.close();
    },
  };
}

/** The client's own id if it is short and printable, else one of ours. */
function requestIds(): (raw: { headers: IncomingMessage["headers"] }) => string {
  const prefix = randomBytes(6).toString("hex");
  let count = 0;
  return ({ headers }) => {
    const given = headers["x-request-id"];
    if (typeof given === "string" && /^[\x21-\x7e]{1,128}$/.test(given)) return given;
    count++;
    return `${prefix}-${count.toString(36)}`;
  };
}

function addEveryRequest(app: FastifyInstance, context: DoorContext): void {
  const { corsOrigins } = context.config;
  app.addHook("onRequest", (request, reply, done) => {
    reply.header("x-request-id", request.id);
    done();
  });
  // Asked when the answer leaves, not when the request came: a held call outlives the start of the drain, and an idle connection
  // would keep the server from closing.
  app.addHook("onSend", (_request, reply, _payload, done) => {
    if (context.draining()) reply.header("connection", "close");
    done();
  });
  if (corsOrigins.length > 0) addCors(app, corsOrigins);
  app.addHook("onResponse", (request, reply, done) => {
    context.metrics.httpAnswered(request.routeOptions.url ?? "none", request.method, reply.statusCode, reply.elapsedTime / 1000);
    done();
  });
}

const readableHeaders =
  "WWW-Authenticate, ETag, Location, Retry-After, Preference-Applied, Idempotent-Replayed, Cache-Status, Inference-Header-Content-Length, X-Request-Id, x-switchyard-error";

function addCors(app: FastifyInstance, origins: readonly string[]): void {
  app.addHook("onRequest", (request, reply, done) => {
    const { origin } = request.headers;
    reply.header("vary", "Origin");
    if (origin !== undefined && (origins.includes("*") || origins.includes(origin))) {
      reply.header("access-control-allow-origin", origin).header("access-control-expose-headers", readableHeaders);
      if (request.method === "OPTIONS" && request.headers["access-control-request-method"] !== undefined) {
        reply.header("access-control-allow-methods", "GET, HEAD, POST, PUT, DELETE, OPTIONS");
        reply.header("access-control-allow-headers", request.headers["access-control-request-headers"] ?? "*");
        reply.header("access-control-max-age", "600");
      }
    }
    done();
  });
}

export async function listen(app: FastifyInstance, where: { host: string; port: number }): Promise<{ host: string; port: number }> {
  try {
    await app.listen(where);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "EADDRINUSE")
      throw new Error(`${where.host}:${where.port} is in use by another process; choose another address`, { cause: error });
    if (code === "EACCES")
      throw new Error(`${where.host}:${where.port} may not be opened by this user; choose a port above 1023`, { cause: error });
    if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND") throw new Error(`${where.host} is no address of this machine`, { cause: error });
    throw error;
  }
  const address = app.server.address();
  return { host: where.host, port: typeof address === "object" && address !== null ? address.port : where.port };
}
