/** The repository, and of one model its versions, what they take, how long they take, who is sent where; and a place to try it. */

import type { EstimatesView, ModelView } from "@switchyard/protocol";
import { Aliases } from "../aliases.tsx";
import { duration, number, plural, size } from "../format.ts";
import { useResource } from "../live.ts";
import { hashOf, route } from "../route.ts";
import { may } from "../session.ts";
import { TryIt } from "../try-it.tsx";
import { Loaded, State, Table } from "../widgets.tsx";

export function ModelsPage() {
  const [name] = route.value.rest;
  return name === undefined ? <AllModels /> : <OneModel key={name} name={name} />;
}

function AllModels() {
  const models = useResource<{ items: ModelView[] }>("/v1/models");
  return (
    <>
      <h1>Models</h1>
      <Loaded from={models}>
        {({ items }) => (
          <Table
            label="Models"
            rows={items}
            rowKey={({ model, version }) => `${model}@${version}`}
            columns={[
              { title: "model", cell: ({ model }) => <a href={hashOf("models", [model])}>{model}</a> },
              { title: "version", cell: ({ version }) => version, right: true },
              { title: "state", cell: ({ state }) => <State of={state} /> },
              { title: "size", cell: ({ size_bytes }) => size(size_bytes), right: true },
              { title: "batch", cell: ({ batching }) => (batching ? `up to ${batching.max_items}` : "–") },
              { title: "warm on", cell: ({ warm_on }) => warm_on?.join(", ") || "–" },
              { title: "why", cell: ({ reason }) => reason ?? "" },
            ]}
            empty="The repository is empty."
          />
        )}
      </Loaded>
    </>
  );
}

interface Statistics {
  model_stats: {
    version: string;
    inference_stats: { success: { count: number; ns: number }; fail: { count: number }; queue: { ns: number } };
    batch_stats: { batch_size: number; compute_infer: { count: number; ns: number } }[];
  }[];
}

function OneModel({ name }: { name: string }) {
  const path = encodeURIComponent(name);
  const versions = useResource<{ items: ModelView[] }>(`/v1/models/${path}`);
  const statistics = useResource<Statistics>(may("read", "operate") ? `/v2/models/${path}/stats` : undefined);
  const estimates = useResource<EstimatesView>(`/v1/models/${path}/estimates`);
  return (
    <>
      <h1>
        <a href={hashOf("models")}>Models</a> / {name}
      </h1>
      <Loaded from={versions}>
        {({ items }) => (
          <>
            {may("submit") && items[0] && <TryIt model={items.find(({ state }) => state === "ready") ?? items[0]} />}
            <h2>Versions</h2>
            <Table
              label="Versions"
              rows={items}
              rowKey={({ version }) => String(version)}
              columns={[
                { title: "version", cell: ({ version }) => version, right: true },
                { title: "state", cell: ({ state }) => <State of={state} /> },
                { title: "size", cell: ({ size_bytes }) => size(size_bytes), right: true },
                { title: "batch", cell: ({ batching }) => (batching ? `up to ${batching.max_items}: ${batching.reason}` : "–") },
                { title: "warm on", cell: ({ warm_on }) => warm_on?.join(", ") || "–" },
                { title: "digest", cell: ({ digest }) => <code title={digest}>{digest.slice(0, 12)}</code> },
                { title: "why", cell: ({ reason }) => reason ?? "" },
              ]}
              empty="None."
            />
            {items[0] && <Signature of={items[0]} />}
          </>
        )}
      </Loaded>
      <Aliases model={name} versions={versions.value?.items ?? []} />
      {may("read", "operate") && (
        <>
          <h2>Traffic</h2>
          <Loaded from={statistics}>
            {({ model_stats }) => (
              <Table
                label="Traffic"
                rows={model_stats}
                rowKey={({ version }) => version}
                columns={[
                  { title: "version", cell: ({ version }) => version, right: true },
                  { title: "succeeded", cell: ({ inference_stats: { success } }) => number(success.count), right: true },
                  { title: "failed", cell: ({ inference_stats: { fail } }) => number(fail.count), right: true },
                  { title: "mean", cell: ({ inference_stats: { success } }) => mean(success.ns, success.count), right: true },
                  { title: "mean wait", cell: ({ inference_stats: { queue, success } }) => mean(queue.ns, success.count), right: true },
                  {
                    title: "runs by items",
                    cell: ({ batch_stats }) =>
                      batch_stats
                        .map((batch) => `${batch.batch_size}: ${number(batch.compute_infer.count)}`)
                        .slice(0, 12)
                        .join(", ") || "–",
                  },
                ]}
                empty="Nothing has run yet."
              />
            )}
          </Loaded>
        </>
      )}
      <h2>Estimates</h2>
      <Loaded from={estimates}>
        {({ devices, network_ms, version }) => (
          <>
            <Table
              label="Estimates"
              rows={devices}
              rowKey={({ device, size_class }) => `${device} ${size_class}`}
              columns={[
                { title: "device", cell: ({ device }) => device },
                { title: "from", cell: ({ samples, source }) => `${source.replace("_", " ")}, ${plural(samples, "run")}` },
                { title: "an item", cell: ({ item_ms }) => duration(item_ms), right: true },
                { title: "at most, by items", cell: ({ runs }) => runs.map(({ items, ms }) => `${items}: ${duration(ms)}`).join(", ") },
                { title: "load", cell: ({ load_ms }) => duration(load_ms), right: true },
              ]}
              empty="No run was seen yet."
            />
            <p class="quiet">
              Of version {version}; the way to the store and back takes {duration(network_ms)}.
            </p>
          </>
        )}
      </Loaded>
    </>
  );
}

function mean(ns: number, count: number): string {
  return count === 0 ? "–" : duration(ns / count / 1_000_000);
}

function Signature({ of: { inputs, outputs, version } }: { of: ModelView }) {
  const rows = [...inputs.map((tensor) => ({ direction: "in", ...tensor })), ...outputs.map((tensor) => ({ direction: "out", ...tensor }))];
  return (
    <>
      <h2>Signature of version {version}</h2>
      <Table
        label="Signature"
        rows={rows}
        rowKey={({ direction, name }) => `${direction} ${name}`}
        columns={[
          { title: "", cell: ({ direction }) => direction },
          { title: "name", cell: ({ name }) => name },
          { title: "type", cell: ({ datatype }) => <code>{datatype}</code> },
          { title: "shape", cell: ({ shape }) => <code>{`[${shape.map((extent) => (extent < 0 ? "any" : extent)).join(", ")}]`}</code> },
        ]}
        empty="It takes and gives nothing."
      />
    </>
  );
}
