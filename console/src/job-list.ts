/**
 * The jobs that a filter names, newest first, as far as they were read: pages are added at the end while somebody scrolls, and new jobs at the
 * beginning with each beat. Jobs that are in sight are read again until they have ended.
 */

import { signal } from "@preact/signals";
import type { JobView } from "@switchyard/protocol";
import { ask } from "./api.ts";
import { nowMs } from "./clock.ts";

export interface Page<T> {
  items: T[];
  links: { next?: string };
}

const perPage = 200;
/** Pages without a match in a row: the server has then looked at two hundred thousand jobs. Further back is searched when somebody asks. */
const mostEmpty = 20;
/**
 * A look for new jobs is cheap where most match; where few do, the server reads thousands for it. So it takes at most a twentieth of the time.
 * Only the newest page will do: a job that fails now, or comes to a host, may have been created long ago.
 */
const pausePerLook = 20;
const longestPauseMs = 60_000;
/** Of those in sight, with each beat. */
const mostLooked = 20;
const ended = new Set(["succeeded", "failed", "cancelled", "expired"]);

export const hasEnded = ({ state }: Pick<JobView, "state">): boolean => ended.has(state);

/**
 * Whether its inputs were kept at its end, without which a retry can only be refused: those of dead letters are, of jobs whose last failure
 * was one that another attempt may not meet, or that took too many hosts down.
 */
export function mayRetry({ error, state }: Pick<JobView, "error" | "state">): boolean {
  return state === "failed" && (error?.retryable === true || error?.code === "poison");
}

export class JobList {
  readonly jobs = signal<readonly JobView[]>([]);
  readonly error = signal<Error | undefined>(undefined);
  /** Whether more may follow. */
  readonly hasMore = signal(true);
  /** Nothing was found for long; `searchOn` looks further back. */
  readonly isPaused = signal(false);
  readonly #first: string;
  readonly #stop = new AbortController();
  #next: string | undefined;
  #reading = false;
  #wanted = 0;
  #empty = 0;
  #lookAgainMs = 0;

  constructor(query: Readonly<Record<string, string>>) {
    this.#first = `/v1/jobs?${new URLSearchParams({ ...query, limit: String(perPage) })}`;
    this.#next = this.#first;
  }

  close(): void {
    this.#stop.abort();
  }

  /**
   * Reads on until there are so many jobs, or all were read, or nothing was found for long: a page may be empty and more follow. What cannot be
   * read now is after the next `renew`.
   */
  async readTo(count: number): Promise<void> {
    this.#wanted = count;
    await this.#readOn();
  }

  async searchOn(): Promise<void> {
    this.#empty = 0;
    this.isPaused.value = false;
    await this.#readOn();
  }

  async #readOn(): Promise<void> {
    while (!this.#reading && this.#next !== undefined && this.jobs.value.length < this.#wanted && !this.isPaused.value) {
      if (!(await this.#readPage(this.#next))) return;
    }
  }

  async #readPage(path: string): Promise<boolean> {
    this.#reading = true;
    try {
      const page = await ask<Page<JobView>>(path, { signal: this.#stop.signal });
      this.#next = page.links.next;
      this.#empty = page.items.length > 0 ? 0 : this.#empty + 1;
      this.jobs.value = merged(this.jobs.value, page.items, "end");
      this.hasMore.value = this.#next !== undefined;
      this.isPaused.value = this.hasMore.value && this.#empty >= mostEmpty;
      this.error.value = undefined;
      return true;
    } catch (error) {
      if (!this.#stop.signal.aborted) this.error.value = error as Error;
      return false;
    } finally {
      this.#reading = false;
    }
  }

  async #newest(call: { signal: AbortSignal }): Promise<Page<JobView>> {
    const startMs = nowMs();
    try {
      return await ask<Page<JobView>>(this.#first, call);
    } finally {
      const endMs = nowMs();
      this.#lookAgainMs = endMs + Math.min(longestPauseMs, pausePerLook * (endMs - startMs));
    }
  }

  /** Looks at what became of jobs in sight, and for new ones where somebody sees the beginning of the list. */
  async renew(inSight: readonly JobView[], { withNew }: { withNew: boolean }): Promise<void> {
    if (this.#reading) return;
    this.#reading = true;
    try {
      const call = { signal: this.#stop.signal };
      const isTime = withNew && nowMs() >= this.#lookAgainMs;
      const first = isTime ? await this.#newest(call) : { items: [], links: { next: "" } };
      const fresh = new Set(first.items.map(({ id }) => id));
      // more came than a page holds: between them and those known are others
      const isApart = first.items.length > 0 && first.links.next !== undefined && !this.jobs.value.some(({ id }) => fresh.has(id));
      const open = inSight.filter((job) => !hasEnded(job) && !fresh.has(job.id)).slice(0, mostLooked);
      const asked = isApart ? [] : open; // where the list begins anew they are read with it
      const looked = await Promise.all(asked.map(({ id }) => ask<JobView>(`/v1/jobs/${id}`, call).catch(() => undefined)));
      const isWhole = first.links.next === undefined; // what is not among them has left the list
      const before = isWhole || isApart ? [] : this.jobs.value;
      if (isWhole || isApart) this.#next = first.links.next;
      this.jobs.value = merged(before, [...first.items, ...looked.filter((job) => job !== undefined)], "start");
      this.hasMore.value = this.#next !== undefined;
      if (!this.hasMore.value) this.isPaused.value = false;
      this.error.value = undefined;
    } catch (error) {
      if (!this.#stop.signal.aborted) this.error.value = error as Error;
      return;
    } finally {
      this.#reading = false;
    }
    await this.#readOn();
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
