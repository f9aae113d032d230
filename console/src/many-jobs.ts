/**
 * Changes of many jobs: one by one where they were selected, page by page where a filter names them. One that is refused does not keep the others
 * from their turn; how many were, and why, is told in the end.
 */

import type { BulkView, RequeuedView } from "@switchyard/protocol";
import { ask, Refusal } from "./api.ts";
import { number } from "./format.ts";

/** What became of them, so far. */
export interface Outcome {
  done: number;
  /** Why, by job. */
  refused: ReadonlyMap<string, string>;
  /** Given up before the end: what holds these up holds the others up too. */
  isCut?: boolean;
}

export function outcomeText({ done, isCut, refused }: Outcome): string {
  const [why] = refused.values();
  const refusals = why === undefined ? "" : ` Refused: ${number(refused.size)}; the first, because: ${why}.`;
  return `Done: ${number(done)}.${refusals}${isCut ? " The rest was left as it was; try again later." : ""}`;
}

const reason = ({ code, detail }: { code: string; detail: string }): string => `${detail} [${code}]`;

/** Of a server that is away, full, busy or asks for another key the others would only hear the same. */
const holdsAllUp = (error: unknown): boolean => !(error instanceof Refusal) || [401, 403, 429, 502, 503].includes(error.status);

/** `stop`: whoever asked for it has gone, or asks for something else. */
export async function changeEach(
  ids: readonly string[],
  change: (id: string) => Promise<unknown>,
  stop: AbortSignal = new AbortController().signal,
): Promise<Outcome> {
  const refused = new Map<string, string>();
  let done = 0;
  for (const id of ids) {
    if (stop.aborted) return { done, refused, isCut: true };
    try {
      await change(id);
      done += 1;
    } catch (error) {
      refused.set(id, error instanceof Refusal ? reason({ code: error.code, detail: error.message }) : (error as Error).message);
      if (holdsAllUp(error)) return { done, refused, isCut: done + refused.size < ids.length };
    }
  }
  return { done, refused };
}

/** Of a page: how many were changed or, in a dry run, would be; of which it is known what became of each, those; where the next page is. */
interface Page {
  count: number;
  items: RequeuedView["items"];
  next: string | undefined;
}

/** How one page is counted or changed. */
export interface Bulk {
  title: string;
  /** As in "Cancel 12 jobs". */
  verb: string;
  page: (next: string | undefined, how: { dryRun: boolean; signal: AbortSignal }) => Promise<Page>;
}

export function bulkCancel(query: Readonly<Record<string, string>>): Bulk {
  const first = `/v1/jobs:cancel?${new URLSearchParams({ ...query, limit: "200" })}`;
  return {
    title: "Cancel all that match",
    verb: "Cancel",
    async page(next, { dryRun, signal }) {
      const path = next ?? `${first}${dryRun ? "&dry_run=true" : ""}`;
      const { changed, links, matched } = await ask<BulkView>(path, { method: "POST", signal });
      return { count: dryRun ? matched : changed, items: [], next: links.next };
    },
  };
}

export function bulkRequeue(query: Readonly<Record<string, string>>): Bulk {
  const first = `/v1/dead-letters:requeue?${new URLSearchParams({ ...query, limit: "200" })}`;
  return {
    title: "Requeue all that match",
    verb: "Requeue",
    async page(next, { dryRun, signal }) {
      const path = next ?? `${first}${dryRun ? "&dry_run=true" : ""}`;
      const { items, links, requeued } = await ask<RequeuedView>(path, { method: "POST", signal });
      return { count: requeued, items, next: links.next };
    },
  };
}

/** What is counted ahead; beyond it there is "more than". */
const mostCounted = 10_000;

export async function countAll(bulk: Bulk, signal: AbortSignal): Promise<{ jobs: number; isAll: boolean }> {
  let [jobs, next]: [number, string | undefined] = [0, undefined];
  do {
    const page: Page = await bulk.page(next, { dryRun: true, signal });
    jobs += page.count;
    next = page.next;
  } while (next !== undefined && jobs < mostCounted);
  return { jobs, isAll: next === undefined };
}

/** Throws what a page throws; what the pages before it came to was told. */
export async function changeAll(bulk: Bulk, how: { signal: AbortSignal; onPage: (outcome: Outcome) => void }): Promise<void> {
  const { onPage, signal } = how;
  const refused = new Map<string, string>();
  let done = 0;
  let next: string | undefined;
  do {
    const page: Page = await bulk.page(next, { dryRun: false, signal });
    done += page.count;
    for (const { error, id } of page.items) {
      if (error) refused.set(id, reason(error));
      else refused.delete(id); // it was on a page that the store broke off, and on the same page again
    }
    const mayPass = page.items.some(({ error }) => error?.retryable);
    const isCut = page.next !== undefined && page.count === 0 && (mayPass || page.next === next);
    onPage({ done, refused, isCut });
    next = isCut ? undefined : page.next;
  } while (next !== undefined);
}
