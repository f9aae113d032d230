/**
 * The HTTP door: one server for /v1, /v2 and the probes. Owns what concerns every request: ids, limits, origins, draining, errors, the
 * request histogram. Bodies are read by the routes that want one, so that a refusal costs no memory.
 */

import { randomBytes } from "node:crypto";
import type { IncomingMessage, Server } from "node:http";
import type { Socket } from "node:net";
import { SwitchyardError } from "@switchyard/protocol";
import Fastify, { type FastifyInstance, type FastifyReply } from "fastify";
import { openAccess } from "../application/access.ts";
import { addConsole } from "./console.ts";
import { type DoorContext, type DoorParts, doorContext } from "./door-context.ts";
import { refuseForeignPages } from "./foreign-pages.ts";
import { addGuards } from "./guard.ts";
import { cannotListen, listenOptions, type Place, type Where } from "./listening.ts";
import { refuseMalformed } from "./malformed-requests.ts";
import { addMcp } from "./mcp/serving.ts";
import { wrongMediaType } from "./media-type.ts";
import { OwnDoor } from "./own-door.ts";
import { sendError } from "./problem.ts";
import { comesInBursts, RefusalBursts } from "./refusal-bursts.ts";
import { onEnd } from "./request-ends.ts";
import { addTracing, endSpan } from "./traced-requests.ts";
import { addAliases } from "./v1-aliases.ts";
import { addBlobs } from "./v1-blobs.ts";
import { addCluster } from "./v1-cluster.ts";
import { addDeadLetters } from "./v1-dead-letters.ts";
import { addJobDetails } from "./v1-job-details.ts";
import { addJobs } from "./v1-jobs.ts";
import { addModelUploads } from "./v1-model-uploads.ts";
import { addOverview } from "./v1-overview.ts";
import { addToolServers } from "./v1-tool-servers.ts";
import { addInference } from "./v2-inference.ts";
import { addModels } from "./v2-models.ts";
import { WideAddress } from "./wide-address.ts";

/** From the first byte to the end of the body. */
const requestTimeoutMs = 300_000;
const headersTimeoutMs = 20_000;
const keepAliveMs = 72_000;
const maxPathPartChars = 512;
/** A coordinator that leaves closes its idle connections when nobody has asked for anything for so long: else a request may be on its way. */
const quietMs = 250;
/** Connections on which nothing was ever asked are closed so long after the others: a first request may be on its way. */
const unheardMs = 1_000;
const withBodies = new Set(["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"]);
/** Asked by whoever must notice that this coordinator leaves, and by nobody else. */
const probes = new Set(["/livez", "/readyz", "/v2/health/live", "/v2/health/ready"]);

export interface HttpServer {
  /** Resolves with the address once it listens; throws a plain Error that says what to do when the port is taken. */
  listen(where: Where): Promise<Place>;
  /** Listens on a Unix socket, too, for those who ask this very process; until the server has closed. */
  listenAlone(file: string): Promise<void>;
  /** Resolves when no request has come for a while, or after `mostMs`; to be asked when callers are told to go elsewhere. */
  quiet(mostMs: number): Promise<void>;
  /** Answers waits and ends streams now, so that clients move on to another coordinator; held inferences go on. */
  endWaits(): void;
  /** Answers held inferences now: `draining`, with their job's id; jobs that nobody could ask for again are cancelled. */
  endHeld(): void;
  /** Stops listening, ends waits and streams, and resolves when the last answer is sent. */
  close(): Promise<void>;
}

export function createHttpServer(parts: DoorParts): HttpServer {
  let closing = false;
  const { clock } = parts;
  const requests = { lastMs: 0 };
  const context = doorContext(parts, () => closing);
  const newId = requestIds();
  const app = Fastify({
    logger: false,
    bodyLimit: context.config.maxBodyBytes,
    requestTimeout: requestTimeoutMs,
    keepAliveTimeout: keepAliveMs,
    forceCloseConnections: "idle",
    return503OnClosing: false,
    exposeHeadRoutes: false,
    requestIdHeader: false,
    genReqId: newId,
    clientErrorHandler: refuseMalformed(() => newId({ headers: {} })),
    http: { headersTimeout: headersTimeoutMs },
    schemaController: withoutSchemas,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: maxPathPartChars },
    frameworkErrors: (error, request, reply) => sendError(error, request, reply, context.log),
  });
  // one that is not understood may be passed over, and Triton's C++ client sends an empty one
  app.server.on("checkExpectation", (request, response) => app.server.emit("request", request, response));
  app.removeAllContentTypeParsers();
  // routes read bodies themselves, and Fastify would make an asynchronous resource for each that it lets through
  for (const method of withBodies) app.addHttpMethod(method, { hasBody: false, overrideExisting: true });
  const bursts = new RefusalBursts((error) => context.log.error("refusal_not_sent", { error: String(error) }));
  app.setErrorHandler((error, request, reply) => {
    const send = (): FastifyReply => sendError(error, request, reply, context.log);
    if (!comesInBursts(error)) return send();
    bursts.add(reply.raw, send);
    return undefined; // it is answered in this turn
  });
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split("?", 1)[0]!.slice(0, 256);
    return sendError(new SwitchyardError("not_found", `There is nothing at ${path}`), request, reply, context.log);
  });
  if (context.tracing) addTracing(app, context.tracing);
  addEveryRequest(app, context, requests);
  const endUnheard = unheardOf(app.server);
  const alone = new OwnDoor(app.server);
  const address = new WideAddress(app.server);
  addGuards(app, context.access);
  addInference(app, context);
  addModels(app, context);
  addJobs(app, context);
  addJobDetails(app, context);
  addDeadLetters(app, context);
  addOverview(app, context);
  addCluster(app, context);
  addModelUploads(app, context);
  addAliases(app, context);
  const load = async () => (await import("./mcp/server.ts")).served(context);
  addMcp(app, context, load, async () => {
    await address.close();
    await alone.close();
  });
  addToolServers(app, context);
  if (context.consoleFolder !== undefined) addConsole(app, context.consoleFolder);
  if (context.blobs) addBlobs(app, context, context.blobs);
  return {
    listen: (where) => address.listen(where, (one) => listen(app, one)),
    async listenAlone(file) {
      await app.ready();
      await alone.listen(file);
    },
    async quiet(mostMs) {
      const startedMs = clock.monotonicMs();
      for (let leftMs = quietMs; leftMs > 0; ) {
        await clock.sleep(leftMs);
        const nowMs = clock.monotonicMs();
        leftMs = Math.min(requests.lastMs + quietMs - nowMs, startedMs + mostMs - nowMs);
      }
    },
    endWaits: () => context.calls.endWaits(),
    endHeld: () => context.calls.endHeld(),
    close: () => {
      closing = true;
      context.calls.endWaits();
      clock.after(unheardMs, endUnheard);
      void address.close(); // what its connections need waits for it
      return app.close();
    },
  };
}

/**
 * Ends the connections on which nothing was ever asked, as browsers and clients open them in advance: to Node they are not idle, and each would hold a
 * server that closes until its headers are overdue.
 */
function unheardOf(server: Server): () => void {
  const open = new Set<Socket>();
  server.on("connection", (socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
  });
  // a turn later: what came while this process stood still is read by then
  return () =>
    void setImmediate(() => {
      for (const socket of open) if (socket.bytesRead === 0) socket.destroy();
    });
}

const noSchemas = (): never => {
  throw new Error("a route has a schema for Fastify, whose compilers are not loaded");
};

/** Our schemas are zod's; without this Fastify loads its own compilers of schemas for nothing. */
export const withoutSchemas = { compilersFactory: { buildValidator: noSchemas, buildSerializer: noSchemas } };

/** The client's own id if it is short and printable, else one of ours. */
export function requestIds(): (raw: { headers: IncomingMessage["headers"] }) => string {
  const prefix = randomBytes(6).toString("hex");
  let count = 0;
  return ({ headers }) => {
    const given = headers["x-request-id"];
    if (typeof given === "string" && /^[\x21-\x7e]{1,128}$/.test(given)) return given;
    count++;
    return `${prefix}-${count.toString(36)}`;
  };
}

function addEveryRequest(app: FastifyInstance, context: DoorContext, requests: { lastMs: number }): void {
  const { corsOrigins } = context.config;
  app.addHook("onRequest", (request, reply, done) => {
    reply.header("x-request-id", request.id);
    if (context.leaving() && !probes.has(request.routeOptions.url ?? "")) requests.lastMs = context.clock.monotonicMs();
    if (request.headers["content-type"] === "") delete request.headers["content-type"]; // as if absent, which is allowed
    done();
  });
  // behind the guards: who may not ask hears of that first
  app.addHook("preHandler", (request, _reply, done) => {
    const type = request.headers["content-type"];
    done(type !== undefined && withBodies.has(request.method) ? wrongMediaType(type) : undefined);
  });
  // Asked when the answer leaves, not when the request came: a held call outlives the start of the drain, and an idle connection
  // would keep the server from closing.
  app.addHook("onSend", (_request, reply, _payload, done) => {
    if (context.leaving()) reply.header("connection", "close");
    done();
  });
  if (context.access === openAccess) refuseForeignPages(app, { origins: corsOrigins, probes });
  if (corsOrigins.length > 0) addCors(app, corsOrigins);
  const { metrics, tracing } = context;
  onEnd(app, context.clock, (request, end) => {
    const count = (): void => metrics.httpAnswered(request.routeOptions.url ?? "none", request.method, end.status, end.seconds);
    if (tracing) tracing.during(request.span?.context, count);
    else count();
    endSpan(request, end);
  });
}

const readableHeaders =
  "WWW-Authenticate, ETag, Location, Retry-After, Preference-Applied, Idempotent-Replayed, Cache-Status, Inference-Header-Content-Length, Mcp-Session-Id, X-Request-Id, x-switchyard-error, x-switchyard-job";

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

export async function listen(app: FastifyInstance, where: Where): Promise<Place> {
  try {
    await app.listen(listenOptions(where));
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    throw cannotListen(where, code, error) ?? error;
  }
  const address = app.server.address();
  return { host: where.host, port: typeof address === "object" && address !== null ? address.port : where.port };
}
