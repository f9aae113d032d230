/** Jobs that failed for good and can be submitted again. */

import type { DeadLetterView, JobView } from "@switchyard/protocol";
import { useState } from "preact/hooks";
import { ask } from "../api.ts";
import { BulkDialog } from "../bulk.tsx";
import { time } from "../format.ts";
import type { Page } from "../job-list.ts";
import { beat, useResource } from "../live.ts";
import { type Bulk, bulkRequeue } from "../many-jobs.ts";
import { go, hashOf, route } from "../route.ts";
import { may } from "../session.ts";
import { Action, Loaded, Table, TextFilter } from "../widgets.tsx";

export function DeadLettersPage() {
  const { query } = route.value;
  const letters = useResource<Page<DeadLetterView>>(`/v1/dead-letters?${new URLSearchParams({ ...query, limit: "200" })}`);
  const [bulk, setBulk] = useState<Bulk | undefined>(undefined);
  const requeue = async (letter: DeadLetterView): Promise<void> => {
    const again = await ask<JobView>(`/v1/jobs/${letter.id}/retry`, { method: "POST" });
    beat.value += 1;
    go("jobs", [again.id]);
  };
  const discard = async ({ id }: DeadLetterView): Promise<void> => {
    await ask(`/v1/dead-letters/${id}`, { method: "DELETE" });
    letters.again();
  };
  return (
    <>
      <h1>Dead letters</h1>
      <form class="filters" aria-label="Filters" onSubmit={(event) => event.preventDefault()}>
        <TextFilter name="model" placeholder="name" />
        <TextFilter name="code" placeholder="such as run_failed" />
        {may("operate") && (
          <button type="button" onClick={() => setBulk(bulkRequeue(query))}>
            Requeue all that match …
          </button>
        )}
      </form>
      <Loaded from={letters}>
        {({ items, links }) => (
          <>
            <Table
              label="Dead letters"
              rows={items}
              rowKey={({ id }) => id}
              columns={[
                { title: "job", cell: ({ id }) => <a href={hashOf("jobs", [id])}>{id}</a> },
                { title: "model", cell: ({ model, version }) => `${model}@${version}` },
                { title: "ended", cell: ({ finished_at }) => (finished_at === undefined ? "–" : time(finished_at)) },
                { title: "error", cell: ({ error }) => <code title={error?.detail}>{error?.code ?? "–"}</code> },
                { title: "attempts", cell: ({ attempt }) => attempt, right: true },
                { title: "hosts died", cell: ({ hosts_died }) => hosts_died, right: true },
                { title: "inputs", cell: ({ inputs_kept }) => (inputs_kept ? "kept" : "gone") },
                {
                  title: "change",
                  cell: (letter) => (
                    <span class="actions">
                      {may("submit") && letter.inputs_kept && <Action label="Requeue" run={() => requeue(letter)} />}
                      {may("submit", "operate") && <Action label="Discard" danger run={() => discard(letter)} />}
                    </span>
                  ),
                },
              ]}
              empty="None. Jobs that run out of attempts, or take hosts down, are kept here for a day."
            />
            {links.next !== undefined && <p class="quiet">There are more; narrow the filters to see them.</p>}
          </>
        )}
      </Loaded>
      {bulk && <BulkDialog bulk={bulk} onClose={() => setBulk(undefined)} />}
    </>
  );
}
