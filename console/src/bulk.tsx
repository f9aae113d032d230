/** Changes of many: counted first, then done page by page, with what was done so far. Whoever closes the dialog stops both. */

import type { BulkView, RequeuedView } from "@switchyard/protocol";
import { useEffect, useState } from "preact/hooks";
import { ask } from "./api.ts";
import { number, plural } from "./format.ts";
import { beat } from "./live.ts";
import { Confirmation, Fault } from "./widgets.tsx";

/** How one page is counted or changed, and where the next one is. */
export interface Bulk {
  title: string;
  /** As in "Cancel 12 jobs". */
  verb: string;
  page: (next: string | undefined, how: { dryRun: boolean; signal: AbortSignal }) => Promise<{ count: number; next: string | undefined }>;
}

/** What is counted ahead; beyond it there is "more than". */
const mostCounted = 10_000;

export function bulkCancel(query: Readonly<Record<string, string>>): Bulk {
  const first = `/v1/jobs:cancel?${new URLSearchParams({ ...query, limit: "200" })}`;
  return {
    title: "Cancel all that match",
    verb: "Cancel",
    async page(next, { dryRun, signal }) {
      const path = next ?? `${first}${dryRun ? "&dry_run=true" : ""}`;
      const { changed, links, matched } = await ask<BulkView>(path, { method: "POST", signal });
      return { count: dryRun ? matched : changed, next: links.next };
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
      const { links, requeued } = await ask<RequeuedView>(path, { method: "POST", signal });
      return { count: requeued, next: links.next };
    },
  };
}

export function BulkDialog({ bulk, onClose }: { bulk: Bulk; onClose: () => void }) {
  const [counted, setCounted] = useState<{ jobs: number; isAll: boolean } | undefined>(undefined);
  const [done, setDone] = useState<number | undefined>(undefined);
  const [error, setError] = useState<Error | undefined>(undefined);
  const [stop] = useState(() => new AbortController());
  const { signal } = stop;
  useEffect(() => {
    const count = async (): Promise<void> => {
      let [jobs, next]: [number, string | undefined] = [0, undefined];
      do {
        const page: Awaited<ReturnType<Bulk["page"]>> = await bulk.page(next, { dryRun: true, signal });
        jobs += page.count;
        next = page.next;
      } while (next !== undefined && jobs < mostCounted);
      setCounted({ jobs, isAll: next === undefined });
    };
    count().catch((error: Error) => !signal.aborted && setError(error));
    return () => stop.abort();
  }, [bulk, stop]);
  const run = async (): Promise<void> => {
    let [jobs, next]: [number, string | undefined] = [0, undefined];
    try {
      do {
        const page: Awaited<ReturnType<Bulk["page"]>> = await bulk.page(next, { dryRun: false, signal });
        jobs += page.count;
        next = page.next;
        setDone(jobs);
      } while (next !== undefined);
    } finally {
      beat.value += 1;
    }
  };
  const jobs = counted && `${counted.isAll ? "" : "more than "}${plural(counted.jobs, "job")}`;
  const mayGo = counted !== undefined && counted.jobs > 0 && done === undefined;
  return (
    <Confirmation title={bulk.title} yes={mayGo ? `${bulk.verb} ${jobs}` : undefined} onYes={run} onClose={onClose}>
      <p role="status">
        {error ? <Fault error={error} /> : counted === undefined ? "Counting …" : `The filter names ${jobs} that this would change.`}
        {done !== undefined && ` Done: ${number(done)}.`}
      </p>
    </Confirmation>
  );
}
