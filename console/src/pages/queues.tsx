/** What waits for which model version, for how long, and when it will have run. */

import type { QueueView } from "@switchyard/protocol";
import { duration, number } from "../format.ts";
import { useResource } from "../live.ts";
import { hashOf } from "../route.ts";
import { Loaded, Table } from "../widgets.tsx";

export function QueuesPage() {
  const queues = useResource<{ items: QueueView[] }>("/v1/queues");
  return (
    <>
      <h1>Queues</h1>
      <Loaded from={queues}>
        {({ items }) => (
          <Table
            label="Queues"
            rows={items}
            rowKey={({ model, version }) => `${model}@${version}`}
            columns={[
              {
                title: "model",
                cell: ({ model, version }) => (
                  <a href={hashOf("models", [model])}>
                    {model}@{version}
                  </a>
                ),
              },
              {
                title: "waiting",
                cell: ({ model, queued }) => <a href={hashOf("jobs", [], { state: "queued", model })}>{number(queued)}</a>,
                right: true,
              },
              { title: "running", cell: ({ running }) => number(running), right: true },
              { title: "oldest", cell: ({ oldest_ms }) => duration(oldest_ms), right: true },
              { title: "empty in", cell: ({ drain_ms }) => duration(drain_ms), right: true },
              { title: "hosts", cell: ({ hosts }) => number(hosts), right: true },
              { title: "p50", cell: ({ recent }) => duration(recent.total_ms.p50), right: true },
              { title: "p99", cell: ({ recent }) => duration(recent.total_ms.p99), right: true },
              { title: "wait p95", cell: ({ recent }) => duration(recent.queue_ms.p95), right: true },
              { title: "missed", cell: ({ recent }) => number(recent.expired), right: true },
              { title: "refused", cell: ({ recent }) => number(recent.refused), right: true },
              { title: "dead", cell: ({ dead_letters }) => number(dead_letters), right: true },
              { title: "who waits", cell: ({ waiting }) => waiting.map(waiter).join(", ") || "–" },
            ]}
            empty="Nothing waits, and nothing has run in the last minute."
          />
        )}
      </Loaded>
      <p class="quiet">Latencies, misses and refusals are those of the last minute, of all versions of the model.</p>
    </>
  );
}

function waiter({ class: jobClass, jobs, tenant }: QueueView["waiting"][number]): string {
  return `${tenant === undefined ? "" : `${tenant} `}${jobClass} ${number(jobs)}`;
}
