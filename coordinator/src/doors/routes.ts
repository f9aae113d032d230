/** Registers one path with all its methods behind their guards, so that HEAD and OPTIONS work and other methods get 405 with Allow. */

import { SwitchyardError } from "@switchyard/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { guardOf } from "./guard.ts";
import { accessOf } from "./route-access.ts";

export type Handler = (request: FastifyRequest, reply: FastifyReply) => FastifyReply | Promise<FastifyReply | undefined>;

const methods = ["GET", "POST", "PUT", "PATCH", "DELETE"] as const;
type Method = (typeof methods)[number];
/** What no route has, and clients may still try. */
const neverAllowed = ["TRACE", "QUERY"] as const;

export function addRoute(app: FastifyInstance, url: string, handlers: Partial<Record<Method, Handler>>): void {
  const allowed: string[] = methods.filter((method) => handlers[method] !== undefined);
  if (handlers.GET !== undefined) allowed.push("HEAD");
  allowed.push("OPTIONS");
  const allow = allowed.join(", ");
  for (const method of methods) {
    const handler = handlers[method];
    if (handler === undefined) continue;
    app.route({ method: method === "GET" ? ["GET", "HEAD"] : method, url, handler, ...guarded(app, method, url) });
  }
  addOptions(app, url, allow);
  const others = methods.filter((method) => handlers[method] === undefined);
  app.route({
    method: [...others, ...(handlers.GET === undefined ? ["HEAD"] : []), ...neverAllowed],
    url,
    handler: (request, reply) => {
      reply.header("allow", allow);
      throw new SwitchyardError("method_not_allowed", `${request.method} is not allowed here; allowed are ${allow}`);
    },
  });
}

/** Asked by browsers before a page of another origin may ask anything else: without it the page would never see the answer, be it a failure. */
function addOptions(app: FastifyInstance, url: string, allow: string): void {
  app.route({ method: "OPTIONS", url, handler: (_request, reply) => reply.header("allow", allow).code(204).send() });
}

/** Paths of the contract that are not built yet: 501 for every method but OPTIONS, which says nothing of what a path does. */
export function addUnbuilt(app: FastifyInstance, url: string, what: string): void {
  const handler: Handler = () => {
    throw new SwitchyardError("unsupported", `${what} is not supported by this version`);
  };
  const answered = [...methods, "HEAD"];
  app.route({ method: [...answered, ...neverAllowed], url, handler, ...guarded(app, "*", url) });
  addOptions(app, url, [...answered, "OPTIONS"].join(", "));
}

function guarded(app: FastifyInstance, method: Method | "*", url: string) {
  const guard = guardOf(app, accessOf(method, url));
  return guard === undefined ? {} : { onRequest: guard };
}
