/** One job, followed while it lives: what happened to it, what went in and what came out. */

import type { InputsView, JobLogView, JobView, SizesView, TimelineView } from "@switchyard/protocol";
import { useEffect, useState } from "preact/hooks";
import { ask, listen, Refusal } from "../api.ts";
import { duration, number, plural, size, time } from "../format.ts";
import { hasEnded, mayRetry } from "../job-list.ts";
import { beat, useResource } from "../live.ts";
import { go, hashOf } from "../route.ts";
import { may } from "../session.ts";
import { type ShownTensor, TensorPreview } from "../tensor-preview.tsx";
import { Action, Fault, Loaded, State } from "../widgets.tsx";

interface Props {
  id: string;
  /** As the list has it: another tenant's job is shown to operators there, and nowhere else. */
  listed: JobView | undefined;
  onClose: () => void;
}

export function JobDetail({ id, listed, onClose }: Props) {
  const [job, setJob] = useState<JobView | undefined>(undefined);
  const [error, setError] = useState<Error | undefined>(undefined);
  useEffect(() => {
    const stop = new AbortController();
    let isKnown = false;
    listen(`/v1/jobs/${encodeURIComponent(id)}/events`, {
      signal: stop.signal,
      onEvent: ({ data }) => {
        const view = JSON.parse(data) as JobView;
        isKnown = true;
        setJob(view);
        setError(undefined);
        if (hasEnded(view)) stop.abort();
      },
      // later the line at the top says it: a stream that is back brings no event until something changes
      onLost: (why) => why && !isKnown && setError(why),
    }).catch(setError);
    return () => stop.abort();
  }, [id]);
  const shown = job ?? listed;
  return (
    <article class="detail" aria-label={`Job ${id}`}>
      <header>
        <h2>{id}</h2>
        <button type="button" aria-label="Close the job" onClick={onClose}>
          ✕
        </button>
      </header>
      {shown === undefined && (error ? <Fault error={error} /> : <p class="quiet">…</p>)}
      {job && error && <Fault error={error} says="What is shown is not current" />}
      {shown && <Facts job={shown} />}
      {job && <Changes job={job} />}
      {job && <Timeline job={job} />}
      {!job && listed && error && <Unheard error={error} />}
      {job && <Log job={job} />}
      {job && <Tensors job={job} />}
    </article>
  );
}

/** Why no more is known of a job than the list says. */
function Unheard({ error }: { error: Error }) {
  const isForeign = error instanceof Refusal && error.code === "job_not_found";
  return isForeign ? <p class="quiet">Only this much of another tenant's job is shown.</p> : <Fault error={error} />;
}

function Facts({ job }: { job: JobView }) {
  const rows: [string, preact.ComponentChildren][] = [
    ["state", <State key="state" of={job.state} />],
    ["model", <a key="model" href={hashOf("models", [job.model])}>{`${job.model}@${job.version}`}</a>],
    ["class", job.class],
    ["created", time(job.created_at)],
    ["deadline", time(job.deadline)],
    ["attempt", number(job.attempt)],
  ];
  if (job.host !== undefined)
    rows.push([
      "host",
      <a key="host" href={hashOf("hosts")}>
        {job.host}
      </a>,
    ]);
  if (job.durability !== undefined && job.durability !== "fast") rows.push(["durability", job.durability]);
  if (job.retry_of !== undefined)
    rows.push([
      "retry of",
      <a key="retry" href={hashOf("jobs", [job.retry_of])}>
        {job.retry_of}
      </a>,
    ]);
  for (const [name, value] of Object.entries(job.tags ?? {})) rows.push([`tag ${name}`, value]);
  return (
    <>
      <dl class="facts">
        {rows.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {job.error && (
        <p class="fault">
          <code>{job.error.code}</code> {job.error.detail}
        </p>
      )}
    </>
  );
}

function Changes({ job }: { job: JobView }) {
  if (!may("submit")) return null;
  const cancel = async (): Promise<void> => {
    await ask(`/v1/jobs/${job.id}`, { method: "DELETE" });
    beat.value += 1;
  };
  const retry = async (): Promise<void> => {
    const again = await ask<JobView>(`/v1/jobs/${job.id}/retry`, { method: "POST" });
    beat.value += 1;
    go("jobs", [again.id]);
  };
  return (
    <p class="actions">
      {!hasEnded(job) && <Action label="Cancel this job" danger run={cancel} />}
      {mayRetry(job) && <Action label="Retry as a new job" run={retry} />}
    </p>
  );
}

const words: Record<TimelineView["events"][number]["event"], string> = {
  admitted: "admitted, began to wait",
  retried_from: "retry of an earlier job",
  started: "taken by a host",
  ran: "ran",
  answered_from_cache: "answered from the cache",
  attempt_failed: "attempt failed, waits to be tried again",
  handed_back: "given back unrun, waits again",
  host_lost: "its host died, waits again",
  claim_lost: "its host never heard of it, waits again",
  succeeded: "committed: succeeded",
  failed: "failed",
  cancelled: "cancelled",
  expired: "its deadline passed",
};

/** Part of what is asked for: each change of the job is another timeline, and another log. */
function changeOf({ attempt, started_at, state }: JobView): string {
  return new URLSearchParams({ state, attempt: String(attempt), started: started_at ?? "" }).toString();
}

function Timeline({ job }: { job: JobView }) {
  const timeline = useResource<TimelineView>(`/v1/jobs/${job.id}/timeline?${changeOf(job)}`, { once: true });
  const longest = Math.max(1, ...(timeline.value?.events.map(({ after_ms }) => after_ms) ?? []));
  return (
    <section>
      <h3>Timeline</h3>
      <Loaded from={timeline}>
        {({ events, untold_attempts: untold }) => (
          <ol class="timeline">
            {untold !== undefined && <li class="now">{plural(untold, "earlier attempt")} of which nothing is kept</li>}
            {events.map((event, at) => (
              <li key={at} class={event.event}>
                <time dateTime={event.at}>{time(event.at)}</time>
                <span class="after">{event.after_ms > 0 ? `+ ${duration(event.after_ms)}` : ""}</span>
                <span class="length" style={{ width: `${Math.round((100 * event.after_ms) / longest)}px` }} />
                <span>
                  {words[event.event]}
                  {event.event === "started" && event.host !== undefined && ` on ${event.host}`}
                  {event.event === "started" && event.attempt !== undefined && event.attempt > 1 && `, attempt ${event.attempt}`}
                  {event.run_ms !== undefined && ` for ${duration(event.run_ms)}`}
                  {event.batch_items !== undefined && batched(event.batch_items)}
                  {event.job !== undefined && <a href={hashOf("jobs", [event.job])}> {event.job}</a>}
                  {event.error && <> – {event.error.detail}</>}
                </span>
              </li>
            ))}
            {!hasEnded(job) && <li class="now">{job.state === "queued" ? "waiting …" : "running …"}</li>}
          </ol>
        )}
      </Loaded>
    </section>
  );
}

function Log({ job }: { job: JobView }) {
  const [wanted, setWanted] = useState(false);
  const log = useResource<JobLogView>(wanted ? `/v1/jobs/${job.id}/log?${changeOf(job)}` : undefined, { once: true });
  return (
    <details class="log" onToggle={({ currentTarget }) => setWanted(currentTarget.open)}>
      <summary>Log</summary>
      <Loaded from={log}>
        {({ lines }) => (
          // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
          <section class="scroll" aria-label="Log of the job" tabIndex={0}>
            {lines.map((line, at) => (
              <p key={at} class={line.level}>
                <time dateTime={line.at}>{line.at.slice(11, 23)}</time> {line.level} {line.source}
                {line.host !== undefined && ` ${line.host}`} <b>{line.event}</b> {textOf(line.fields)}
              </p>
            ))}
          </section>
        )}
      </Loaded>
    </details>
  );
}

function textOf(fields: JobLogView["lines"][number]["fields"]): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${/[\s"=]/.test(String(value)) ? JSON.stringify(value) : value}`)
    .join(" ");
}

function batched(items: number): string {
  return items === 1 ? ", alone" : ` in a batch of ${plural(items, "item")}`;
}

interface Result {
  outputs: ShownTensor[];
}

/** Smaller outputs are shown without asking. */
const mostUnaskedBytes = 65_536;
/** Beyond it the server answers names and shapes of inputs, without values. */
const mostInputBytes = 1_048_576;

function Tensors({ job }: { job: JobView }) {
  const sizes = useResource<SizesView>(`/v1/jobs/${job.id}/sizes?${changeOf(job)}`, { once: true });
  return <Loaded from={sizes}>{(known) => <SizedTensors job={job} sizes={known} />}</Loaded>;
}

function SizedTensors({ job, sizes: { inputs_bytes: inputBytes, outputs_bytes: outputBytes } }: { job: JobView; sizes: SizesView }) {
  const [wanted, setWanted] = useState({ inputs: false, outputs: false });
  const showsOutputs = outputBytes !== undefined && (wanted.outputs || outputBytes <= mostUnaskedBytes);
  // inputs go with the end of all jobs but dead letters
  const inputs = useResource<InputsView>(wanted.inputs ? `/v1/jobs/${job.id}/inputs` : undefined, { once: true });
  const result = useResource<Result>(showsOutputs ? job.links.result : undefined, { once: true });
  const shown = (tensor: ShownTensor) => <TensorPreview key={tensor.name} tensor={tensor} model={job.model} version={job.version} />;
  return (
    <section>
      <h3>Inputs</h3>
      {wanted.inputs ? (
        <Loaded from={inputs}>{(view) => view.inputs.map(shown)}</Loaded>
      ) : inputBytes === undefined ? (
        <p class="quiet">Gone: after the end they are kept for dead letters only.</p>
      ) : (
        <p class="actions">
          <button type="button" onClick={() => setWanted({ ...wanted, inputs: true })}>
            Show the inputs
          </button>
          <span class="quiet">
            {size(inputBytes)}
            {inputBytes > mostInputBytes && "; their shapes only, as they are large"}
          </span>
        </p>
      )}
      <h3>Outputs</h3>
      {showsOutputs ? (
        <Loaded from={result}>{({ outputs }) => outputs.map(shown)}</Loaded>
      ) : outputBytes !== undefined ? (
        <p class="actions">
          <button type="button" onClick={() => setWanted({ ...wanted, outputs: true })}>
            Show the outputs
          </button>
          <span class="quiet">{size(outputBytes)}</span>
        </p>
      ) : (
        <p class="quiet">
          {!hasEnded(job) ? "Not yet." : job.state === "succeeded" ? "They are no longer kept." : "None: it did not succeed."}
        </p>
      )}
    </section>
  );
}
