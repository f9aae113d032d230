/** More of jobs: /v1/jobs/{id}/timeline, /log, /sizes and /inputs, and the cancellation of all that a filter names. */

import { type BulkView, type InputsView, jsonFromTensor, type SizesView, SwitchyardError, type Tensor } from "@switchyard/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { jobLogOf } from "../application/job-log.ts";
import type { JobInput } from "../application/job-service.ts";
import { timelineOf } from "../application/job-timeline.ts";
import { sendJson, sendJsonBytes } from "./answers.ts";
import type { DoorContext } from "./door-context.ts";
import { callerOf } from "./guard.ts";
import { filterFrom, jobFilters, linksOf } from "./job-filters.ts";
import { flagOf } from "./request-options.ts";
import { addRoute } from "./routes.ts";

const maxInlineBytes = 1_048_576;

export function addJobDetails(app: FastifyInstance, context: DoorContext): void {
  addRoute(app, "/v1/jobs/:id/timeline", {
    GET: async (request, reply) => {
      const history = await context.jobs.history((request.params as { id: string }).id, callerOf(request));
      return sendJson(request, reply.header("cache-control", "no-store"), timelineOf(history, callerOf(request)));
    },
  });
  addRoute(app, "/v1/jobs/:id/log", {
    GET: async (request, reply) => {
      const history = await context.jobs.history((request.params as { id: string }).id, callerOf(request));
      return sendJson(request, reply.header("cache-control", "no-store"), jobLogOf(history, callerOf(request)));
    },
  });
  addRoute(app, "/v1/jobs/:id/sizes", {
    GET: async (request, reply) => {
      const { id } = request.params as { id: string };
      const { inputs, outputs } = await context.jobs.sizes(id, callerOf(request));
      const view: SizesView = { id };
      if (inputs !== undefined) view.inputs_bytes = inputs;
      if (outputs !== undefined) view.outputs_bytes = outputs;
      return sendJson(request, reply.header("cache-control", "no-store"), view);
    },
  });
  addRoute(app, "/v1/jobs/:id/inputs", {
    GET: async (request, reply) => {
      const { id } = request.params as { id: string };
      const inputs = await context.jobs.inputs(id, callerOf(request), { maxBytes: maxInlineBytes });
      return sendJsonBytes(request, reply.header("cache-control", "no-store"), inputsView(id, inputs));
    },
  });
  addRoute(app, "/v1/jobs::cancel", { POST: (request, reply) => answerCancelAll(context, request, reply) });
}

async function answerCancelAll(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { dry_run: _, ...query } = request.query as Record<string, unknown>;
  const dryRun = flagOf(request.query, "dry_run");
  const filter = filterFrom(query, jobFilters);
  const { matched, cancelled, cursor } = await context.jobs.cancelListed(filter, callerOf(request), { dryRun });
  const view: BulkView = { dry_run: dryRun, matched, changed: cancelled, links: linksOf(request, cursor) };
  return sendJson(request, reply.header("cache-control", "no-store"), view);
}

/** Tensors as text of their own making: numbers beyond 2^53 would not survive a parse. */
function inputsView(id: string, inputs: readonly JobInput[]): Buffer {
  const items = inputs.map(({ datatype, name, shape, sizeBytes, tensor }) => {
    const facts: InputsView["inputs"][number] = { name, datatype, shape: [...shape], size_bytes: sizeBytes };
    const data = tensor && dataText(tensor);
    const text = JSON.stringify(facts);
    return data === undefined ? text : `${text.slice(0, -1)},"data":${data}}`;
  });
  return Buffer.from(`{"id":${JSON.stringify(id)},"inputs":[${items.join(",")}]}`);
}

/** Undefined when a value has no JSON form. */
function dataText(tensor: Tensor): string | undefined {
  try {
    return jsonFromTensor(tensor, "/inputs");
  } catch (error) {
    if (error instanceof SwitchyardError && error.code === "invalid_request") return undefined;
    throw error;
  }
}
