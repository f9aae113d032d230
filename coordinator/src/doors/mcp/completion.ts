/** Completes arguments of prompts and of resource templates: values that begin like what was typed, of what this caller may see and nothing else. */

import type { CompleteRequestParams, CompleteResult } from "@modelcontextprotocol/server";
import { type JobState, SwitchyardError } from "@switchyard/protocol";
import { type Caller, mayUse } from "../../application/caller.ts";
import type { DoorContext } from "../door-context.ts";
import { hasFailed } from "./prompt-facts.ts";
import { promptNamed } from "./prompts.ts";
import { mayReadKind, resourceTemplates } from "./resource-uris.ts";

const mostValues = 100;
const mostJobs = 200;

/** Where values come from, once the other arguments are known. */
type Source = "models" | "versions" | "hosts" | "jobs" | "succeeded jobs" | "failed jobs";

/** Values in the order in which they are offered. `isAll`: there are no others. */
interface Values {
  values: string[];
  isAll: boolean;
}

const templateSources: Readonly<Record<string, Readonly<Record<string, Source>>>> = {
  [resourceTemplates.model]: { model: "models" },
  [resourceTemplates.version]: { model: "models", version: "versions" },
  [resourceTemplates.host]: { id: "hosts" },
  [resourceTemplates.job]: { id: "jobs" },
  [resourceTemplates.output]: { id: "succeeded jobs" },
};

/** Throws `invalid_request` for a reference or an argument that there is not, and `store_unavailable`. */
export async function complete(context: DoorContext, caller: Caller, asked: CompleteRequestParams): Promise<CompleteResult> {
  const { name, value } = asked.argument;
  const source = sourceOf(asked.ref, name);
  const all = source && (await valuesOf(context, caller, { source, given: asked.context?.arguments ?? {} }));
  const matching = all?.values.filter((one) => one.startsWith(value)) ?? [];
  const hasMore = matching.length > mostValues || all?.isAll === false;
  return {
    completion: { values: matching.slice(0, mostValues), ...(all?.isAll !== false && { total: matching.length }), hasMore },
  };
}

/** Undefined for an argument that nothing completes. */
function sourceOf(ref: CompleteRequestParams["ref"], argument: string): Source | undefined {
  if (ref.type === "ref/prompt") {
    const found = promptNamed(ref.name).arguments.find(({ name }) => name === argument);
    if (found !== undefined) return found.source;
    throw notThere("argument/name", `an argument of the prompt ${ref.name}`, argument);
  }
  const sources = Object.hasOwn(templateSources, ref.uri) ? templateSources[ref.uri] : undefined;
  if (sources === undefined) throw notThere("ref/uri", `one of the templates ${Object.keys(templateSources).join(", ")}`, ref.uri);
  if (Object.hasOwn(sources, argument)) return sources[argument];
  throw notThere("argument/name", `one of ${Object.keys(sources).join(", ")}`, argument);
}

async function valuesOf(
  context: DoorContext,
  caller: Caller,
  { given, source }: { source: Source; given: Readonly<Record<string, string>> },
): Promise<Values> {
  const none: Values = { values: [], isAll: true };
  switch (source) {
    case "models":
      if (!mayReadKind(caller, "model")) return none;
      return { values: modelsOf(context, caller), isAll: true };
    case "versions":
      if (!mayReadKind(caller, "version") || given.model === undefined || !mayUse(caller, given.model)) return none;
      return { values: context.models.versions(given.model).map(({ version }) => String(version.version)), isAll: true };
    case "hosts":
      if (!mayReadKind(caller, "host")) return none;
      return { values: [...new Set(context.hosts.list().map(({ id }) => id))].sort(), isAll: true };
    case "jobs":
      return jobsIn(context, caller, () => true);
    case "succeeded jobs":
      return jobsIn(context, caller, (state) => state === "succeeded");
    case "failed jobs": {
      // the last jobs may all have gone well; those that gave up for good are kept in a list of their own
      const [last, dead] = await Promise.all([jobsIn(context, caller, hasFailed), deadJobs(context, caller)]);
      return { values: [...new Set([...last.values, ...dead.values])], isAll: last.isAll && dead.isAll };
    }
  }
}

function modelsOf({ models }: DoorContext, caller: Caller): string[] {
  return [...new Set([...models.published()].map(({ model }) => model).filter((model) => mayUse(caller, model)))].sort();
}

/** Of the last jobs, newest first: who types waits, so no more are looked at. */
async function jobsIn(context: DoorContext, caller: Caller, isWanted: (state: JobState) => boolean): Promise<Values> {
  if (!mayReadKind(caller, "job")) return { values: [], isAll: true };
  const { cursor, jobs } = await context.jobs.list({ limit: mostJobs }, caller);
  return { values: jobs.filter(({ state }) => isWanted(state)).map(({ id }) => id), isAll: cursor === undefined };
}

async function deadJobs(context: DoorContext, caller: Caller): Promise<Values> {
  if (!mayReadKind(caller, "job")) return { values: [], isAll: true };
  const { cursor, letters } = await context.deadLetters.list({ limit: mostJobs }, caller);
  return { values: letters.map(({ record }) => record.id), isAll: cursor === undefined };
}

function notThere(pointer: string, expected: string, got: string): SwitchyardError {
  const detail = `${pointer}: expected ${expected}; got ${got.slice(0, 128)}`;
  return new SwitchyardError("invalid_request", detail, { fields: [{ pointer, expected, got: got.slice(0, 128) }] });
}
