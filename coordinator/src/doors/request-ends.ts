/** The end of each request, be it that its answer was sent or that its client did not wait for it: Fastify's onResponse hears only of the first. */

import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Clock } from "../clock.ts";

/** As nginx has it: the client had gone before any answer began. */
const clientGone = 499;

export interface RequestEnd {
  /** What the client was sent; 499 when that was nothing. */
  status: number;
  /** Whether the client went away before it had the whole answer, as every reader of a stream of events does. */
  isGone: boolean;
  seconds: number;
}

/** Calls `heard` once for each request. */
export function onEnd(
  app: FastifyInstance,
  clock: Pick<Clock, "monotonicMs">,
  heard: (request: FastifyRequest, end: RequestEnd) => void,
): void {
  app.addHook("onRequest", (request, { raw }, done) => {
    const startMs = clock.monotonicMs();
    raw.once("close", () => {
      const status = raw.headersSent ? raw.statusCode : clientGone;
      heard(request, { status, isGone: !raw.writableFinished, seconds: (clock.monotonicMs() - startMs) / 1000 });
    });
    done();
  });
}
