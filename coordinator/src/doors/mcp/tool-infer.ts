/** `infer` and the tools of single models: one inference, held until its outcome, or handed out as a task where it takes long. */

import type { Tool } from "@modelcontextprotocol/server";
import { type ErrorCode, type InferRequest, isTerminal, type ModelVersion, SwitchyardError } from "@switchyard/protocol";
import { requireModel } from "../../application/caller.ts";
import type { Submission } from "../../application/job-service.ts";
import { cachedHow } from "../../application/new-record.ts";
import type { ModelStatus } from "../../ports/model-registry.ts";
import { holdInference, nameVersion, type VersionName } from "../held-inference.ts";
import { badRequest } from "../request-options.ts";
import { argumentCheck } from "./argument-check.ts";
import { isTask, type KeyedRequest, keyArgument, keyOf, modelArguments, taskArgument, timeoutArgument, timeoutOf } from "./call-terms.ts";
import { endedResult } from "./job-results.ts";
import { createdTask } from "./job-tasks.ts";
import { completeInputs } from "./missing-inputs.ts";
import { refuseDrift, servedModels, signatureMeta, toolNameOf } from "./model-tools.ts";
import { requestOf } from "./tensor-arguments.ts";
import { answerOf, linkTo, resultOf } from "./tensor-results.ts";
import { inputsSchema, resultSchema } from "./tensor-schemas.ts";
import { schemaOf, type ToolAnswer, type ToolCall, type ToolHandler } from "./tool.ts";

/** What may be said of every inference: it changes nothing, and again it answers the same. */
export const inferenceHints = { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false } as const;

const someInputs = {
  type: "object",
  description: "by input name: nested arrays, or files as the model's own tool and models_search say",
} as const;
const terms = { ...timeoutArgument, ...keyArgument, ...taskArgument };

const inferProperties = { ...modelArguments, inputs: someInputs, ...terms };
const checkInfer = argumentCheck(schemaOf(inferProperties, []));

export const inferTool: ToolHandler = {
  definition: {
    name: "infer",
    title: "Run a model",
    description:
      "Runs any model of the cluster once and answers its outputs. models_search says which models there are and what they take.",
    inputSchema: schemaOf(inferProperties, ["model", "inputs"]),
    outputSchema: resultSchema() as Tool["outputSchema"],
    annotations: { title: "Run a model", ...inferenceHints },
  },
  scopes: ["submit"],
  async call(call) {
    checkInfer(call.args);
    const chosen = await chosenModel(call);
    if ("question" in chosen) return chosen.question;
    const { model } = chosen;
    const version = call.args.version as VersionName;
    return orEarlier(call, { model, version, inputs: call.args.inputs ?? {} }, () => infer(call, model, version));
  },
};

const modelProperties = { inputs: { type: "object" }, ...terms };
const checkModel = argumentCheck(schemaOf(modelProperties, []));

/** The tool of one model, as the version is that serves its calls now. */
export function modelTool(status: ModelStatus): ToolHandler {
  const { version } = status;
  const title = `Run ${version.model}`;
  return {
    // made when it is listed: calls do without
    get definition(): Tool {
      return {
        name: toolNameOf(version.model),
        title,
        description: `Runs the model ${version.model} once on the cluster and answers its outputs${classesText(version)}.`,
        inputSchema: schemaOf({ inputs: inputsSchema(version), ...terms }, ["inputs"]),
        outputSchema: resultSchema(version) as Tool["outputSchema"],
        annotations: { title, ...inferenceHints },
        _meta: signatureMeta(version),
      };
    },
    scopes: ["submit"],
    async call(call) {
      checkModel(call.args);
      return infer(call, version.model, undefined);
    },
  };
}

/** Some of the class names say what a model is about. */
function classesText({ labels = {} }: ModelVersion): string {
  const [names] = Object.values(labels);
  if (names === undefined) return "";
  return ` and the class of each item, one of ${names.length}: ${names.slice(0, mostNamedClasses).join(", ")}${names.length > mostNamedClasses ? ", …" : ""}`;
}

const mostNamedClasses = 10;

/** The model that the call names, else the one that its user chooses. Throws `invalid_request` where nobody can be asked. */
export async function chosenModel(call: ToolCall): Promise<{ model: string } | { question: ToolAnswer }> {
  const { args, caller, context, questions } = call;
  if (args.model !== undefined) return { model: args.model as string };
  const about = `${call.name} model`;
  const answered = questions.answers(about)?.model;
  if (typeof answered === "string") return { model: answered };
  const names = servedModels(context.models.list(), caller).slice(0, mostChoices);
  const model = { title: "Model", description: "which model to run", type: "string", ...(names.length > 0 && { enum: names }) } as const;
  const question = await questions.ask(about, "Which model is to run?", { model });
  if (question !== undefined) return { question };
  throw badRequest("/model", `the name of a model, such as ${names.slice(0, 8).join(", ") || "models_search finds"}`, "nothing");
}

const mostChoices = 50;

/** What the work answers; where it cannot be done any more, but was under this key, what it came to then: that needs neither model nor inputs. */
async function orEarlier(call: ToolCall, of: KeyedRequest, work: () => Promise<ToolAnswer>): Promise<ToolAnswer> {
  try {
    return await work();
  } catch (error) {
    const idempotency = keyOf(call, of);
    if (idempotency === undefined || !(error instanceof SwitchyardError) || !aboutRequest.has(error.code)) throw error;
    const record = await call.context.jobs.earlier(idempotency, call.caller);
    if (record === undefined || !isTerminal(record.state)) throw error;
    const answer = await endedResult(call.context, record);
    return { ...answer, _meta: { ...answer._meta, "switchyard/replayed": true } };
  }
}

/** What is found before the key is asked. */
const aboutRequest: ReadonlySet<ErrorCode> = new Set(["model_not_found", "version_not_found", "signature_mismatch", "invalid_request"]);

async function infer(call: ToolCall, model: string, version: VersionName): Promise<ToolAnswer> {
  const { caller, context } = call;
  requireModel(caller, model);
  const status = context.models.resolve(model, version);
  refuseDrift(call.meta, status.version);
  const values = (call.args.inputs ?? {}) as Record<string, unknown>;
  const exact = (): Record<string, unknown> | undefined => call.exactArgs()?.inputs as Record<string, unknown> | undefined;
  const complete = await completeInputs(call, { values, at: "/inputs", exact }, status.version);
  if ("question" in complete) return complete.question;
  const request = requestOf(complete.inputs, status.version);
  const submission = submissionOf(call, { request, status, version, inputs: complete.inputs.values });
  const asTask = isTask(call, () => context.jobs.expectedMs(status.version, { request }));
  const task = asTask ? await createdTask(call, submission) : undefined;
  return task ?? heldResult(call, submission, status);
}

/** What the call submits, up to how it waits. */
export function submissionOf(
  call: ToolCall,
  of: { request: InferRequest; status: ModelStatus; version: VersionName; inputs: unknown },
): Submission {
  const { request, status, version } = of;
  const { model } = status.version;
  const submission: Submission = { model, request, hold: false, spentMs: call.spentMs };
  nameVersion(call.context, submission, version, status);
  const timeoutMs = timeoutOf(call);
  if (timeoutMs !== undefined) submission.timeoutMs = timeoutMs;
  const idempotency = keyOf(call, { model, version, inputs: of.inputs });
  if (idempotency) submission.idempotency = idempotency;
  if (call.trace) submission.trace = call.trace;
  return submission;
}

async function heldResult(call: ToolCall, submission: Submission, status: ModelStatus): Promise<ToolAnswer> {
  const { caller, context, line, progress } = call;
  const held = holdInference(context, { ...submission, hold: true }, { caller, line, status });
  const { labels, settled } = await progress.during(`waiting for ${submission.model}`, held);
  const { outputs, record, replayed } = settled;
  const about = { model: record.model, version: record.version, outputs, labels };
  // nobody comes back for a call's job, unless it has a key or is too large to be answered here
  let answer = answerOf({ ...about, ...(submission.idempotency && { jobId: record.id }) });
  if (!answer.isWhole) {
    await context.jobs.keep(record.id);
    answer = answerOf({ ...about, jobId: record.id });
  }
  const how = { ...(replayed && { "switchyard/replayed": true }), ...(cachedHow(record) && { "switchyard/cached": true }) };
  const result = resultOf(answer.structured, answer.text, answer.isWhole ? [] : [linkTo(record.id)]);
  return Object.keys(how).length === 0 ? result : { ...result, _meta: how };
}
