/** /v1/overview, as a page and as a stream, /v1/queues, and /v1/caller: what a console begins with. */

import type { CallerView } from "@switchyard/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { sendJson } from "./answers.ts";
import type { DoorContext } from "./door-context.ts";
import { answerStream, type EventStream, keepAliveMs } from "./event-stream.ts";
import { callerOf } from "./guard.ts";
import { headerOf } from "./request-options.ts";
import { addRoute } from "./routes.ts";

/** What is now changes sooner than slots end; nothing is sent while nothing has changed. */
const lookEveryMs = 1_000;

export function addOverview(app: FastifyInstance, context: DoorContext): void {
  const { overview } = context;
  const fresh = (reply: FastifyReply): FastifyReply => reply.header("cache-control", "no-store");
  addRoute(app, "/v1/caller", {
    GET: (request, reply) => {
      const { keyId, models, scopes, tenant } = callerOf(request);
      const view: CallerView = { tenant, scopes: [...scopes] };
      if (keyId !== undefined) view.key_id = keyId;
      if (models !== undefined) view.models = [...models];
      return sendJson(request, fresh(reply), view);
    },
  });
  addRoute(app, "/v1/overview", {
    GET: async (request, reply) => sendJson(request, fresh(reply), (await overview.view(callerOf(request))).view),
  });
  addRoute(app, "/v1/overview/events", {
    GET: async (request, reply) => {
      const close = context.streams.open(callerOf(request));
      try {
        const tell = (events: EventStream) => stream(context, { request, events, afterSlot: lastSeen(request) });
        return await answerStream(context, { request, reply }, tell);
      } finally {
        close();
      }
    },
  });
  addRoute(app, "/v1/queues", {
    GET: async (request, reply) => sendJson(request, fresh(reply), { items: await overview.queues(callerOf(request)), links: {} }),
  });
}

/** The last slot that a reader has had; it misses none, and gets none twice. */
function lastSeen(request: FastifyRequest): number {
  const text = headerOf(request.headers, "last-event-id") ?? "";
  return /^\d{1,15}$/.test(text) ? Number(text) : 0;
}

async function stream(
  { clock, overview }: DoorContext,
  from: { request: FastifyRequest; events: EventStream; afterSlot: number },
): Promise<void> {
  const { request, events } = from;
  let { afterSlot } = from;
  let told = "";
  let quietMs = 0;
  while (!events.isOver()) {
    const { view, lastSlot } = await overview.view(callerOf(request), afterSlot);
    const now = JSON.stringify(view.now);
    if (lastSlot > afterSlot || now !== told) {
      events.send({ id: lastSlot, event: "overview", data: JSON.stringify(view) });
      [afterSlot, told, quietMs] = [lastSlot, now, 0];
    } else if (quietMs >= keepAliveMs) {
      events.keepAlive();
      quietMs = 0;
    }
    await clock.sleep(lookEveryMs, events.signal);
    quietMs += lookEveryMs;
  }
}
