/** `job_submit`, `job_get`, `job_wait` and `job_cancel`: work that nobody waits for, for clients that know no tasks. */

import type { Tool } from "@modelcontextprotocol/server";
import { jobClasses, SwitchyardError } from "@switchyard/protocol";
import { requireModel } from "../../application/caller.ts";
import type { JobRecord } from "../../ports/job-store.ts";
import type { VersionName } from "../held-inference.ts";
import { toJobView } from "../job-view.ts";
import { maxWaitSeconds } from "../request-options.ts";
import { argumentCheck } from "./argument-check.ts";
import { keyArgument, modelArguments, timeoutArgument } from "./call-terms.ts";
import { jobAnswer } from "./job-results.ts";
import { completeInputs } from "./missing-inputs.ts";
import { resourceUris } from "./resource-uris.ts";
import { requestOf } from "./tensor-arguments.ts";
import { resultOf } from "./tensor-results.ts";
import { resultSchema } from "./tensor-schemas.ts";
import { schemaOf, type ToolCall, type ToolHandler } from "./tool.ts";
import { chosenModel, submissionOf } from "./tool-infer.ts";

const jobId = { job_id: { type: "string" } } as const;
const inputs = { inputs: { type: "object", description: "by input name, as for infer" } } as const;

const jobProperties = {
  state: { type: "string" },
  job_id: { type: "string" },
  class: { type: "string" },
  attempt: { type: "integer" },
  created_at: { type: "string" },
  started_at: { type: "string" },
  finished_at: { type: "string" },
  deadline: { type: "string" },
  error: { type: "object" },
  uri: { type: "string" },
};

/** The job, and once it has succeeded what it answered. */
const jobSchema = {
  type: "object",
  properties: { ...(resultSchema().properties as object), ...jobProperties },
  required: ["job_id", "state", "model", "version"],
} as Tool["outputSchema"];

function viewOf(record: JobRecord, call: ToolCall): Record<string, unknown> {
  const { id, links: _links, ...view } = toJobView(record, call.caller);
  return { job_id: id, ...view, uri: resourceUris.job(id) };
}

interface Given {
  name: string;
  title: string;
  description: string;
  properties: Record<string, unknown>;
  required: readonly string[];
  hints: Tool["annotations"];
}

function define({ description, hints, name, properties, required, title }: Given): Tool {
  return {
    name,
    title,
    description,
    inputSchema: schemaOf(properties, required),
    outputSchema: jobSchema,
    annotations: { title, ...hints },
  };
}

const looks = { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false };

const submitProperties = {
  ...modelArguments,
  ...inputs,
  ...timeoutArgument,
  ...keyArgument,
  class: { enum: [...jobClasses], description: "how urgent; default: the model's" },
};
const checkSubmit = argumentCheck(schemaOf(submitProperties, []));

const submitTool: ToolHandler = {
  definition: define({
    name: "job_submit",
    title: "Submit a job",
    description: "Hands a run of a model to the cluster and answers at once with a job_id. Then job_wait for its outcome.",
    properties: submitProperties,
    required: ["model", "inputs"],
    hints: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: false },
  }),
  scopes: ["submit"],
  async call(call) {
    checkSubmit(call.args);
    const chosen = await chosenModel(call);
    if ("question" in chosen) return chosen.question;
    const { caller, context } = call;
    requireModel(caller, chosen.model);
    const version = call.args.version as VersionName;
    const status = context.models.resolve(chosen.model, version);
    const values = (call.args.inputs ?? {}) as Record<string, unknown>;
    const exact = (): Record<string, unknown> | undefined => call.exactArgs()?.inputs as Record<string, unknown> | undefined;
    const complete = await completeInputs(call, { values, at: "/inputs", exact }, status.version);
    if ("question" in complete) return complete.question;
    const request = requestOf(complete.inputs, status.version);
    const submission = submissionOf(call, { request, status, version, inputs: complete.inputs.values });
    const jobClass = jobClasses.find((one) => one === call.args.class);
    if (jobClass !== undefined) submission.class = jobClass;
    const { record } = await context.jobs.submit(submission, caller);
    return resultOf(viewOf(record, call));
  },
};

const checkGet = argumentCheck(schemaOf(jobId, ["job_id"]));

const getTool: ToolHandler = {
  definition: define({
    name: "job_get",
    title: "Look at a job",
    description: "Answers the state of a job, and its outputs once it has succeeded.",
    properties: jobId,
    required: ["job_id"],
    hints: looks,
  }),
  scopes: ["read"],
  async call(call) {
    checkGet(call.args);
    const record = await call.context.jobs.get(call.args.job_id as string, call.caller);
    return jobAnswer(call.context, record, viewOf(record, call));
  },
};

const mostWaitMs = maxWaitSeconds * 1_000;
const usualWaitMs = 30_000;
const waitProperties = {
  ...jobId,
  wait_ms: { type: "integer", minimum: 0, maximum: mostWaitMs, description: `how long to wait at most; default ${usualWaitMs}` },
};
const checkWait = argumentCheck(schemaOf(waitProperties, ["job_id"]));

const waitTool: ToolHandler = {
  definition: define({
    name: "job_wait",
    title: "Wait for a job",
    description: "Waits until a job has ended and answers its outputs; its state as it then is when that takes longer than wait_ms.",
    properties: waitProperties,
    required: ["job_id"],
    hints: looks,
  }),
  scopes: ["read"],
  async call(call) {
    checkWait(call.args);
    const { args, caller, context, line, progress } = call;
    const open = context.calls.waiting(line);
    try {
      const how = { waitMs: (args.wait_ms as number | undefined) ?? usualWaitMs, signal: open.signal };
      const record = await progress.during("waiting for the job", context.jobs.wait(args.job_id as string, how, caller));
      return await jobAnswer(context, record, viewOf(record, call));
    } finally {
      open.end();
    }
  },
};

const cancelTool: ToolHandler = {
  definition: define({
    name: "job_cancel",
    title: "Cancel a job",
    description: "Ends a job that has not ended: one that waits is not run, and what a running one answers is dropped.",
    properties: jobId,
    required: ["job_id"],
    hints: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  }),
  scopes: ["submit"],
  async call(call) {
    checkGet(call.args);
    const { record, moved } = await call.context.jobs.cancel(call.args.job_id as string, call.caller);
    if (moved) return resultOf(viewOf(record, call));
    throw new SwitchyardError("job_already_ended", `The job has already ended: ${record.state}`, { jobId: record.id });
  },
};

export const jobTools: readonly ToolHandler[] = [submitTool, getTool, waitTool, cancelTool];
