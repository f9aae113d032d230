/** What became of jobs, read from their records through the product's own list. Held calls keep theirs for a minute. */

import type { JobView } from "@switchyard/protocol";

const mostAPage = 200;

/** Every job of a model that was admitted since; with a key only those of its tenant. */
export async function jobsSince(url: string, of: { model: string; sinceMs: number; apiKey?: string }): Promise<JobView[]> {
  const headers = of.apiKey === undefined ? {} : { authorization: `Bearer ${of.apiKey}` };
  const query = new URLSearchParams({ model: of.model, created_after: new Date(of.sinceMs).toISOString(), limit: String(mostAPage) });
  const jobs: JobView[] = [];
  for (let next: string | undefined = `/v1/jobs?${query}`; next !== undefined; ) {
    const answer = await fetch(url + next, { headers });
    if (!answer.ok) throw new Error(`${next} answered ${answer.status}: ${await answer.text()}`);
    const page = (await answer.json()) as { items: JobView[]; links: { next?: string } };
    for (const job of page.items) jobs.push(job);
    next = page.links.next;
  }
  return jobs;
}

/**
 * Whether a run of this job began after its deadline, by Redis' clock: its claim, or the latest moment at which the run can have begun, which
 * is its length before the commit.
 */
export function startedLate(job: JobView): boolean {
  const deadlineMs = Date.parse(job.deadline);
  if (job.started_at === undefined) return false;
  if (Date.parse(job.started_at) > deadlineMs) return true;
  const runMs = job.timings?.run_ms ?? 0;
  return runMs > 0 && job.finished_at !== undefined && Date.parse(job.finished_at) - runMs > deadlineMs;
}
