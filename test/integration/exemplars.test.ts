/** From a slow bucket to one trace: exemplars of coordinators and workers, as a real Prometheus that keeps them gives them out. */

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { call, floats } from "../support/calls.ts";
import { startCollector } from "../support/otlp-collector.ts";
import { startProcesses } from "../support/processes.ts";
import { findPrometheus, startPrometheus } from "../support/prometheus.ts";
import { until } from "../support/until.ts";

const programs = await findPrometheus();
const skip = typeof programs === "string" ? programs : false;

interface ExemplarsOf {
  seriesLabels: Record<string, string>;
  exemplars: { labels: Record<string, string>; value: string }[];
}

/** Of which metrics the trace is an exemplar, by name without its end. */
async function metricsOf(prometheus: string, traceId: string): Promise<string[]> {
  const nowSeconds = Date.now() / 1_000;
  const query = { query: '{__name__=~"switchyard_.+_bucket"}', start: String(nowSeconds - 300), end: String(nowSeconds + 60) };
  const answer = await call(`${prometheus}/api/v1/query_exemplars?${new URLSearchParams(query)}`);
  assert.equal(answer.status, 200, answer.bytes.toString());
  const { data } = answer.json() as { data: ExemplarsOf[] };
  const named = data.filter(({ exemplars }) => exemplars.some(({ labels }) => labels.trace_id === traceId));
  return [...new Set(named.map(({ seriesLabels }) => seriesLabels.__name__!.replace(/_bucket$/, "")))].sort();
}

test("a request's trace is an exemplar of its own time, of its job's and of its run, in Prometheus", { skip }, async () => {
  assert.ok(typeof programs !== "string");
  await using collector = await startCollector();
  await using cluster = await startProcesses({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url } });
  const [host] = (await call(`${cluster.url}/v1/hosts`)).json().items;
  const [, coordinator] = /"listening".*?"metrics":"http:\/\/([^"]+)"/.exec(cluster.coordinators[0]!.log())!;
  await using prometheus = await startPrometheus(programs, {
    "switchyard-coordinator": [coordinator!],
    "switchyard-worker": [host.metrics],
  });
  const traceId = randomBytes(16).toString("hex");
  const traceparent = `00-${traceId}-00f067aa0ba902b7-01`;
  const body = { inputs: [floats("image", [1, 64], new Float64Array(64))] };
  assert.equal((await call(`${cluster.url}/v2/models/digits/infer`, { body, headers: { traceparent } })).status, 200);
  const expected = ["switchyard_http_request_seconds", "switchyard_job_e2e_seconds", "switchyard_run_seconds"];
  const seen = await until(
    "the trace in Prometheus",
    async () => {
      const found = await metricsOf(prometheus.url, traceId);
      return expected.every((name) => found.includes(name)) && found;
    },
    { withinMs: 60_000, show: () => `${prometheus.log()}\n${cluster.log()}` },
  );
  assert.ok(seen.length >= expected.length);
  const untraced = randomBytes(16).toString("hex");
  const quiet = { traceparent: `00-${untraced}-00f067aa0ba902b7-00` };
  assert.equal((await call(`${cluster.url}/v2/models/digits/infer`, { body, headers: quiet })).status, 200);
  // two scrapes later: a trace that is not recorded would lead nowhere
  const scrapes = async (): Promise<number> => {
    const query = new URLSearchParams({ query: "sum(count_over_time(up[5m]))" });
    const { data } = (await call(`${prometheus.url}/api/v1/query?${query}`)).json() as { data: { result: { value: [number, string] }[] } };
    return Number(data.result[0]?.value[1] ?? 0);
  };
  const before = await scrapes();
  await until("two more scrapes of each", async () => (await scrapes()) >= before + 4, { withinMs: 60_000 });
  assert.deepEqual(await metricsOf(prometheus.url, untraced), []);
});
