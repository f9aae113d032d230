/** Registers one path with all its methods behind their guards, so that HEAD and OPTIONS work and other methods get 405 with Allow. */

import { SwitchyardError } from "@switchyard/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { guardOf } from "./guard.ts";
import { accessOf } from "./route-access.ts";

export type Handler = (request: FastifyRequest, reply: FastifyReply) => FastifyReply | Promise<FastifyReply | undefined>;

const methods = ["GET", "POST", "PUT", "PATCH", "DELETE"] as const;
type Method = (typeof methods)[number];

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
  app.route({ method: "OPTIONS", url, handler: (_request, reply) => reply.header("allow", allow).code(204).send() });
  const others = [...methods.filter((method) => handlers[method] === undefined), ...(handlers.GET === undefined ? ["HEAD"] : [])];
  if (others.length > 0) {
    app.route({
      method: others,
      url,
      handler: (request, reply) => {
        reply.header("allow", allow);
        throw new SwitchyardError("method_not_allowed", `${request.method} is not allowed here; allowed are ${allow}`);
      },
    });
  }
}

/** Paths of the contract that are not built yet: 501 for every method. */
export function addUnbuilt(app: FastifyInstance, url: string, what: string): void {
  const handler: Handler = () => {
    throw new SwitchyardError("unsupported", `${what} is not supported by this version`);
  };
  app.route({ method: [...methods, "HEAD"], url, handler, ...guarded(app, "*", url) });
}

function guarded(app: FastifyInstance, method: Method | "*", url: string) {
  const guard = guardOf(app, accessOf(method, url));
  return guard === undefined ? {} : { onRequest: guard };
}
