/** What a page of a job list is: which records belong to it, where one ends and the next begins. For every store. */

import { SwitchyardError } from "@switchyard/protocol";
import { firstPage, type JobListFilter, type JobPage, type JobRecord } from "../ports/job-store.ts";

/** A place in a list. */
export interface ListPlace {
  id: string;
  /** By what the list is ordered: when a job was made, or a dead letter ended. */
  atMs: number;
}

/** Newest first; ids break ties, so that the order is total. */
export function isAfter(place: ListPlace, other: ListPlace): boolean {
  return place.atMs < other.atMs || (place.atMs === other.atMs && place.id < other.id);
}

/** All that a filter asks of a record; which list it stands in is not. */
export function matches(record: JobRecord, filter: JobListFilter): boolean {
  if (filter.tenant !== undefined && record.tenant !== filter.tenant) return false;
  if (filter.state && record.state !== filter.state) return false;
  if (filter.class && record.class !== filter.class) return false;
  if (filter.host !== undefined && record.hostId !== filter.host) return false;
  if (filter.createdAfterMs !== undefined && record.createdMs <= filter.createdAfterMs) return false;
  if (filter.createdBeforeMs !== undefined && record.createdMs >= filter.createdBeforeMs) return false;
  if (filter.code !== undefined && record.error?.code !== filter.code) return false;
  return !filter.tag || hasTag(record.tags, filter.tag);
}

/** `asked`: a key, or a key and its value behind ":" or "=". Either may stand in keys and values too, so each tag is held against the whole. */
function hasTag(tags: JobRecord["tags"] = {}, asked: string): boolean {
  return Object.entries(tags).some(([key, value]) => {
    if (!asked.startsWith(key)) return false;
    const rest = asked.slice(key.length);
    return rest === "" || rest === `:${value}` || rest === `=${value}`;
  });
}

/** Behind which a page begins; nothing for the first page. Throws `invalid_request`. */
export function placeOf(cursor: string | undefined): ListPlace | undefined {
  if (!cursor || cursor === firstPage) return undefined;
  const [at, id] = Buffer.from(cursor, "base64url").toString("utf8").split(" ");
  if (at && id && Number.isSafeInteger(Number(at))) return { id, atMs: Number(at) };
  throw new SwitchyardError("invalid_request", "the cursor is not one that a list answered", {
    fields: [{ pointer: "cursor", expected: "the cursor of links.next", got: cursor.slice(0, 40) }],
  });
}

/** `last`: the last place that was looked at; undefined when nothing comes after it. */
export function pageOf(jobs: JobRecord[], last: ListPlace | undefined): JobPage {
  return last ? { jobs, cursor: Buffer.from(`${last.atMs} ${last.id}`).toString("base64url") } : { jobs };
}
