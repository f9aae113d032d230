/** The lists of resources and of their templates: what is always there, then models, hosts and the caller's last jobs, page by page. */

import type { Resource, ResourceTemplateType } from "@modelcontextprotocol/server";
import { type Caller, mayUse } from "../../application/caller.ts";
import type { DoorContext } from "../door-context.ts";
import type { Cursors } from "./cursors.ts";
import { lastJobs } from "./job-resources.ts";
import { mayReadKind, resourceTemplates, resourceUris } from "./resource-uris.ts";

const perPage = 100;
const mimeType = "application/json";

/** What is listed, part by part; in a part, by these keys. */
type Place = [part: number, after: string];
interface Part {
  /** In the order of their keys. */
  entries(): Entry[] | Promise<Entry[]>;
}
type Entry = { key: string; resource: Resource };

export type ListedPage = { resources: Resource[]; nextCursor?: string };

/** Throws `invalid_request` for a cursor that is none, and `store_unavailable`. */
export async function listResources(
  context: DoorContext,
  asked: { caller: Caller; cursors: Cursors; cursor?: string | undefined },
): Promise<ListedPage> {
  const { caller, cursor, cursors } = asked;
  const use = { caller, method: "resources/list" };
  const parts = partsFor(context, caller);
  let [at, after] = cursor === undefined ? ([0, ""] satisfies Place) : ((await cursors.open(cursor, use)) as Place);
  const resources: Resource[] = [];
  for (; at < parts.length; at++, after = "") {
    for (const { key, resource } of await parts[at]!.entries()) {
      if (key <= after) continue;
      if (resources.length === perPage) return { resources, nextCursor: await cursors.seal([at, after], use) };
      resources.push(resource);
      after = key;
    }
  }
  return { resources };
}

function partsFor(context: DoorContext, caller: Caller): Part[] {
  const { hosts, models } = context;
  const mayRead = (kind: Parameters<typeof mayReadKind>[1]): boolean => mayReadKind(caller, kind);
  return [
    { entries: () => fixed.filter(({ kind }) => mayRead(kind)).map(({ key, resource }) => ({ key, resource })) },
    {
      entries: () => {
        if (!mayRead("model")) return [];
        const names = new Set([...models.published()].map(({ model }) => model).filter((model) => mayUse(caller, model)));
        return sorted([...names].map((model) => ({ key: model, resource: modelResource(model) })));
      },
    },
    {
      entries: () => (mayRead("host") ? sorted(hosts.list().map(({ id, state }) => ({ key: id, resource: hostResource(id, state) }))) : []),
    },
    { entries: () => (mayRead("job") ? jobEntries(context, caller) : []) },
  ];
}

/** In the order of their addresses. */
const fixed = (
  [
    ["hosts", "Hosts", "Every host with its devices, the models that it holds and its state"],
    ["metrics", "Metrics", "What waits and runs now, and the last minute's throughput, refusals, waiting and total times"],
    ["models", "Models", "Every model version that may be used: inputs, outputs, state, batching"],
    ["queues", "Queues", "What waits and runs by model version, the hosts for it, and how long it will take to drain"],
  ] as const
).map(([kind, title, description]) => ({
  kind,
  key: kind,
  resource: { uri: resourceUris[kind], name: kind, title, description, mimeType } satisfies Resource,
}));

function modelResource(model: string): Resource {
  const description = `The versions of the model '${model}': inputs, outputs, state, class names`;
  return { uri: resourceUris.model(model), name: `model ${model}`, title: model, description, mimeType };
}

function hostResource(id: string, state: string): Resource {
  return { uri: resourceUris.host(id), name: `host ${id}`, title: id, description: `A host of the cluster, ${state}`, mimeType };
}

/** Newest first: their keys rise as their times fall. */
async function jobEntries(context: DoorContext, caller: Caller): Promise<Entry[]> {
  const records = await lastJobs(context, caller);
  const entries = records.map((record): Entry => {
    const { createdMs, finishedMs, id, model, startedMs, state, version } = record;
    const key = `${String(Number.MAX_SAFE_INTEGER - createdMs).padStart(16, "0")} ${id}`;
    const lastModified = new Date(finishedMs ?? startedMs ?? createdMs).toISOString();
    const description = `A job for ${model}@${version}, ${state}`;
    return {
      key,
      resource: { uri: resourceUris.job(id), name: `job ${id}`, title: id, description, mimeType, annotations: { lastModified } },
    };
  });
  return sorted(entries);
}

function sorted(entries: Entry[]): Entry[] {
  return entries.sort((one, other) => (one.key < other.key ? -1 : 1));
}

/** The same for every caller. */
export const templates: ResourceTemplateType[] = [
  {
    uriTemplate: resourceTemplates.host,
    name: "host",
    title: "Host",
    description: "One host: devices, memory, models that it holds, batches that it ran. For operators",
    mimeType,
  },
  {
    uriTemplate: resourceTemplates.job,
    name: "job",
    title: "Job",
    description: "One of your jobs: state, timings, error. Subscribe to hear of each change of its state",
    mimeType,
  },
  {
    uriTemplate: resourceTemplates.output,
    name: "job output",
    title: "Job output",
    description: "What one of your jobs has answered, once it has succeeded: tensors, and the likeliest classes where the model names them",
  },
  {
    uriTemplate: resourceTemplates.model,
    name: "model",
    title: "Model",
    description: "All versions of one model: inputs, outputs, state, batching, class names",
    mimeType,
  },
  {
    uriTemplate: resourceTemplates.version,
    name: "model version",
    title: "Model version",
    description: "One version of a model: inputs, outputs, state, batching, class names",
    mimeType,
  },
];
