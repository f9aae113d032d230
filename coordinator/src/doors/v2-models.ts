/** Everything of /v2 but the inference itself: server and model metadata, health, configuration, repository index. */

import { SwitchyardError, type TensorSignature } from "@switchyard/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { mayUse } from "../application/caller.ts";
import type { ModelStatus } from "../ports/model-registry.ts";
import { sendJson } from "./answers.ts";
import type { DoorContext } from "./door-context.ts";
import { callerOf } from "./guard.ts";
import { readBody } from "./request-body.ts";
import { addRoute, addUnbuilt, type Handler } from "./routes.ts";
import { type ModelPath, versionIn } from "./v2-inference.ts";

/** Only what is served whole: clients switch features on by this list. */
const extensions = ["binary_tensor_data", "classification", "model_configuration", "schedule_policy", "parameters"];

const maxIndexBodyBytes = 65_536;

export function addModels(app: FastifyInstance, context: DoorContext): void {
  addRoute(app, "/v2", { GET: (request, reply) => sendJson(request, reply, { name: "switchyard", version: context.version, extensions }) });
  addRoute(app, "/v2/health/live", { GET: (request, reply) => sendJson(request, reply, { live: true }) });
  addRoute(app, "/v2/health/ready", {
    GET: (request, reply) => {
      const ready = isReady(context);
      return sendJson(request, reply.code(ready ? 200 : 400), { ready });
    },
  });
  addModelRoute(app, "", (status, request) => metadata(status, context, (request.params as ModelPath).version !== undefined), context);
  addModelRoute(app, "/config", configuration, context);
  addReadiness(app, context);
  const index: Handler = (request, reply) => answerIndex(context, request, reply);
  addRoute(app, "/v2/repository/index", { POST: index });
  addRoute(app, "/v2/repository/:repository/index", { POST: index });
  for (const action of ["load", "unload"]) addUnbuilt(app, `/v2/repository/models/:model/${action}`, `Model ${action} by request`);
  for (const url of ["/v2/models/stats", "/v2/models/:model/stats", "/v2/models/:model/versions/:version/stats"]) {
    addUnbuilt(app, url, "The statistics extension");
  }
}

/** Whether at least one model can be served. */
function isReady(context: DoorContext): boolean {
  if (context.draining() || context.jobs.unready().length > 0) return false;
  return context.models.list().some((status) => canServe(status, context));
}

/** A live host holds it or may load it. */
function canServe(status: ModelStatus, context: DoorContext): boolean {
  return status.state === "ready" || (status.state === "available" && context.hosts.matching(status.version.tag) > 0);
}

function addModelRoute(
  app: FastifyInstance,
  suffix: string,
  answer: (status: ModelStatus, request: FastifyRequest) => unknown,
  context: DoorContext,
): void {
  const handler: Handler = (request, reply) => {
    const path = request.params as ModelPath;
    const status = context.models.resolve(path.model, versionIn(path));
    if (status.state === "failed") {
      throw new SwitchyardError(
        "model_failed",
        `'${path.model}' version ${status.version.version} failed to load: ${status.reason ?? "no reason known"}`,
      );
    }
    return sendJson(request, reply, answer(status, request));
  };
  addRoute(app, `/v2/models/:model${suffix}`, { GET: handler });
  addRoute(app, `/v2/models/:model/versions/:version${suffix}`, { GET: handler });
}

function addReadiness(app: FastifyInstance, context: DoorContext): void {
  const handler: Handler = (request, reply) => {
    const path = request.params as ModelPath;
    const status = context.models.resolve(path.model, versionIn(path));
    const ready = !context.draining() && canServe(status, context);
    return sendJson(request, reply.code(ready ? 200 : 400), { name: path.model, ready });
  };
  addRoute(app, "/v2/models/:model/ready", { GET: handler });
  addRoute(app, "/v2/models/:model/versions/:version/ready", { GET: handler });
}

function metadata(status: ModelStatus, context: DoorContext, oneVersion: boolean): unknown {
  const { model, version, signature } = status.version;
  const served = context.models.versions(model).filter((other) => other.state !== "failed");
  const versions = oneVersion ? [String(version)] : served.map((other) => String(other.version.version)).reverse();
  return {
    name: model,
    versions,
    platform: "onnxruntime_onnx",
    inputs: signature.inputs.map(tensorView),
    outputs: signature.outputs.map(tensorView),
  };
}

export function tensorView({ name, datatype, shape }: TensorSignature) {
  return { name, datatype, shape };
}

/** The configuration in the words of model servers that use protobuf text: `dims` leave out the batch axis when there is one. */
function configuration(status: ModelStatus): unknown {
  const { model, version, signature, config } = status.version;
  // Until a host has loaded the model its own word counts: clients keep this answer, and build their requests on it.
  const batchItems = status.batching?.maxItems ?? config.max_batch_items ?? 1;
  const batched = batchItems > 1;
  const tensor = ({ name, datatype, shape }: TensorSignature) => ({
    name,
    data_type: `TYPE_${datatype === "BYTES" ? "STRING" : datatype}`,
    dims: batched ? shape.slice(1) : shape,
  });
  const onGpu = config.require?.providers?.some((provider) => provider !== "cpu") ?? false;
  return {
    name: model,
    platform: "onnxruntime_onnx",
    backend: "onnxruntime",
    version_policy: { specific: { versions: [version] } },
    max_batch_size: batched ? batchItems : 0,
    input: signature.inputs.map(tensor),
    output: signature.outputs.map((output) => {
      const labels = config.outputs?.[output.name]?.labels;
      return { ...tensor(output), ...(labels !== undefined && { label_filename: labels }) };
    }),
    instance_group: [{ kind: onGpu ? "KIND_GPU" : "KIND_CPU", count: Math.max(1, status.warmOn.length) }],
    ...(batched && {
      dynamic_batching: { preferred_batch_size: [batchItems], max_queue_delay_microseconds: Math.round((config.max_delay_ms ?? 0) * 1000) },
    }),
    ...(config.cache !== undefined && { response_cache: { enable: true } }),
    model_transaction_policy: { decoupled: false },
  };
}

async function answerIndex(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const onlyReady = readyFlag(await readBody(request.raw, { maxBytes: maxIndexBodyBytes }));
  const caller = callerOf(request);
  const listed = context.models.list().filter(({ version }) => mayUse(caller, version.model));
  const entries = listed.map((status) => ({
    name: status.version.model,
    version: String(status.version.version),
    state: status.state === "failed" ? "UNAVAILABLE" : "READY",
    reason: status.state === "failed" ? (status.reason ?? "failed to load") : "",
  }));
  return sendJson(request, reply, onlyReady ? entries.filter((entry) => entry.state === "READY") : entries);
}

function readyFlag(body: Buffer): boolean {
  if (body.length === 0) return false;
  let value: unknown;
  try {
    value = JSON.parse(body.toString("utf8"));
  } catch {
    throw new SwitchyardError("invalid_request", "The body is not valid JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new SwitchyardError("invalid_request", "The body must be a JSON object");
  const { ready = false } = value as { ready?: unknown };
  if (typeof ready !== "boolean") throw new SwitchyardError("invalid_request", "Invalid value for 'ready': it must be true or false");
  return ready;
}
