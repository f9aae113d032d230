/** One job is one trace, from the client through coordinator and worker, as a collector receives it; and nothing of it is there when it is off. */

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { cp, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { propagation, trace } from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import type { JobView } from "@switchyard/protocol";
import { ClientError, Switchyard } from "switchyard";
import { openTelemetry } from "switchyard/opentelemetry";
import { call, floats, jobView } from "../support/calls.ts";
import { GrpcClient } from "../support/grpc-client.ts";
import { type OtlpCollector, type SeenSpan, startCollector } from "../support/otlp-collector.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, layersModel, type Repository, rowsOf, slowModelOf } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const row = rowsOf(1)[0]!;
const inputs = [floats("x", [1, row.length], row)];
const ofOneJob = ["admit", "job", "queue", "attempt", "run", "commit"];

let models: Repository;
/** Where the worker looks. */
let own: Repository;
let collector: OtlpCollector;
let cluster: Processes;
before(async () => {
  models = await emptyRepository();
  // more than a worker loads before it registers: the hidden one is loaded when its first job comes
  for (let at = 0; at < 9; at++) await models.add(`layers-${at}`, layersModel(at + 1));
  await models.add("slow", await slowModelOf(300));
  own = await emptyRepository();
  await cp(models.folder, own.folder, { recursive: true });
  collector = await startCollector();
  cluster = await startProcesses({
    models: models.folder,
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_EXPORTER_OTLP_HEADERS: "x-tenant=north%20side" },
    workerEnv: { SWITCHYARD_MODELS: own.folder },
  });
});
after(async () => {
  await cluster?.stop();
  await collector?.close();
  await models?.remove();
  await own?.remove();
});

/** A caller's context in a trace of its own. */
function newTrace({ sampled = true } = {}): { traceId: string; spanId: string; traceparent: string } {
  const [traceId, spanId] = [randomBytes(16).toString("hex"), randomBytes(8).toString("hex")];
  return { traceId, spanId, traceparent: `00-${traceId}-${spanId}-${sampled ? "01" : "00"}` };
}

function one(spans: readonly SeenSpan[], name: string): SeenSpan {
  const found = spans.filter((span) => span.name === name);
  assert.equal(found.length, 1, `${found.length} spans are named ${name}: ${JSON.stringify(spans.map((span) => span.name))}`);
  return found[0]!;
}

async function coordinatorPage(): Promise<string> {
  const [, address] = /"listening".*?"metrics":"(http:[^"]+)"/.exec(cluster.coordinators[0]!.log())!;
  return (await call(`${address}/metrics`)).bytes.toString();
}

async function workerPage(): Promise<string> {
  const [host] = (await call(`${cluster.url}/v1/hosts`)).json().items;
  return (await call(`http://${host.metrics}/metrics`)).bytes.toString();
}

const sent = async (spans: readonly SeenSpan[], name: string): Promise<SeenSpan> =>
  until(`a span ${name}`, async () => spans.find((span) => span.name === name) ?? false);

/** Tells on standard error of each tracing library that is loaded. */
const loadsTold = `import { registerHooks } from "node:module";
registerHooks({
  resolve(specifier, context, next) {
    if (/^@opentelemetry.(sdk|exporter|resources)/.test(specifier)) process.stderr.write("LOADS " + specifier + "\\n");
    return next(specifier, context);
  },
});`;

describe("tracing", { concurrency: 2 }, () => {
  describe("one cluster", { concurrency: 1 }, () => {
    describe("undisturbed", { concurrency: 3 }, () => {
      test("a call of the client is one trace over client, coordinator and worker, with the right parents", async () => {
        const exporter = new InMemorySpanExporter();
        trace.setGlobalTracerProvider(new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] }));
        propagation.setGlobalPropagator(new W3CTraceContextPropagator());
        const client = new Switchyard({ url: cluster.url, tracing: openTelemetry() });
        await client.infer("layers-0", { x: { data: row, shape: [1, row.length] } });

        const [own] = exporter.getFinishedSpans();
        assert.equal(own?.name, "infer layers-0");
        const { traceId, spanId } = own.spanContext();
        const door = "POST /v2/models/:model/infer";
        const spans = await collector.whole(traceId, [door, ...ofOneJob]);
        assert.equal(spans.length, 1 + ofOneJob.length, JSON.stringify(spans.map(({ name }) => name)));
        const parents = Object.fromEntries(spans.map((span) => [span.name, span.parentId]));
        const idOf = (name: string): string => one(spans, name).spanId;
        assert.deepEqual(parents, {
          [door]: spanId,
          admit: idOf(door),
          job: idOf(door),
          queue: idOf("job"),
          attempt: idOf("job"),
          run: idOf("attempt"),
          commit: idOf("attempt"),
        });
        const services = Object.fromEntries(spans.map((span) => [span.name, span.service]));
        for (const name of [door, "admit", "job"]) assert.equal(services[name], "switchyard-coordinator");
        for (const name of ["queue", "attempt", "run", "commit"]) assert.equal(services[name], "switchyard-worker");
        for (const span of spans) assert.ok(span.status !== 2 && span.endMs >= span.startMs, JSON.stringify(span));
        const [job, attempt, queue, commit] = [one(spans, "job"), one(spans, "attempt"), one(spans, "queue"), one(spans, "commit")];
        assert.equal(job.attributes["switchyard.model"], "layers-0");
        assert.equal(attempt.attributes["switchyard.job.id"], job.attributes["switchyard.job.id"]);
        assert.equal(attempt.attributes["switchyard.host"], "worker-1");
        assert.ok(queue.startMs >= job.startMs - 1 && attempt.startMs >= queue.endMs - 1, JSON.stringify([job, queue, attempt]));
        // the job ends while the store has its commit, whose reply may be long on its way back to a busy host
        assert.ok(commit.startMs <= job.endMs + 20 && commit.endMs >= job.endMs - 20, JSON.stringify([job, commit]));
        assert.ok(attempt.endMs >= commit.endMs - 1, JSON.stringify([attempt, commit]));
        assert.equal(collector.headers()["x-tenant"], "north side");

        await assert.rejects(client.infer("no-such-model", { x: { data: row, shape: [1, row.length] } }), ClientError);
        const failed = exporter.getFinishedSpans().at(-1)!;
        assert.equal(failed.attributes["error.type"], "model_not_found");
        assert.equal(failed.status.code, 2);
        trace.disable();
        propagation.disable();
      });

      test("a job that is submitted and asked for later belongs to the trace of its submission, and its view names it", async () => {
        const { traceId, spanId, traceparent } = newTrace();
        const answer = await call(`${cluster.url}/v1/jobs`, {
          body: { model: "layers-0", inputs },
          headers: { traceparent, tracestate: "vendor=a b" },
        });
        assert.equal(answer.status, 202, answer.bytes.toString());
        assert.match(String(answer.headers.traceresponse), new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`));
        assert.equal((await jobView(cluster.url, answer.json().id, 10)).trace_id, traceId);
        const spans = await collector.whole(traceId, ["POST /v1/jobs", ...ofOneJob]);
        assert.equal(one(spans, "POST /v1/jobs").parentId, spanId);
        for (const span of spans) assert.equal(span.state, "vendor=a b", `${span.name} lost the tracestate`);
      });

      test("a trace that its caller does not record is recorded nowhere, and one that is not understood is begun anew", async () => {
        const { traceId, traceparent } = newTrace({ sampled: false });
        const infer = (headers: Record<string, string>) => call(`${cluster.url}/v2/models/layers-0/infer`, { body: { inputs }, headers });
        assert.equal((await infer({ traceparent })).status, 200);
        const other = newTrace();
        const answer = await infer({ traceparent: `${other.traceparent.slice(0, -3)}-zz` });
        const begun = String(answer.headers.traceresponse).split("-")[1]!;
        assert.notEqual(begun, other.traceId);
        await collector.whole(begun, ofOneJob); // sent after the spans of the first would have been
        assert.deepEqual([collector.ofTrace(traceId), collector.ofTrace(other.traceId)], [[], []]);
      });

      test("gRPC takes the context from the metadata, for calls and for each message of a stream", async () => {
        using client = new GrpcClient(cluster.coordinators[0]!.grpc);
        const { traceId, spanId, traceparent } = newTrace();
        const request = {
          model_name: "layers-0",
          inputs: [{ name: "x", datatype: "FP32", shape: [1, row.length], contents: { fp32_contents: [...row] } }],
        };
        const answer = await client.call("ModelInfer", request, { metadata: { traceparent } });
        assert.equal(answer.code, "OK", answer.details);
        const spans = await collector.whole(traceId, ["inference.GRPCInferenceService/ModelInfer", ...ofOneJob]);
        const door = one(spans, "inference.GRPCInferenceService/ModelInfer");
        assert.equal(door.parentId, spanId);
        assert.equal(one(spans, "job").parentId, door.spanId);
        assert.equal(door.attributes["rpc.grpc.status_code"], "OK");
      });

      test("the histograms of a host lead to a trace that is recorded, and to no other", async () => {
        const hidden = newTrace({ sampled: false });
        const { traceId, traceparent } = newTrace();
        for (const one of [hidden.traceparent, traceparent]) {
          const answer = await call(`${cluster.url}/v2/models/layers-2/infer`, { body: { inputs }, headers: { traceparent: one } });
          assert.equal(answer.status, 200, answer.bytes.toString());
        }
        let page = "";
        const runs = new RegExp(`^switchyard_run_seconds_bucket\\{.*model="layers-2".*\\} \\d+ # \\{trace_id="${traceId}"\\}`, "m");
        const seen = async (): Promise<boolean> => {
          page = await workerPage();
          return runs.test(page);
        };
        await until("an exemplar", seen, { show: () => page });
        assert.match(page, new RegExp(`^switchyard_job_queue_seconds_bucket\\{.*# \\{trace_id="${traceId}"\\}`, "m"));
        assert.doesNotMatch(page, new RegExp(hidden.traceId));
      });

      test("a batch is linked with the attempts at its jobs, in both directions", async () => {
        const { traceId, traceparent } = newTrace();
        const held = call(`${cluster.url}/v2/models/slow/infer`, { body: { inputs: [floats("x", [1], [1])] } }); // meanwhile the others gather
        const line = JSON.stringify({ model: "layers-1", inputs });
        const answer = await call(`${cluster.url}/v1/jobs:batch`, {
          body: Buffer.from(Array.from({ length: 8 }, () => `${line}\n`).join("")),
          headers: { traceparent, "content-type": "application/x-ndjson", prefer: "wait=20" },
        });
        assert.equal(answer.status, 200, answer.bytes.toString());
        assert.equal((await held).status, 200);
        const spans = await collector.whole(traceId, Array.from({ length: 8 }, () => ofOneJob).flat());
        const attempts = new Map(spans.filter(({ name }) => name === "attempt").map((span) => [span.spanId, span]));
        assert.equal(attempts.size, 8);
        const batches = collector.spans.filter(({ name, links }) => name === "batch" && links.some(({ spanId }) => attempts.has(spanId)));
        const largest = batches.toSorted((left, right) => right.links.length - left.links.length)[0]!;
        assert.ok(largest.links.length > 1, "no two of them shared a run");
        assert.equal(largest.parentId, "");
        assert.equal(largest.attributes["switchyard.batch.jobs"], largest.links.length);
        for (const link of largest.links) {
          assert.equal(link.traceId, traceId);
          assert.deepEqual(attempts.get(link.spanId)!.links, [{ traceId: largest.traceId, spanId: largest.spanId }]);
        }
        assert.equal(
          batches.reduce((sum, { links }) => sum + links.length, 0),
          8,
          "an attempt has no batch",
        );
        const parts = collector.ofTrace(largest.traceId).filter(({ parentId }) => parentId === largest.spanId);
        assert.deepEqual(parts.map(({ name }) => name).sort(), ["commit", "run"]);
      });

      test("a line about a request names its trace, as its answer does", async () => {
        const { traceId, traceparent } = newTrace();
        const answer = await call(`${cluster.url}/v1/hosts/nobody/drain`, { method: "DELETE", headers: { traceparent } });
        assert.equal(answer.status, 404, answer.bytes.toString());
        assert.equal(answer.json().trace_id, traceId);
        const line = /"drain_lifted","trace_id":"([^"]+)"/;
        const logged = await until("the line", async () => line.exec(cluster.coordinators[0]!.log())?.[1]);
        assert.equal(logged, traceId);
      });
    });

    test("who only looks is not traced unless the caller traces it", async () => {
      const before = collector.spans.length;
      await call(`${cluster.url}/v1/hosts`);
      await call(`${cluster.url}/readyz`);
      const { traceId, traceparent } = newTrace();
      await call(`${cluster.url}/v1/hosts`, { headers: { traceparent } });
      await collector.whole(traceId, ["GET /v1/hosts"]);
      const looks = collector.spans.slice(before).filter(({ name }) => name.startsWith("GET"));
      assert.equal(looks.length, 1);
    });

    test("each attempt that fails is an error of its own, and so is the job when none is left", async () => {
      // here alone: a coordinator whose scan missed it would have nobody try it again
      const file = path.join(own.folder, "layers-7", "1", "model.onnx");
      await rename(file, `${file}.away`);
      const { traceId, traceparent } = newTrace();
      const answer = await call(`${cluster.url}/v1/jobs`, {
        body: { model: "layers-7", inputs, max_attempts: 2 },
        headers: { traceparent },
      });
      const view = await jobView(cluster.url, answer.json().id, 20);
      assert.deepEqual([view.state, view.attempt], ["failed", 2]);
      const spans = await collector.whole(traceId, ["job", "attempt", "attempt"]);
      const attempts = spans.filter(({ name }) => name === "attempt").sort((left, right) => left.startMs - right.startMs);
      const seen = attempts.map(({ attributes, status }) => [
        attributes["switchyard.attempt"],
        attributes["switchyard.attempt.end"],
        status,
      ]);
      assert.deepEqual(seen, [
        [1, "retried", 2],
        [2, "failed", 2],
      ]);
      const job = one(spans, "job");
      assert.deepEqual([job.status, job.attributes["error.type"], job.attributes["switchyard.job.attempts"]], [2, "model_not_ready", 2]);
      assert.equal(one(spans, "POST /v1/jobs").status, 0); // the submission itself was fine
      await rename(`${file}.away`, file);

      // a dead letter that is submitted again goes on in its trace
      const retried = await until("the host to have forgotten its failure", async () => {
        const answered = await call(`${cluster.url}/v1/jobs/${view.id}/retry`, { method: "POST" });
        return answered.status < 300 && answered;
      });
      await jobView(cluster.url, retried.json().id, 30);
      const jobs = (await collector.whole(traceId, ["job", "job", "attempt", "attempt", "attempt"])).filter(({ name }) => name === "job");
      assert.equal(jobs.find(({ spanId }) => spanId !== job.spanId)!.parentId, job.spanId);
    });

    test("a job whose model is taken away before it ends has its span, and its model no series", async () => {
      const rescan = (): Promise<unknown> => call(`${cluster.url}/v2/repository/models/nobody/load`, { body: {} });
      const isKnown = async (): Promise<boolean> => (await call(`${cluster.url}/v1/models/away`)).status === 200;
      const { traceId, traceparent } = newTrace();
      await models.add("away", layersModel(20));
      await rescan();
      await until("the model to be found", isKnown);
      // the worker never has it: each attempt fails, and the job waits again
      const answer = await call(`${cluster.url}/v1/jobs`, {
        body: { model: "away", inputs, timeout_ms: 3_000, max_attempts: 10 },
        headers: { traceparent },
      });
      assert.equal(answer.status, 202, answer.bytes.toString());
      await rm(path.join(models.folder, "away"), { recursive: true });
      await rescan();
      await until("the model to be gone", async () => !(await isKnown()));
      const view = await jobView(cluster.url, answer.json().id, 20);
      assert.match(view.state, /^(expired|failed)$/);
      const job = one(await collector.whole(traceId, ["job"]), "job");
      assert.deepEqual([job.attributes["switchyard.model"], job.status], ["away", 2]);
      assert.doesNotMatch(await coordinatorPage(), /model="away"/);
    });

    test("a job that expires while it waits is an error without an attempt", async () => {
      const [worker] = cluster.workers;
      const { traceId, traceparent } = newTrace();
      worker!.signal("SIGSTOP"); // not for long enough to be given up
      const answer = await call(`${cluster.url}/v2/models/layers-0/infer`, {
        body: { inputs, parameters: { timeout: 300_000 } },
        headers: { traceparent },
      }).finally(() => worker!.signal("SIGCONT"));
      assert.equal(answer.status, 504, answer.bytes.toString());
      const spans = await collector.whole(traceId, ["admit", "job", "POST /v2/models/:model/infer"]);
      assert.deepEqual([one(spans, "job").status, one(spans, "job").attributes["error.type"]], [2, "expired"]);
      const door = one(spans, "POST /v2/models/:model/infer");
      assert.deepEqual([door.status, door.attributes["error.type"]], [2, "expired"]);
      assert.equal(
        spans.some(({ name }) => name === "attempt"),
        false,
      );
    });

    test("a client that does not wait for the answer leaves a span that says so, and a job that is cancelled", async () => {
      const { traceId, traceparent } = newTrace();
      const leaves = new AbortController();
      const body = JSON.stringify({ inputs: [{ ...inputs[0]!, data: [...row] }] });
      const headers = { traceparent, "content-type": "application/json" };
      const [worker] = cluster.workers;
      worker!.signal("SIGSTOP"); // not for long enough to be given up
      try {
        const asked = fetch(`${cluster.url}/v2/models/layers-3/infer`, { method: "POST", body, headers, signal: leaves.signal });
        const isAdmitted = async (): Promise<boolean> =>
          /^switchyard_jobs_admitted_total\{model="layers-3".*\} 1$/m.test(await coordinatorPage());
        await until("its admission", isAdmitted);
        leaves.abort();
        await assert.rejects(asked);
        // a worker that goes on before the coordinator has noticed may still answer
        await until("its end", async () => {
          const { items } = (await call(`${cluster.url}/v1/jobs?model=layers-3`)).json() as { items: JobView[] };
          return items[0]?.state === "cancelled";
        });
      } finally {
        worker!.signal("SIGCONT");
      }
      const spans = await collector.whole(traceId, ["POST /v2/models/:model/infer", "job"]);
      const door = one(spans, "POST /v2/models/:model/infer");
      assert.deepEqual(
        [door.attributes["http.response.status_code"], door.attributes["switchyard.client_gone"], door.status],
        [499, true, 0],
      );
      assert.equal(one(spans, "job").parentId, door.spanId);
    });

    test("spans that the collector does not take are counted, and told of once in the log", async () => {
      const pageOf = { coordinator: coordinatorPage, worker: workerPage };
      const counted = async (result: string): Promise<number[]> =>
        Promise.all(
          Object.values(pageOf).map(async (page) =>
            Number(new RegExp(`^switchyard_spans_total\\{result="${result}"\\} (\\d+)$`, "m").exec(await page())?.[1]),
          ),
        );
      const lines = (event: string): number[] =>
        [cluster.coordinators[0]!, cluster.workers[0]!].map((one) => one.log().split(`"event":"${event}"`).length - 1);
      const infer = async (): Promise<void> => {
        const { traceId, traceparent } = newTrace();
        assert.equal(
          (await call(`${cluster.url}/v2/models/layers-4/infer`, { body: { inputs }, headers: { traceparent } })).status,
          200,
          traceId,
        );
      };
      assert.deepEqual(await counted("failed"), [0, 0]);
      assert.ok((await counted("delivered")).every((spans) => spans > 0));
      collector.refuse(true);
      for (let round = 1, failed = [0, 0]; round <= 2; round++) {
        await infer();
        const before = failed;
        failed = await until("posts to fail", async () => {
          const now = await counted("failed");
          return now.every((spans, at) => spans > before[at]!) && now;
        });
      }
      await until("the lines to be read", async () => lines("spans_lost").every((count) => count > 0));
      assert.deepEqual(
        [lines("spans_lost"), lines("spans_delivered")],
        [
          [1, 1],
          [0, 0],
        ],
      );
      collector.refuse(false);
      await infer();
      await until("posts to succeed", async () => lines("spans_delivered").every((count) => count === 1), { show: () => cluster.log() });
      assert.deepEqual(await counted("dropped"), [0, 0]);
    });
  });

  describe("other clusters", { concurrency: 1 }, () => {
    let NODE_OPTIONS: string;
    before(async () => {
      const watch = path.join(models.folder, "..", `${path.basename(models.folder)}-loads.mjs`);
      await writeFile(watch, loadsTold);
      NODE_OPTIONS = `--import=${pathToFileURL(watch)}`;
    });

    test("without a collector named no tracing library is loaded, no record carries a context, and a caller's is passed over", async (t) => {
      const off = await startProcesses({ env: { NODE_OPTIONS } });
      t.after(() => off.stop());
      const { traceparent } = newTrace();
      const image = floats("image", [1, 64], new Float32Array(64));
      const answer = await call(`${off.url}/v1/jobs`, {
        body: { model: "digits", inputs: [image] },
        headers: { traceparent, prefer: "wait=30" },
      });
      const view = answer.json() as JobView;
      assert.equal(view.state, "succeeded");
      assert.equal(view.trace_id, undefined);
      assert.equal(answer.headers.traceresponse, undefined);
      assert.doesNotMatch(off.log(), /LOADS/);
    });

    test("with one the library is loaded, and an end delivers what is left", async (t) => {
      const { traceId, traceparent } = newTrace();
      await using collector = await startCollector();
      const other = await startProcesses({ env: { NODE_OPTIONS, OTEL_EXPORTER_OTLP_ENDPOINT: collector.url } });
      t.after(() => other.stop());
      for (const one of [other.coordinators[0]!, other.workers[0]!]) assert.match(one.log(), /LOADS @opentelemetry.sdk-trace/, one.name);
      const image = floats("image", [1, 64], new Float32Array(64));
      await call(`${other.url}/v2/models/digits/infer`, { body: { inputs: [image] }, headers: { traceparent } });
      await other.drain();
      assert.deepEqual(
        collector
          .ofTrace(traceId)
          .map(({ name }) => name)
          .sort(),
        ["POST /v2/models/:model/infer", ...ofOneJob].sort(),
      );
      await sent(collector.spans, "batch");
    });
  });
});
