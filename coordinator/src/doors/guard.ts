/** What stands before a route: finds out who asks, and refuses those who may not, before any of the body is read. */

import { SwitchyardError } from "@switchyard/protocol";
import type { Scope } from "@switchyard/protocol/api-keys";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Access } from "../application/access.ts";
import { type Caller, mayStill, requireModel, requireScope } from "../application/caller.ts";
import type { RouteAccess } from "./route-access.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Set by the guard of the route; null where everybody may ask. */
    caller: Caller | null;
  }
  interface FastifyInstance {
    access: Access;
  }
}

type Guard = (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) => void;

/** Makes `access` what the guards of this server's routes ask. */
export function addGuards(app: FastifyInstance, access: Access): void {
  app.decorate("access", access);
  app.decorateRequest("caller", null);
}

/** Undefined where nobody is kept out. */
export function guardOf(app: FastifyInstance, route: RouteAccess): Guard | undefined {
  if (route === "open") return undefined;
  const { access } = app;
  if (route === "hosts") {
    return (request, reply, done) => {
      access.requireHost(request.headers.authorization).then(
        () => done(),
        (error: Error) => done(withChallenge(reply, error)),
      );
    };
  }
  return (request, reply, done) => {
    try {
      const { model } = request.params as { model?: string };
      request.caller = callerFor(access, route, { authorization: request.headers.authorization, model });
    } catch (error) {
      return done(withChallenge(reply, error as Error));
    }
    done();
  };
}

/** Who asks, of a route that needs one of `scopes`. Throws `unauthenticated`, or `forbidden` for the route or the model. */
export function callerFor(
  access: Access,
  scopes: readonly Scope[],
  asked: { authorization: string | undefined; model?: string | undefined },
): Caller {
  const caller = access.callerOf(asked.authorization);
  requireScope(caller, scopes);
  if (asked.model !== undefined) requireModel(caller, asked.model);
  return caller;
}

/** Who asks. Only for handlers of guarded routes. */
export function callerOf(request: FastifyRequest): Caller {
  if (request.caller === null) throw new Error(`${request.url}: its route has no guard`);
  return request.caller;
}

/** Whether the credential of a call that goes on for long is still good: keys are revoked and expire meanwhile. */
export function isStillAllowed(request: FastifyRequest): boolean {
  try {
    return mayStill(callerOf(request), request.server.access.callerOf(request.headers.authorization));
  } catch (error) {
    if (error instanceof SwitchyardError) return false;
    throw error;
  }
}

/** RFC 6750: what a client is to present. */
function withChallenge(reply: FastifyReply, error: Error): Error {
  if (!(error instanceof SwitchyardError)) return error;
  const missing = error.facts.extra?.missing as readonly string[] | undefined;
  if (error.code === "unauthenticated") {
    const hasPresented = reply.request.headers.authorization !== undefined;
    reply.header("www-authenticate", `Bearer realm="switchyard"${hasPresented ? ', error="invalid_token"' : ""}`);
  } else if (error.code === "forbidden" && missing !== undefined) {
    reply.header("www-authenticate", `Bearer realm="switchyard", error="insufficient_scope", scope="${missing.join(" ")}"`);
  }
  return error;
}
