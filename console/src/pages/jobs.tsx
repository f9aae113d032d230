/** All jobs, by filters that the address holds; one is opened beside the list. */

import type { JobView, ModelView } from "@switchyard/protocol";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { apiKey, ask } from "../api.ts";
import { BulkDialog } from "../bulk.tsx";
import { number, plural } from "../format.ts";
import { JobGrid } from "../job-grid.tsx";
import { hasEnded, JobList, mayRetry } from "../job-list.ts";
import { beat, useResource } from "../live.ts";
import { type Bulk, bulkCancel, changeEach, outcomeText } from "../many-jobs.ts";
import { go, refine, route } from "../route.ts";
import { may } from "../session.ts";
import { Action, Fault, TextFilter } from "../widgets.tsx";
import { JobDetail } from "./job.tsx";

const states = ["queued", "running", "succeeded", "failed", "cancelled", "expired"];
const classes = ["interactive", "standard", "batch"];

export function JobsPage() {
  const { query, rest } = route.value;
  const filters = JSON.stringify(query);
  // the same filters are the same list
  const list = useMemo(() => new JobList(query), [filters]);
  const [bulk, setBulk] = useState<Bulk | undefined>(undefined);
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [outcome, setOutcome] = useState("");
  const choose = (ids: ReadonlySet<string>): void => {
    setChosen(ids);
    setOutcome("");
  };
  const leaving = useRef(new AbortController());
  useEffect(() => {
    choose(new Set());
    leaving.current = new AbortController();
    return () => {
      list.close();
      leaving.current.abort();
    };
  }, [list, apiKey.value]);
  const [id] = rest;
  const jobs = list.jobs.value;
  const selected = jobs.filter((job) => chosen.has(job.id));
  const onSelected = async (which: (job: JobView) => boolean, change: (id: string) => Promise<unknown>): Promise<void> => {
    const ids = selected.filter(which).map((job) => job.id);
    const { signal } = leaving.current;
    const changed = await changeEach(ids, change, signal);
    if (signal.aborted) return;
    choose(new Set(changed.refused.keys()));
    setOutcome(outcomeText(changed));
    beat.value += 1;
  };
  return (
    <>
      <h1>Jobs</h1>
      <Filters />
      <p class="actions" role="status">
        <span class="quiet">
          {plural(jobs.length, "job")}
          {list.hasMore.value ? " so far" : ""}
          {selected.length > 0 && `, ${number(selected.length)} selected`}
        </span>
        {list.isPaused.value && (
          <button type="button" onClick={() => void list.searchOn()}>
            Search further back
          </button>
        )}
        {may("submit") && selected.some((job) => !hasEnded(job)) && (
          <Action
            label={`Cancel ${selected.filter((job) => !hasEnded(job)).length} selected`}
            danger
            run={() =>
              onSelected(
                (job) => !hasEnded(job),
                (id) => ask(`/v1/jobs/${id}`, { method: "DELETE" }),
              )
            }
          />
        )}
        {may("submit") && selected.some(mayRetry) && (
          <Action
            label={`Retry ${selected.filter(mayRetry).length} selected`}
            run={() => onSelected(mayRetry, (id) => ask(`/v1/jobs/${id}/retry`, { method: "POST" }))}
          />
        )}
        {may("submit") && (
          <button type="button" onClick={() => setBulk(bulkCancel(query))}>
            Cancel all that match …
          </button>
        )}
        <span>{outcome}</span>
      </p>
      {list.error.value && <Fault error={list.error.value} />}
      <div class={id === undefined ? "split" : "split open"}>
        <JobGrid list={list} chosen={chosen} onChoose={choose} openId={id} />
        {id !== undefined && (
          <JobDetail key={id} id={id} listed={jobs.find((job) => job.id === id)} onClose={() => go("jobs", [], query)} />
        )}
      </div>
      {bulk && <BulkDialog bulk={bulk} onClose={() => setBulk(undefined)} />}
    </>
  );
}

function Filters() {
  const { query } = route.value;
  const models = useResource<{ items: ModelView[] }>("/v1/models", { once: true });
  const names = [...new Set(models.value?.items.map(({ model }) => model) ?? [])].sort();
  const choice = (name: string, options: readonly string[]) => (
    <label>
      {name}
      <select value={query[name] ?? ""} onChange={({ currentTarget }) => refine({ [name]: currentTarget.value })}>
        <option value="">all</option>
        {options.map((option) => (
          <option key={option} value={option}>
            {option}
          </option>
        ))}
      </select>
    </label>
  );
  const moment = (name: string, label: string) => (
    <label>
      {label}
      <input
        type="datetime-local"
        step={1}
        value={query[name] === undefined ? "" : localTime(query[name])}
        onChange={({ currentTarget: { value } }) => refine({ [name]: value === "" ? "" : new Date(value).toISOString() })}
      />
    </label>
  );
  return (
    <form class="filters" aria-label="Filters" onSubmit={(event) => event.preventDefault()}>
      {choice("state", states)}
      {choice("model", names)}
      {choice("class", classes)}
      <TextFilter name="tag" placeholder="name or name=value" />
      {may("operate") && <TextFilter name="host" placeholder="host id" />}
      {may("operate") && <TextFilter name="tenant" placeholder="own; * for all" />}
      {moment("created_after", "from")}
      {moment("created_before", "to")}
      <label>
        job
        <input
          type="search"
          class="find"
          placeholder="id"
          onChange={({ currentTarget: { value } }) => value.trim() !== "" && go("jobs", [value.trim()], query)}
        />
      </label>
    </form>
  );
}

/** As the input wants it: this machine's time, without a zone. */
function localTime(text: string): string {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return "";
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
