/**
 * The prompts: instructions for a model that talks to a person, and the facts of the cluster that it needs, each as a resource of its own so that
 * they are not taken for instructions. Which arguments there are is said here once; lists, checks and completion read it.
 */

import type { GetPromptResult, Prompt, PromptMessage } from "@modelcontextprotocol/server";
import { SwitchyardError } from "@switchyard/protocol";
import type { Caller } from "../../application/caller.ts";
import type { DoorContext } from "../door-context.ts";
import { capacity, choices, hasFailed, jobCase } from "./prompt-facts.ts";
import { type ResourceKind, requireKind, resourceUris } from "./resource-uris.ts";

/** What completes an argument's value; absent: nothing does. */
export type ArgumentSource = "models" | "failed jobs";

interface PromptArgument {
  name: string;
  description: string;
  required: boolean;
  source?: ArgumentSource;
}

type Arguments = Readonly<Record<string, string>>;

export interface PromptDefinition {
  name: string;
  title: string;
  description: string;
  /** What the caller must be allowed to read. */
  reads: ResourceKind;
  arguments: PromptArgument[];
  messages(context: DoorContext, caller: Caller, given: Arguments): Promise<PromptMessage[]>;
}

const mostArgumentChars = 4_096;

export const prompts: readonly PromptDefinition[] = [
  {
    name: "choose_model",
    title: "Choose a model",
    description: "Which of this cluster's models fits a task, and how to call it",
    reads: "models",
    arguments: [
      { name: "task", description: "What is to be found out, in a sentence", required: true },
      { name: "input", description: "What there is to give to the model, such as a PNG of 28 x 28 pixels", required: false },
      { name: "max_latency_ms", description: "How long one answer may take, in milliseconds", required: false },
    ],
    async messages(context, caller, given) {
      const latencyMs = numberIn(given, "max_latency_ms");
      const found = await choices(context, caller, given.task!);
      const wishes = [
        `The task: ${given.task}`,
        given.input === undefined ? "" : `The input at hand: ${given.input}`,
        latencyMs === undefined ? "" : `One answer may take ${latencyMs} ms at most.`,
      ];
      const advice =
        "Choose from the models below, which are all that this cluster serves to me now. Compare inputs, outputs, class names and measured times with the task. " +
        "Name one model and its version, say why it fits and what speaks against it, and show the call with the tool `infer`: each input with its datatype and shape, -1 being the batch axis. " +
        "If none fits, say so, and say what kind of model is missing. An available model is loaded on first demand, so its first answer takes longer.";
      return [text([...wishes, advice]), facts(resourceUris.models, found)];
    },
  },
  {
    name: "explain_failed_job",
    title: "Explain a failed job",
    description: "Why a job failed, expired or was cancelled, and what to do next",
    reads: "job",
    arguments: [{ name: "job_id", description: "The job's id", required: true, source: "failed jobs" }],
    async messages(context, caller, given) {
      const found = await jobCase(context, caller, given.job_id!);
      const { id, state } = found.job;
      const asked = hasFailed(state)
        ? "Explain in plain words why it ended like this. Then say what to do next, the likeliest remedy first: another input, a longer timeout, another model or version, or the same job again."
        : "It has not failed. Say what it is doing or has done, by its timeline, and whether anything about it is unusual.";
      const advice =
        "Go by the facts below only: the job, its timeline, what its error's code means, its model as it is now, and the queue as it is now, which may differ from what it was then. " +
        "Whether the same job may be repeated is said by `retryable`. Say what cannot be known from the facts instead of guessing.";
      return [text([`The job ${id} is ${state}.`, asked, advice]), facts(resourceUris.job(id), found)];
    },
  },
  {
    name: "plan_capacity",
    title: "Plan capacity",
    description: "Whether the cluster carries its load, or a load that is to come, and how many hosts that takes",
    reads: "queues",
    arguments: [
      { name: "model", description: "The model whose load is planned; without it the cluster as it is", required: false, source: "models" },
      { name: "items_per_second", description: "The load that is to come, in items a second", required: false },
      { name: "target_ms", description: "How long an answer may take, in milliseconds", required: false },
    ],
    async messages(context, caller, given) {
      const { model } = given;
      const [itemsPerSecond, targetMs] = [numberIn(given, "items_per_second"), numberIn(given, "target_ms")];
      const found = await capacity(context, caller, { model, itemsPerSecond });
      const wishes = [
        model === undefined ? "The plan is for the whole cluster." : `The plan is for the model ${model}.`,
        itemsPerSecond === undefined ? "" : `The load to come: ${itemsPerSecond} items a second.`,
        targetMs === undefined ? "" : `An answer may take ${targetMs} ms at most, waiting included.`,
      ];
      const advice =
        "Judge from the figures below whether the hosts carry the load now: what waits, how long it takes to drain, refusals by reason, waiting and total times of the last minute. " +
        "Where `needs` is given, it says what one host of each kind serves, and how many carry the load to come at 70 % use; check that with the run times in `estimates`. " +
        "Recommend how many hosts of which kind, whether larger batches would do instead, and what to watch. Say which figures are missing or rest on few samples.";
      return [text([...wishes, advice]), facts(resourceUris.metrics, found)];
    },
  },
];

export function promptList(): Prompt[] {
  return prompts.map(({ arguments: taken, description, name, title }) => ({
    name,
    title,
    description,
    arguments: taken.map((argument) => ({ name: argument.name, description: argument.description, required: argument.required })),
  }));
}

/** Throws `invalid_request`. */
export function promptNamed(name: string): PromptDefinition {
  const found = prompts.find((prompt) => prompt.name === name);
  if (found !== undefined) return found;
  throw badArgument("name", `one of the prompts ${prompts.map((prompt) => prompt.name).join(", ")}`, name);
}

/** Throws `invalid_request` naming the argument, `forbidden`, and what reading the facts may throw. */
export async function getPrompt(
  context: DoorContext,
  caller: Caller,
  asked: { name: string; arguments?: Record<string, string> | undefined },
): Promise<GetPromptResult> {
  const prompt = promptNamed(asked.name);
  requireKind(caller, prompt.reads);
  const given = checked(prompt, asked.arguments ?? {});
  return { description: prompt.description, messages: await prompt.messages(context, caller, given) };
}

/** An empty value is none: that is what forms send for a field that was left empty. */
function checked(prompt: PromptDefinition, given: Record<string, string>): Arguments {
  const names = prompt.arguments.map(({ name }) => name);
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(given)) {
    if (!names.includes(name)) throw badArgument(`arguments/${name.slice(0, 64)}`, `one of the arguments ${names.join(", ")}`, name);
    if (value.length > mostArgumentChars)
      throw badArgument(`arguments/${name}`, `at most ${mostArgumentChars} characters`, `${value.length}`);
    if (value.trim() !== "") kept[name] = value.trim();
  }
  for (const { description, name, required } of prompt.arguments) {
    if (required && kept[name] === undefined) throw badArgument(`arguments/${name}`, description, "nothing");
  }
  return kept;
}

function numberIn(given: Arguments, name: string): number | undefined {
  const value = given[name];
  if (value === undefined) return undefined;
  const number = Number(value);
  if (Number.isFinite(number) && number > 0) return number;
  throw badArgument(`arguments/${name}`, "a number above 0", value);
}

function badArgument(pointer: string, expected: string, got: string): SwitchyardError {
  const detail = `${pointer}: expected ${expected}; got ${got.slice(0, 64)}`;
  return new SwitchyardError("invalid_request", detail, { fields: [{ pointer, expected, got: got.slice(0, 64) }] });
}

function text(lines: readonly string[]): PromptMessage {
  return { role: "user", content: { type: "text", text: lines.filter((line) => line !== "").join("\n") } };
}

function facts(uri: string, about: unknown): PromptMessage {
  const resource = { uri, mimeType: "application/json", text: JSON.stringify(about) };
  return { role: "user", content: { type: "resource", resource } };
}
