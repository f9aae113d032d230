/** The workers: what they can do, what they hold, how full their batches are; and the button that makes them take no jobs. */

import type { HostView } from "@switchyard/protocol";
import { ask } from "../api.ts";
import { duration, number, percent, plural, time } from "../format.ts";
import { useResource } from "../live.ts";
import { hashOf } from "../route.ts";
import { may } from "../session.ts";
import { Action, Bar, Loaded, State, Table } from "../widgets.tsx";

export function HostsPage() {
  const hosts = useResource<{ items: HostView[] }>("/v1/hosts");
  return (
    <>
      <h1>Hosts</h1>
      <Loaded from={hosts}>
        {({ items }) =>
          items.length === 0 ? (
            <p class="fault">No host is registered: nothing can run.</p>
          ) : (
            <div class="cards">
              {items.map((host) => (
                <Host key={host.incarnation} host={host} onChanged={hosts.again} />
              ))}
            </div>
          )
        }
      </Loaded>
    </>
  );
}

function Host({ host, onChanged }: { host: HostView; onChanged: () => void }) {
  const { batches = {}, model_memory_mb: memory } = host;
  const drain = async (method: "POST" | "DELETE"): Promise<void> => {
    await ask(`/v1/hosts/${encodeURIComponent(host.id)}/drain`, { method });
    onChanged();
  };
  const facts: [string, string][] = [
    ["device", host.device],
    ["providers", host.providers.join(", ")],
    ["frameworks", host.frameworks.join(", ")],
    ["cores", number(host.cores)],
    ["memory", `${number(host.memory_mb)} MB`],
    ["takes batches of", plural(host.tickets ?? 0, "queue")],
    ["heartbeat", `${duration(host.heartbeat_age_ms)} ago`],
    ["registered", time(host.registered_at)],
    ["version", host.version],
  ];
  for (const { memory_mb, name } of host.gpus) facts.push(["GPU", `${name}, ${number(memory_mb)} MB`]);
  for (const [name, value] of Object.entries(host.labels)) facts.push([`label ${name}`, value]);
  return (
    <article class="card" aria-label={`Host ${host.id}`}>
      <header>
        <h2>{host.id}</h2>
        <State of={host.state} />
      </header>
      {host.id_shared_with?.map(({ incarnation, metrics }) => (
        <p key={incarnation} class="fault">
          Another live host has this id ({metrics}): give each worker a SWITCHYARD_HOST_ID of its own, or none.
        </p>
      ))}
      <dl class="facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {memory && memory.lent > 0 && (
        <p>
          Models take <Bar share={memory.used / memory.lent} label={`${number(memory.used)} of ${number(memory.lent)} MB`} />
        </p>
      )}
      <Table
        label={`Models on ${host.id}`}
        rows={Object.entries(batches).map(([name, batch]) => ({ name, ...batch }))}
        rowKey={({ name }) => name}
        columns={[
          { title: "warm model", cell: ({ name }) => <a href={hashOf("models", [name.split("@")[0] as string])}>{name}</a> },
          { title: "runs", cell: ({ runs }) => number(runs), right: true },
          { title: "items a run", cell: ({ items, runs }) => (runs === 0 ? "–" : number(items / runs)), right: true },
          {
            title: "batch fill",
            cell: ({ items, max_items, runs }) =>
              runs === 0 ? "–" : <Bar share={items / runs / max_items} label={percent(items / runs / max_items)} />,
          },
          { title: "device time", cell: ({ device_ms }) => duration(device_ms), right: true },
        ]}
        empty="No model is loaded."
      />
      {Object.entries(host.failures ?? {}).map(([model, reason]) => (
        <p key={model} class="fault">
          {model}: {reason}
        </p>
      ))}
      {may("operate") && host.state !== "lost" && (
        <p class="actions">
          {host.state === "ready" ? (
            <Action label={`Drain ${host.id}`} danger run={() => drain("POST")} />
          ) : (
            <Action label={`Resume ${host.id}`} run={() => drain("DELETE")} />
          )}
          <span class="quiet">
            {host.state === "ready"
              ? "It will finish what it has, and take no more."
              : (host.tickets ?? 0) > 0
                ? "It finishes what it has."
                : "It has finished, and takes no jobs."}
          </span>
        </p>
      )}
    </article>
  );
}
