/** The addresses of resources, and who may read what they name. Every kind has a twin among the routes of /v1, whose scopes open it. */

import { versionNumberIn } from "@switchyard/protocol";
import type { Scope } from "@switchyard/protocol/api-keys";
import { type Caller, requireScope } from "../../application/caller.ts";
import { accessOf } from "../route-access.ts";

export type ResourcePlace =
  | { kind: "models" | "hosts" | "queues" | "metrics" }
  | { kind: "model"; model: string }
  | { kind: "version"; model: string; version: number }
  | { kind: "host" | "job" | "output"; id: string };

export type ResourceKind = ResourcePlace["kind"];

const scheme = "switchyard://";

export const resourceUris = {
  models: `${scheme}models`,
  hosts: `${scheme}hosts`,
  queues: `${scheme}queues`,
  metrics: `${scheme}metrics`,
  model: (model: string): string => `${scheme}models/${encodeURIComponent(model)}`,
  version: (model: string, version: number): string => `${scheme}models/${encodeURIComponent(model)}/versions/${version}`,
  host: (id: string): string => `${scheme}hosts/${encodeURIComponent(id)}`,
  job: (id: string): string => `${scheme}jobs/${encodeURIComponent(id)}`,
  output: (id: string): string => `${scheme}jobs/${encodeURIComponent(id)}/output`,
} as const;

/** As `resources/templates/list` shows them; completion knows them by these texts. */
export const resourceTemplates = {
  model: `${scheme}models/{model}`,
  version: `${scheme}models/{model}/versions/{version}`,
  host: `${scheme}hosts/{id}`,
  job: `${scheme}jobs/{id}`,
  output: `${scheme}jobs/{id}/output`,
} as const;

const twins: Readonly<Record<ResourceKind, readonly [method: string, url: string]>> = {
  models: ["GET", "/v1/models"],
  model: ["GET", "/v1/models/:model"],
  version: ["GET", "/v1/models/:model/versions/:version"],
  hosts: ["GET", "/v1/hosts"],
  host: ["GET", "/v1/hosts/:id"],
  queues: ["GET", "/v1/queues"],
  metrics: ["GET", "/v1/overview"],
  job: ["GET", "/v1/jobs/:id"],
  output: ["GET", "/v1/jobs/:id/result"],
};

/** Undefined for what is no address of ours. What it names need not exist. */
export function placeIn(uri: string): ResourcePlace | undefined {
  if (!uri.startsWith(scheme)) return undefined;
  const [first, id, next, last, ...more] = uri.slice(scheme.length).split("/").map(decoded);
  if (first === undefined || more.length > 0) return undefined;
  if (id === undefined) {
    const isOne = first === "models" || first === "hosts" || first === "queues" || first === "metrics";
    return isOne ? { kind: first } : undefined;
  }
  if (id === "") return undefined;
  if (first === "models" && next === "versions" && last !== undefined) {
    const version = versionNumberIn(last);
    return version === undefined ? undefined : { kind: "version", model: id, version };
  }
  if (last !== undefined) return undefined;
  if (first === "jobs" && next === "output") return { kind: "output", id };
  if (next !== undefined) return undefined;
  if (first === "models") return { kind: "model", model: id };
  if (first === "hosts") return { kind: "host", id };
  return first === "jobs" ? { kind: "job", id } : undefined;
}

/** Its address as we spell it; what is no address of ours stays as it is. */
export function ourSpelling(uri: string): string {
  const place = placeIn(uri);
  if (place === undefined) return uri;
  switch (place.kind) {
    case "model":
      return resourceUris.model(place.model);
    case "version":
      return resourceUris.version(place.model, place.version);
    case "host":
    case "job":
    case "output":
      return resourceUris[place.kind](place.id);
    default:
      return resourceUris[place.kind];
  }
}

/** Empty for what is not encoded well, which is the name of nothing. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}

/** Throws `forbidden` unless the caller may ask the route that shows the same. */
export function requireKind(caller: Caller, kind: ResourceKind): void {
  requireScope(caller, scopesOf(kind));
}

export function mayReadKind(caller: Caller, kind: ResourceKind): boolean {
  return scopesOf(kind).some((scope) => caller.scopes.has(scope));
}

function scopesOf(kind: ResourceKind): readonly Scope[] {
  const access = accessOf(...twins[kind]);
  if (access === "open" || access === "hosts") throw new Error(`${twins[kind].join(" ")}: its keys' scopes are not listed`);
  return access;
}
