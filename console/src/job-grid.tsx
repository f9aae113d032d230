// biome-ignore-all lint/a11y/useSemanticElements: only the rows in sight exist, and a table cannot say of how many they are
/** The list of jobs as a grid: rows that are in sight, moved through by keyboard, read on as somebody scrolls. */

import type { JobView } from "@switchyard/protocol";
import { useEffect, useRef, useState } from "preact/hooks";
import { duration, time } from "./format.ts";
import type { JobList } from "./job-list.ts";
import { beat } from "./live.ts";
import { go, route } from "./route.ts";
import { useVirtualRows } from "./virtual-rows.ts";
import { State } from "./widgets.tsx";

const rowPx = 36;
/** So many rows before the end of what was read the next page is asked for. */
const readAhead = 40;

interface Props {
  list: JobList;
  chosen: ReadonlySet<string>;
  onChoose: (ids: ReadonlySet<string>) => void;
  openId: string | undefined;
}

export function JobGrid({ list, chosen, onChoose, openId }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const jobs = list.jobs.value;
  const { heightPx, rows, scrollTo } = useVirtualRows(jobs.length, { place, rowPx });
  // by its id: new jobs move the others
  const [atId, setAtId] = useState<string | undefined>(undefined);
  const at = Math.max(
    0,
    jobs.findIndex(({ id }) => id === atId),
  );
  const last = rows.at(-1)?.index ?? 0;
  useEffect(() => {
    void list.readTo(last + readAhead);
  }, [last, list]);
  // with each beat, not with each scroll
  useEffect(() => {
    if (beat.value === 0) return;
    const inSight = rows.flatMap(({ index }) => jobs[index] ?? []);
    // who has scrolled down reads there, and should not have the list moved away
    void list.renew(inSight, { withNew: (place.current?.scrollTop ?? 0) < rowPx });
  }, [beat.value, list]);
  const open = (job: JobView | undefined): void => {
    if (job) go("jobs", [job.id], route.value.query);
  };
  const toggle = (job: JobView): void => {
    const ids = new Set(chosen);
    if (!ids.delete(job.id)) ids.add(job.id);
    onChoose(ids);
  };
  const onKey = (event: KeyboardEvent): void => {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: 15, PageUp: -15, Home: -jobs.length, End: jobs.length }[event.key];
    const job = jobs[at];
    if (step !== undefined) {
      const next = Math.max(0, Math.min(jobs.length - 1, at + step));
      setAtId(jobs[next]?.id);
      scrollTo(next);
    } else if (event.key === "Enter") open(job);
    else if (event.key === "x" || event.key === " ") job && toggle(job);
    else return;
    event.preventDefault();
  };
  return (
    <div
      class="grid"
      ref={place}
      role="grid"
      aria-label="Jobs"
      aria-rowcount={jobs.length + 1}
      aria-activedescendant={jobs[at] ? `row-${jobs[at].id}` : undefined}
      tabIndex={0}
      onKeyDown={onKey}
    >
      <div class="row head" role="row" tabIndex={-1} aria-rowindex={1}>
        {["", "state", "model", "class", "created", "waited", "took", "attempt", "tags"].map((title) => (
          <span key={title} role="columnheader" tabIndex={-1} class={`cell ${title || "pick"}`}>
            {title || <span class="hidden">selected</span>}
          </span>
        ))}
      </div>
      <div role="rowgroup" class="body" style={{ height: `${heightPx}px` }}>
        {rows.map(({ index, topPx }) => {
          const job = jobs[index];
          if (!job) return null;
          return (
            // biome-ignore lint/a11y/useKeyWithClickEvents: the grid has the keys
            <div
              key={job.id}
              id={`row-${job.id}`}
              role="row"
              tabIndex={-1}
              aria-rowindex={index + 2}
              aria-selected={chosen.has(job.id)}
              class={`row ${index === at ? "at" : ""} ${job.id === openId ? "opened" : ""}`}
              style={{ transform: `translateY(${topPx}px)` }}
              onClick={() => {
                setAtId(job.id);
                open(job);
              }}
            >
              {/* biome-ignore lint/a11y/useKeyWithClickEvents: the grid has the keys */}
              <span role="gridcell" tabIndex={-1} class="cell pick" onClick={(event) => event.stopPropagation()}>
                <input
                  type="checkbox"
                  tabIndex={-1}
                  aria-label={`Select ${job.id}`}
                  checked={chosen.has(job.id)}
                  onChange={() => toggle(job)}
                />
              </span>
              <span role="gridcell" tabIndex={-1} class="cell state">
                <State of={job.state} />
              </span>
              <span role="gridcell" tabIndex={-1} class="cell model">
                {job.model}@{job.version}
              </span>
              <span role="gridcell" tabIndex={-1} class="cell class">
                {job.class}
              </span>
              <span role="gridcell" tabIndex={-1} class="cell created">
                {time(job.created_at)}
              </span>
              <span role="gridcell" tabIndex={-1} class="cell waited">
                {duration(job.timings?.queue_ms)}
              </span>
              <span role="gridcell" tabIndex={-1} class="cell took">
                {duration(job.timings?.total_ms)}
              </span>
              <span role="gridcell" tabIndex={-1} class="cell attempt">
                {job.attempt}
              </span>
              <span role="gridcell" tabIndex={-1} class="cell tags">
                {Object.entries(job.tags ?? {})
                  .map(([name, value]) => `${name}=${value}`)
                  .join(" ")}
              </span>
            </div>
          );
        })}
      </div>
    </div>
  );
}
