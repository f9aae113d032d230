/**
 * The web console at `/`: the files that its build left, and nothing else. It has no rights of its own: it calls the same interface as
 * everybody, with the key that its user gives it. Its policy lets a page load and ask nothing but this server.
 */

import fastifyStatic from "@fastify/static";
import type { FastifyInstance, FastifyReply } from "fastify";
import { addRoute } from "./routes.ts";

const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data: blob:",
  "connect-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");

/** Assets carry their content's hash in their names: the same name is the same content for ever. */
const assetsLiveMs = 365 * 24 * 3_600_000;

export function addConsole(app: FastifyInstance, folder: string): void {
  app.register(fastifyStatic, { root: folder, serve: false, preCompressed: true, cacheControl: false });
  addRoute(app, "/", {
    // asked anew each time, so that a new version is seen at once
    GET: (_request, reply) => guarded(reply).header("cache-control", "no-cache").sendFile("index.html"),
  });
  addRoute(app, "/assets/*", {
    GET: (request, reply) => {
      const { "*": name } = request.params as { "*": string };
      return guarded(reply).sendFile(`assets/${name}`, { cacheControl: true, maxAge: assetsLiveMs, immutable: true });
    },
  });
}

function guarded(reply: FastifyReply): FastifyReply {
  return reply.headers({
    "content-security-policy": policy,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
  });
}
