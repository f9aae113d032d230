/** Everything of the inference service but inference: health, metadata, configuration, statistics, the repository. The views are those of HTTP. */

import { SwitchyardError } from "@switchyard/protocol";
import type { ModelStatus } from "../ports/model-registry.ts";
import type { DoorContext } from "./door-context.ts";
import type { GrpcCall, UnaryAnswer, UnaryHandler } from "./grpc-calls.ts";
import type { Messages } from "./grpc-codecs.ts";
import {
  canServe,
  isReady,
  modelConfiguration,
  modelMetadata,
  modelStatistics,
  mustBeServed,
  repositoryIndex,
  serverMetadata,
} from "./model-views.ts";
import type { MethodName } from "./route-access.ts";
import { versionIn } from "./v2-inference.ts";
import { checkUnload, controlOf, loadRequestIn } from "./v2-model-control.ts";

/** Fields as the .proto file names them. */
type Fields = Record<string, unknown>;
type Answer = (request: Fields, call: GrpcCall) => object | Promise<object>;

export function modelHandlers(context: DoorContext): Partial<Record<MethodName, UnaryHandler>> {
  const answers: Partial<Record<MethodName, Answer>> = {
    ServerLive: () => ({ live: true }),
    ServerReady: () => ({ ready: isReady(context) }),
    ServerMetadata(_request, call) {
      call.callerFor();
      return serverMetadata(context);
    },
    ModelReady: (request, call) => ({ ready: isModelReady(context, request, call) }),
    ModelMetadata: (request, call) => modelMetadata(statusOf(context, request, call), context, request.version !== "") as object,
    ModelConfig: (request, call) => ({ config: modelConfiguration(statusOf(context, request, call)) }),
    ModelStatistics: (request, call) => statistics(context, request, call),
    RepositoryIndex: (request, call) => ({ models: repositoryIndex(context, call.callerFor(), request.ready === true) }),
    RepositoryModelLoad: (request, call) => load(context, request, call),
    RepositoryModelUnload: (request, call) => unload(context, request, call),
  };
  const handlers = Object.entries(answers).map(([name, answer]) => [name, inMessages(name as MethodName, answer)]);
  return Object.fromEntries(handlers);
}

/** A handler of plain objects as one of messages. */
export function inMessages(method: MethodName, answer: Answer): UnaryHandler {
  return async (message, call): Promise<UnaryAnswer> => {
    const messages = await codecOf(method);
    return { message: messages.write(await answer(readFields(method, messages, message), call)) };
  };
}

/** The library that knows the .proto files is loaded with the first call that needs it. */
export async function codecOf(method: MethodName): Promise<Messages> {
  return (await import("./grpc-codecs.ts")).messagesOf(method);
}

export function readFields(method: string, messages: Messages, message: Buffer): Fields {
  try {
    return messages.read(message);
  } catch (error) {
    throw new SwitchyardError("invalid_request", `The message is no ${method}Request: ${(error as Error).message}`);
  }
}

/** The version that was named, or the one that most requests without a name get. Throws `model_not_found`, `version_not_found`, and what `mustBeServed` throws. */
const statusOf = (context: DoorContext, request: Fields, call: GrpcCall): ModelStatus => mustBeServed(resolved(context, request, call));

function resolved(context: DoorContext, { name, version }: Fields, call: GrpcCall): ModelStatus {
  const model = String(name);
  call.callerFor(model);
  return context.models.usual(model, versionIn(version === "" ? { model } : { model, version: String(version) }));
}

/** Clients take a model that is not there for one that is not ready, and no error for an answer. */
function isModelReady(context: DoorContext, request: Fields, call: GrpcCall): boolean {
  try {
    return canServe(resolved(context, request, call), context) && !context.leaving();
  } catch (error) {
    const isUnknown = error instanceof SwitchyardError && (error.code === "model_not_found" || error.code === "version_not_found");
    if (isUnknown) return false;
    throw error;
  }
}

/** `{model_stats: […]}`: what HTTP answers, whose names are those of the message. */
async function statistics(context: DoorContext, { name, version }: Fields, call: GrpcCall): Promise<object> {
  const model = name === "" ? undefined : String(name);
  const caller = call.callerFor(model);
  const asked = model === undefined || version === "" ? { model } : { model, version: versionIn({ model, version: String(version) }) };
  return modelStatistics(await context.statistics.of(asked, caller));
}

async function load(context: DoorContext, { model_name: name, parameters }: Fields, call: GrpcCall): Promise<object> {
  const caller = call.callerFor(String(name));
  const waiting = context.calls.waiting(call.line);
  try {
    await controlOf(context).load(String(name), loadRequestIn(parametersIn(parameters)), caller, waiting.signal);
  } finally {
    waiting.end();
  }
  return {};
}

async function unload(context: DoorContext, { model_name: name, parameters }: Fields, call: GrpcCall): Promise<object> {
  call.callerFor(String(name));
  checkUnload(parametersIn(parameters));
  await controlOf(context).unload(String(name));
  return {};
}

/** Each parameter is one of several fields. */
function parametersIn(parameters: unknown): Record<string, unknown> {
  const given = Object.entries((parameters ?? {}) as Record<string, Fields>);
  return Object.fromEntries(given.map(([name, choice]) => [name, choice[String(choice.parameter_choice)]]));
}
