/** /v1/dead-letters: list, submit again by filter, discard. One by one they are submitted again by /v1/jobs/{id}/retry. */

import { type RequeuedView, SwitchyardError } from "@switchyard/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Requeued } from "../application/job-service.ts";
import type { JobListFilter } from "../ports/job-store.ts";
import { sendJson } from "./answers.ts";
import type { DoorContext } from "./door-context.ts";
import { callerOf } from "./guard.ts";
import { deadLetterFilters, filterFrom, linksOf } from "./job-filters.ts";
import { toDeadLetterView } from "./job-view.ts";
import { flagOf } from "./request-options.ts";
import { addRoute } from "./routes.ts";

export function addDeadLetters(app: FastifyInstance, context: DoorContext): void {
  addRoute(app, "/v1/dead-letters", { GET: (request, reply) => answerList(context, request, reply) });
  addRoute(app, "/v1/dead-letters::requeue", { POST: (request, reply) => answerRequeue(context, request, reply) });
  addRoute(app, "/v1/dead-letters/:id", { DELETE: (request, reply) => answerDiscard(context, request, reply) });
}

async function answerList(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const caller = callerOf(request);
  const { letters, cursor } = await context.deadLetters.list(filterFrom(queryOf(request), deadLetterFilters), caller);
  const items = letters.map((letter) => toDeadLetterView(letter, caller));
  return sendJson(request, reply.header("cache-control", "no-store"), { items, links: linksOf(request, cursor) });
}

async function answerRequeue(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  if (context.draining()) throw new SwitchyardError("draining", "This coordinator is shutting down; ask another one");
  const { dry_run: _, ...query } = queryOf(request);
  const filter = filterFrom(query, deadLetterFilters);
  if (flagOf(queryOf(request), "dry_run")) return answerDryRun(context, { request, reply }, filter);
  const { requeued, cursor } = await context.deadLetters.requeue(filter, callerOf(request));
  const items = requeued.map(toItem);
  const refused = items.filter(({ error }) => error !== undefined).length;
  const view: RequeuedView = { requeued: items.length - refused, refused, items, links: linksOf(request, cursor) };
  return sendJson(request, reply.header("cache-control", "no-store"), view);
}

/** Those whose inputs are gone would be refused. */
async function answerDryRun(
  context: DoorContext,
  { request, reply }: { request: FastifyRequest; reply: FastifyReply },
  filter: JobListFilter,
): Promise<FastifyReply> {
  const { letters, cursor } = await context.deadLetters.list(filter, callerOf(request));
  const items = letters.map(({ record }) => ({ id: record.id }));
  const kept = letters.filter(({ inputsKept }) => inputsKept).length;
  const view: RequeuedView = { dry_run: true, requeued: kept, refused: items.length - kept, items, links: linksOf(request, cursor) };
  return sendJson(request, reply.header("cache-control", "no-store"), view);
}

function toItem(one: Requeued): RequeuedView["items"][number] {
  if ("retriedAs" in one) return { id: one.id, retried_as: one.retriedAs };
  const { code, message, retryable } = one.refused;
  return { id: one.id, error: { code, detail: message, retryable } };
}

async function answerDiscard(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const caller = callerOf(request);
  const letter = await context.deadLetters.discard((request.params as { id: string }).id, caller);
  return sendJson(request, reply.header("cache-control", "no-store"), toDeadLetterView(letter, caller));
}

function queryOf(request: FastifyRequest): Record<string, unknown> {
  return request.query as Record<string, unknown>;
}
