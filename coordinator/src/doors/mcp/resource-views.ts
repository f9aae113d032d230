/** What each resource says: the view that /v1 shows of the same, in JSON. A list that would be too long ends early and says so. */

import { type OverviewView, SwitchyardError } from "@switchyard/protocol";
import { type Caller, mayUse, requireModel } from "../../application/caller.ts";
import { hostOf, toModelView } from "../cluster-views.ts";
import type { DoorContext } from "../door-context.ts";
import { toJobView } from "../job-view.ts";
import { type Content, jobTtlMs, outputContent } from "./job-resources.ts";
import { placeIn, type ResourcePlace, requireKind } from "./resource-uris.ts";

export interface Reading {
  contents: Content[];
  /** For how long the client may keep it. */
  ttlMs: number;
}

/** The text of one list. */
const mostListBytes = 1_048_576;
/** What is listed changes seldom; a client that subscribes hears of it sooner. */
export const listTtlMs = 5_000;

/** Throws `not_found` and its like, `forbidden`, and whatever the view of /v1 may throw. */
export async function readResource(context: DoorContext, caller: Caller, uri: string): Promise<Reading> {
  const place = placeIn(uri);
  if (place === undefined) throw new SwitchyardError("not_found", `there is no resource ${uri.slice(0, 200)}`);
  requireKind(caller, place.kind);
  return reading(context, caller, { place, uri });
}

async function reading(context: DoorContext, caller: Caller, { place, uri }: { place: ResourcePlace; uri: string }): Promise<Reading> {
  const json = (view: unknown, ttlMs: number): Reading => ({
    contents: [{ uri, mimeType: "application/json", text: typeof view === "string" ? view : JSON.stringify(view) }],
    ttlMs,
  });
  switch (place.kind) {
    case "models": {
      const listed = context.models.list().filter(({ version }) => mayUse(caller, version.model));
      return json(
        listText(listed, (status) => ({ ...toModelView(status, caller), labels: undefined })),
        listTtlMs,
      );
    }
    case "model":
      requireModel(caller, place.model);
      context.models.resolve(place.model);
      return json(
        listText(context.models.versions(place.model), (status) => toModelView(status, caller)),
        listTtlMs,
      );
    case "version":
      requireModel(caller, place.model);
      return json(toModelView(context.models.resolve(place.model, place.version), caller), listTtlMs);
    case "hosts":
      return json(
        listText(context.hosts.list(), (host) => host),
        0,
      );
    case "host":
      return json(hostOf(context, place.id), 0);
    case "queues":
      return json(
        listText(await context.overview.queues(caller), (queue) => queue),
        0,
      );
    case "metrics":
      return json(await metricsView(context, caller), 0);
    case "job": {
      const record = await context.jobs.get(place.id, caller);
      return json(toJobView(record, caller), jobTtlMs(record, context.clock.nowMs()));
    }
    case "output": {
      const record = await context.jobs.get(place.id, caller);
      return { contents: [await outputContent(context, record, uri)], ttlMs: jobTtlMs(record, context.clock.nowMs()) };
    }
  }
}

/** The figures of the overview, without their course over time. */
export async function metricsView(
  { overview }: Pick<DoorContext, "overview">,
  caller: Caller,
): Promise<Omit<OverviewView, "series" | "slot_s">> {
  const { series: _, slot_s: __, ...view } = (await overview.view(caller, Number.POSITIVE_INFINITY)).view;
  return view;
}

/** As /v1 shows lists. One that is cut says how many it left out; each of those can be read by itself. */
function listText<Row>(rows: readonly Row[], viewOf: (row: Row) => unknown): string {
  const items: string[] = [];
  let chars = 0;
  for (const row of rows) {
    const text = JSON.stringify(viewOf(row));
    chars += text.length + 1;
    if (chars > mostListBytes) break;
    items.push(text);
  }
  const leftOut = rows.length - items.length;
  return `{"items":[${items.join(",")}]${leftOut > 0 ? `,"left_out":${leftOut}` : ""},"links":{}}`;
}
