/**
 * The jobs that a filter names, newest first, as far as they were read: pages are added at the end while somebody scrolls, and new jobs at the
 * beginning with each beat. Jobs that are in sight are read again until they have ended.
 */

import { signal } from "@preact/signals";
import type { JobView } from "@switchyard/protocol";
import { ask } from "./api.ts";

export interface Page<T> {
  items: T[];
  links: { next?: string };
}

const perPage = 200;
/** Of those in sight, with each beat. */
const mostLooked = 20;
const ended = new Set(["succeeded", "failed", "cancelled", "expired"]);

export const hasEnded = ({ state }: Pick<JobView, "state">): boolean => ended.has(state);

export class JobList {
  readonly jobs = signal<readonly JobView[]>([]);
  readonly error = signal<Error | undefined>(undefined);
  /** Whether more may follow. */
  readonly hasMore = signal(true);
  readonly #query: string;
  readonly #stop = new AbortController();
  #next: string | undefined;
  #reading = false;

  constructor(query: Readonly<Record<string, string>>) {
    this.#query = new URLSearchParams(query).toString();
    this.#next = `/v1/jobs?${this.#query}&limit=${perPage}`;
  }

  close(): void {
    this.#stop.abort();
  }

  /** Reads one page more; does nothing while one is being read, or when all were. */
  async more(): Promise<void> {
    const next = this.#next;
    if (this.#reading || next === undefined) return;
    this.#reading = true;
    try {
      const page = await ask<Page<JobView>>(next, { signal: this.#stop.signal });
      this.#next = page.links.next;
      this.jobs.value = merged(this.jobs.value, page.items, "end");
      this.hasMore.value = this.#next !== undefined;
      this.error.value = undefined;
    } catch (error) {
      if (!this.#stop.signal.aborted) this.error.value = error as Error;
    } finally {
      this.#reading = false;
    }
  }

  /** Looks at what became of jobs in sight, and for new ones where somebody sees the beginning of the list. */
  async renew(inSight: readonly JobView[], { withNew }: { withNew: boolean }): Promise<void> {
    if (this.#reading) return;
    this.#reading = true;
    try {
      const call = { signal: this.#stop.signal };
      const first = withNew
        ? await ask<Page<JobView>>(`/v1/jobs?${this.#query}&limit=${perPage}`, call)
        : { items: [], links: { next: "" } };
      const fresh = new Set(first.items.map(({ id }) => id));
      const open = inSight.filter((job) => !hasEnded(job) && !fresh.has(job.id)).slice(0, mostLooked);
      const looked = await Promise.all(open.map(({ id }) => ask<JobView>(`/v1/jobs/${id}`, call).catch(() => undefined)));
      const isWhole = first.links.next === undefined; // what is not among them has left the list
      const before = isWhole ? [] : this.jobs.value;
      if (isWhole) this.#next = undefined;
      this.jobs.value = merged(before, [...first.items, ...looked.filter((job) => job !== undefined)], "start");
      this.hasMore.value = this.#next !== undefined;
      this.error.value = undefined;
    } catch (error) {
      if (!this.#stop.signal.aborted) this.error.value = error as Error;
    } finally {
      this.#reading = false;
    }
  }
}

function merged(before: readonly JobView[], items: readonly JobView[], where: "start" | "end"): JobView[] {
  const byId = new Map(items.map((job) => [job.id, job]));
  const kept = before.map((job) => {
    const newer = byId.get(job.id);
    byId.delete(job.id);
    return newer ?? job;
  });
  return where === "start" ? [...byId.values(), ...kept] : [...kept, ...byId.values()];
}
