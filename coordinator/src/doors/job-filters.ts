/** The filters of lists of jobs and of dead letters, from the query, refused by name; and the link to the next page. */

import { errors, type JobClass, type JobState, jobClasses, jobStates, modelNamePattern } from "@switchyard/protocol";
import { tenantPattern } from "@switchyard/protocol/api-keys";
import type { FastifyRequest } from "fastify";
import { allTenants } from "../application/caller.ts";
import type { JobListFilter } from "../ports/job-store.ts";
import { badRequest } from "./request-options.ts";

const maxListed = 200;
const listedByDefault = 50;

export const jobFilters: readonly string[] = [
  ...["state", "model", "version", "class", "tag", "host", "tenant", "created_after", "created_before", "limit", "cursor"],
];
export const deadLetterFilters: readonly string[] = ["model", "version", "code", "limit", "cursor"];

/** The same request, with the cursor. */
export function linksOf(request: FastifyRequest, cursor: string | undefined): { next?: string } {
  if (cursor === undefined) return {};
  const next = new URLSearchParams(request.query as Record<string, string>);
  next.set("cursor", cursor);
  return { next: `${request.url.split("?", 1)[0]}?${next}` };
}

/** `names`: those that the list takes. */
export function filterFrom(query: Record<string, unknown>, names: readonly string[]): JobListFilter {
  for (const name of Object.keys(query)) {
    if (!names.includes(name)) throw badRequest(name.slice(0, 64), `one of the filters ${names.join(", ")}`, name);
    if (typeof query[name] !== "string") throw badRequest(name, "given once", "several values");
  }
  const {
    state,
    model,
    version,
    class: jobClass,
    tag,
    host,
    tenant,
    created_after: after,
    created_before: before,
    code,
    limit,
    cursor,
  } = query as Record<string, string | undefined>;
  const filter: JobListFilter = { limit: listedByDefault };
  if (state !== undefined) filter.state = wordOf("state", state, jobStates) as JobState;
  if (jobClass !== undefined) filter.class = wordOf("class", jobClass, jobClasses) as JobClass;
  if (model !== undefined) {
    if (!modelNamePattern.test(model)) throw badRequest("model", "a model name", model);
    filter.model = model;
  }
  if (version !== undefined) filter.version = wholeOf("version", version, Number.MAX_SAFE_INTEGER);
  if (tag !== undefined) filter.tag = tag;
  if (host !== undefined) filter.host = host;
  if (tenant !== undefined) {
    if (tenant !== allTenants && !tenantPattern.test(tenant)) throw badRequest("tenant", "a tenant's name, or * for all", tenant);
    filter.tenant = tenant;
  }
  if (after !== undefined) filter.createdAfterMs = timeOf("created_after", after);
  if (before !== undefined) filter.createdBeforeMs = timeOf("created_before", before);
  if (code !== undefined) filter.code = wordOf("code", code, Object.keys(errors));
  if (limit !== undefined) filter.limit = wholeOf("limit", limit, maxListed);
  if (cursor !== undefined) filter.cursor = cursor;
  return filter;
}

function timeOf(name: string, text: string): number {
  const ms = Date.parse(text);
  if (/^\d{4}-\d\d-\d\dT/.test(text) && !Number.isNaN(ms)) return ms;
  throw badRequest(name, "an RFC 3339 time such as 2026-01-31T12:00:00Z", text);
}

function wordOf(name: string, value: string, words: readonly string[]): string {
  if (words.includes(value)) return value;
  throw badRequest(name, `one of ${words.join(", ")}`, value);
}

function wholeOf(name: string, value: string, max: number): number {
  const number = /^\d{1,16}$/.test(value) ? Number(value) : 0;
  if (number >= 1 && number <= max) return number;
  throw badRequest(name, `a whole number from 1 to ${max}`, value);
}
