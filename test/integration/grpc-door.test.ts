/** The gRPC door: what each method answers, statuses and trailers, deadlines, keys, limits, reflection, health, draining. The job service is a fake. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type ErrorCode, errors, SwitchyardError } from "@switchyard/protocol";
import { type Scope, scopes } from "@switchyard/protocol/api-keys";
import { OpentelemetryTracing } from "../../coordinator/src/adapters/opentelemetry-tracing.ts";
import { KeyedAccess } from "../../coordinator/src/application/access.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { createGrpcServer } from "../../coordinator/src/doors/grpc-server.ts";
import type { ApiKey } from "../../coordinator/src/ports/key-ring.ts";
import { fakeModels } from "../support/fake-job-service.ts";
import { collect, GrpcClient, healthService, inferenceService, methodOf } from "../support/grpc-client.ts";
import { floats, tinyScores } from "../support/open-door.ts";
import { type OpenGrpc, openGrpc, tinyMessage } from "../support/open-grpc.ts";
import { framed, PlainGrpc } from "../support/plain-grpc.ts";
import { until } from "../support/until.ts";

const raw = { inputs: [{ name: "image", datatype: "FP32", shape: [1, 4] }], raw_input_contents: [floats(1, 2, 3, 4)] };

test("an inference answers raw contents, whichever way its inputs came, and the client's id", async (t) => {
  const door = await openGrpc(t);
  door.jobs.run = tinyScores;
  for (const request of [tinyMessage({ id: "seven" }), tinyMessage({ ...raw, id: "seven" })]) {
    const { code, message } = await door.client.call("ModelInfer", request);
    assert.equal(code, "OK");
    assert.deepEqual([message.model_name, message.model_version, message.id], ["tiny", "2", "seven"]);
    assert.deepEqual(
      message.outputs.map(({ name, datatype, shape, contents }: Record<string, unknown>) => [name, datatype, shape, contents]),
      [["scores", "FP32", ["1", "3"], null]],
    );
    assert.deepEqual(message.raw_output_contents, [floats(0.25, 0.5, 0.125)]);
  }
  const [first] = door.jobs.submissions;
  assert.equal(first!.hold, true);
  assert.equal(first!.timeoutMs, undefined);
  for (const { request } of door.jobs.submissions) assert.deepEqual(Buffer.from(request.inputs[0]!.bytes), floats(1, 2, 3, 4));
});

test("a text that is cut in the midst of a character ends a call, and not the server", async (t) => {
  const door = await openGrpc(t);
  const service = `a${"\u{1f600}".repeat(2_000)}`;
  const { code, details } = await door.client.call("Check", { service }, {}, healthService);
  assert.deepEqual([code, details.isWellFormed()], ["NOT_FOUND", true]);
  const input = { name: service, datatype: "FP32", shape: [1, 4] };
  const twice = { inputs: [input, input], raw_input_contents: [floats(1, 2, 3, 4), floats(1, 2, 3, 4)] };
  assert.equal((await door.client.call("ModelInfer", tinyMessage(twice))).code, "INVALID_ARGUMENT");
  assert.equal((await door.client.call("ServerLive", {})).code, "OK");
});

test("typed contents and classification are answered when they are asked for", async (t) => {
  const door = await openGrpc(t);
  door.jobs.run = tinyScores;
  const typed = await door.client.call("ModelInfer", tinyMessage({ parameters: { typed_contents: { bool_param: true } } }));
  assert.deepEqual(typed.message.outputs[0].contents.fp32_contents, [0.25, 0.5, 0.125]);
  assert.deepEqual(typed.message.raw_output_contents, []);
  const outputs = [{ name: "scores", parameters: { classification: { int64_param: "2" } } }];
  const classes = await door.client.call("ModelInfer", tinyMessage({ model_version: "1", outputs }));
  assert.match(classes.message.raw_output_contents[0].toString("latin1"), /0\.5:1:one.*0\.25:0:zero/s);
});

test("the smallest of deadline, timeout parameter and metadata wins, and priority names a class", async (t) => {
  const door = await openGrpc(t);
  door.jobs.run = tinyScores;
  const timeout = (us: number) => ({ parameters: { timeout: { int64_param: String(us) }, priority: { uint64_param: "1" } } });
  await door.client.call("ModelInfer", tinyMessage(timeout(500_000)), { deadlineMs: 20_000 });
  await door.client.call("ModelInfer", tinyMessage(timeout(60_000_000)), { metadata: { "x-request-timeout-ms": "700" } });
  await door.client.call("ModelInfer", tinyMessage(timeout(60_000_000)), { deadlineMs: 20_000 });
  await door.client.call("ModelInfer", tinyMessage(timeout(0)), { deadlineMs: 20 * 86_400_000 }); // beyond the longest: not refused
  const [given, header, deadline, far] = door.jobs.submissions;
  assert.deepEqual([given!.timeoutMs, given!.class, header!.timeoutMs], [500, "interactive", 700]);
  assert.ok(deadline!.timeoutMs! > 15_000 && deadline!.timeoutMs! <= 20_000, `${deadline!.timeoutMs}`);
  assert.ok(far!.timeoutMs === undefined || far!.timeoutMs <= 86_400_000, `${far!.timeoutMs}`);
  for (const wrong of [
    tinyMessage({ parameters: { timeout: { int64_param: "-1" } } }),
    tinyMessage({ parameters: { priority: { int64_param: "-1" } } }),
  ])
    assert.equal((await door.client.call("ModelInfer", wrong)).code, "INVALID_ARGUMENT");
});

test("a deadline that passes ends the call in time and cancels the job", async (t) => {
  const door = await openGrpc(t);
  await until("a call that was there before its deadline", async () => {
    const { code, tookMs } = await door.client.call("ModelInfer", tinyMessage(), { deadlineMs: 150 });
    assert.equal(code, "DEADLINE_EXCEEDED");
    assert.ok(tookMs < 20_000, `${tookMs}`);
    return door.jobs.submissions.length > 0;
  });
  await until("the job to be cancelled", async () => door.jobs.cancelled.length === door.jobs.submissions.length);
  await until("the call to be counted", async () =>
    /grpc_request_seconds_count\{method="ModelInfer",code="DEADLINE_EXCEEDED"\} [1-9]/.test(await door.metricsText()),
  );
});

test("a client that cancels takes its job along, but not one with an idempotency key", async (t) => {
  const door = await openGrpc(t);
  for (const [key, cancelled] of [
    [undefined, 1],
    ["mine", 1],
  ] as const) {
    const leaving = new AbortController();
    const before = door.jobs.submissions.length;
    const call = door.client.call("ModelInfer", tinyMessage(), {
      signal: leaving.signal,
      ...(key && { metadata: { "idempotency-key": key } }),
    });
    await until("the job", async () => door.jobs.submissions.length > before);
    leaving.abort();
    assert.equal((await call).code, "CANCELLED");
    await until("the job to be cancelled", async () => door.jobs.cancelled.length === cancelled);
  }
});

test("a repeat with its idempotency key answers the same job, another request under it is refused", async (t) => {
  const door = await openGrpc(t);
  door.jobs.run = tinyScores;
  const ask = (extra: object) => door.client.call("ModelInfer", tinyMessage({ ...extra }), { metadata: { "idempotency-key": '"k 1"' } });
  assert.equal((await ask({})).trailers["idempotent-replayed"], undefined);
  const again = await ask({});
  assert.deepEqual([again.code, again.trailers["idempotent-replayed"]], ["OK", "true"]);
  assert.equal(door.jobs.submissions.length, 1);
  assert.equal((await ask({ id: "other" })).code, "ALREADY_EXISTS");
});

test("every error has the status of the table, the text of /v2, and the headers of HTTP as trailers", async (t) => {
  const door = await openGrpc(t);
  for (const code of Object.keys(errors) as ErrorCode[]) {
    door.jobs.failure = new SwitchyardError(
      code,
      `why ${code}`,
      code === "deadline_unattainable" ? { estimatedMs: 1234, retryAfterMs: 2_500 } : {},
    );
    const http = await fetch(`${door.url}/v2/models/tiny/infer`, {
      method: "POST",
      body: JSON.stringify({ inputs: [{ name: "image", datatype: "FP32", shape: [1, 4], data: [1, 2, 3, 4] }] }),
    });
    const { error } = await http.json();
    door.jobs.failure = new SwitchyardError(
      code,
      `why ${code}`,
      code === "deadline_unattainable" ? { estimatedMs: 1234, retryAfterMs: 2_500 } : {},
    );
    const { code: status, details, trailers } = await door.client.call("ModelInfer", tinyMessage(), { metadata: { "x-request-id": "r1" } });
    assert.deepEqual([status, details, trailers["x-switchyard-error"], trailers["x-request-id"]], [errors[code].grpc, error, code, "r1"]);
    assert.equal(trailers["retry-after"] === undefined, http.headers.get("retry-after") === null, code);
    if (code !== "deadline_unattainable") continue;
    assert.equal(status, "UNAVAILABLE");
    assert.deepEqual([trailers.estimated_ms, trailers["retry-after"]], ["1234", "3"]);
  }
});

test("a bug is logged under the call's id and answered without its text", async (t) => {
  const door = await openGrpc(t);
  door.jobs.failure = new TypeError("the inner text");
  const { code, details } = await door.client.call("ModelInfer", tinyMessage(), { metadata: { "x-request-id": "r2" } });
  assert.equal(code, "INTERNAL");
  assert.match(details, /trace id r2/);
  assert.doesNotMatch(details, /inner text/);
  assert.match(String(door.logged[0]?.fields?.error), /the inner text/);
});

test("a bug in a traced call is logged under its trace, and answered with it", async (t) => {
  const settings = {
    endpoint: "http://127.0.0.1:9/v1/traces",
    headers: {},
    resource: {},
    timeoutMs: 100,
    sampler: { share: 1, followsCaller: true },
  };
  const tracing = new OpentelemetryTracing(settings, { version: "1", instance: "one" }, { count() {}, failing() {}, delivering() {} });
  t.after(() => tracing.close());
  const door = await openGrpc(t, {}, { tracing });
  door.jobs.failure = new TypeError("the inner text");
  const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
  const metadata = { "x-request-id": "r3", traceparent: `00-${traceId}-00f067aa0ba902b7-01` };
  const { code, details, trailers } = await door.client.call("ModelInfer", tinyMessage(), { metadata });
  assert.deepEqual([code, trailers["x-request-id"], door.logged[0]?.fields?.trace_id], ["INTERNAL", "r3", traceId]);
  assert.match(details, new RegExp(`trace id ${traceId}`));
});

test("what is no request is refused in words, and the door goes on", async (t) => {
  const door = await openGrpc(t);
  door.jobs.run = tinyScores;
  const cases: [string, Uint8Array | Record<string, unknown>, string, RegExp][] = [
    ["ModelInfer", Buffer.from([0x2a, 0xff]), "INVALID_ARGUMENT", /no ModelInferRequest/],
    ["ModelMetadata", Buffer.from([0x0a, 0xff]), "INVALID_ARGUMENT", /no ModelMetadataRequest/],
    [
      "ModelInfer",
      tinyMessage({ ...raw, inputs: [{ ...raw.inputs[0], contents: { fp32_contents: [1] } }] }),
      "INVALID_ARGUMENT",
      /contents field must not be specified when using raw_input_contents for 'image' for model 'tiny'/,
    ],
    ["ModelInfer", tinyMessage({ model_name: "none" }), "NOT_FOUND", /Request for unknown model/],
    ["ModelInfer", tinyMessage({ model_version: "9" }), "NOT_FOUND", /Request for unknown model/],
    ["ModelInfer", tinyMessage({ model_version: "one" }), "NOT_FOUND", /has no version one/],
    ["ModelInfer", tinyMessage({ parameters: { sequence_id: { int64_param: "7" } } }), "UNIMPLEMENTED", /[Ss]equence/],
    ["ModelInfer", tinyMessage({ parameters: { sequence_id: { string_param: "s" } } }), "UNIMPLEMENTED", /[Ss]equence/],
    ["ModelConfig", { name: "broken" }, "FAILED_PRECONDITION", /failed to load: the graph ends early/],
  ];
  for (const [method, request, status, text] of cases) {
    const { code, details } = await door.client.call(method, request);
    assert.equal(code, status, details);
    assert.match(details, text);
  }
  for (const method of ["SystemSharedMemoryStatus", "CudaSharedMemoryRegister", "TraceSetting", "LogSettings", "Nothing"]) {
    assert.equal((await door.client.raw(`/${inferenceService}/${method}`, new Uint8Array())).code, "UNIMPLEMENTED", method);
  }
  assert.equal((await door.client.call("ModelInfer", tinyMessage({ parameters: { sequence_id: { int64_param: "0" } } }))).code, "OK");
  assert.deepEqual(door.logged, []);
});

test("server and models are told as over HTTP", async (t) => {
  const door = await openGrpc(t);
  const http = async (path: string, body?: object) =>
    (await fetch(door.url + path, body && { method: "POST", body: JSON.stringify(body) })).json();
  const ask = async (method: string, request: object = {}) => {
    const { code, message, details } = await door.client.call(method, request);
    assert.equal(code, "OK", details);
    return message;
  };
  assert.deepEqual(await ask("ServerLive"), { live: true });
  assert.deepEqual(await ask("ServerReady"), { ready: true });
  assert.deepEqual(await ask("ServerMetadata"), await http("/v2"));
  const digits = (tensors: { shape: string[] }[]) => tensors.map(({ shape, ...more }) => ({ ...more, shape: shape.map(Number) }));
  for (const [request, path] of [
    [{ name: "tiny" }, "/v2/models/tiny"],
    [{ name: "tiny", version: "1" }, "/v2/models/tiny/versions/1"],
  ] as const) {
    const { inputs, outputs, ...more } = await ask("ModelMetadata", request);
    assert.deepEqual({ ...more, inputs: digits(inputs), outputs: digits(outputs) }, await http(path));
  }
  const { config } = await ask("ModelConfig", { name: "tiny" });
  const expected = (await http("/v2/models/tiny/config")) as { input: { dims: number[] }[] };
  assert.deepEqual([config.name, config.platform, config.backend, config.max_batch_size], ["tiny", "onnxruntime_onnx", "onnxruntime", 0]);
  assert.deepEqual(config.input[0].data_type, "TYPE_FP32");
  assert.deepEqual(config.input[0].dims.map(Number), expected.input[0]!.dims);
  assert.deepEqual(config.version_policy.specific.versions, ["2"]);
  assert.deepEqual(config.instance_group[0].kind, "KIND_CPU");
  assert.equal(config.model_transaction_policy.decoupled, false);
  assert.deepEqual((await ask("RepositoryIndex")).models, await http("/v2/repository/index", {}));
  assert.equal((await ask("RepositoryIndex", { ready: true })).models.length, 3);
  for (const [request, ready] of [
    [{ name: "tiny" }, true],
    [{ name: "tiny", version: "9" }, false],
    [{ name: "none" }, false],
    [{ name: "broken" }, false],
  ] as const)
    assert.deepEqual(await ask("ModelReady", request), { ready }, JSON.stringify(request));
  door.jobs.problems.push({ check: "store", detail: "away" });
  assert.deepEqual(await ask("ServerReady"), { ready: false });
});

test("a version that is numbered by a clock is found through every door, and one that no double can hold through none", async (t) => {
  const door = await openGrpc(t);
  const [known] = door.models.versions("tiny");
  const numbered = fakeModels([{ model: "dated", version: 1_732_752_000_000_000, signature: known!.version.signature }]);
  Object.assign(door.models, numbered);
  door.jobs.run = tinyScores;
  const version = "1732752000000000";
  for (const path of ["/v2/models/dated/versions/V", "/v2/models/dated/versions/V/ready", "/v1/models/dated/versions/V"]) {
    assert.equal((await fetch(door.url + path.replace("V", version))).status, 200, path);
    for (const other of ["9007199254740993", "17327520000000000"]) {
      assert.equal((await fetch(door.url + path.replace("V", other))).status, 404, path);
    }
  }
  assert.equal((await door.client.call("ModelMetadata", { name: "dated", version })).code, "OK");
  assert.deepEqual((await door.client.call("ModelReady", { name: "dated", version })).message, { ready: true });
  const { code, message } = await door.client.call("ModelInfer", tinyMessage({ model_name: "dated", model_version: version }));
  assert.deepEqual([code, message?.model_version], ["OK", version]);
});

test("whoever looks at a model sees the version that most requests get, each time the same", async (t) => {
  const door = await openGrpc(t);
  const [second, first] = door.models.versions("tiny");
  let draws = 0;
  door.models.resolve = () => (++draws % 2 === 0 ? first! : second!); // of a split
  door.models.usual = () => first!;
  for (const path of ["/v2/models/tiny", "/v2/models/tiny/config", "/v2/models/tiny/versions/canary", "/v1/models/tiny/versions/canary"]) {
    const seen = new Set<string>();
    for (let looks = 0; looks < 4; looks++) seen.add(await (await fetch(door.url + path)).text());
    assert.equal(seen.size, 1, path);
  }
  for (const method of ["ModelMetadata", "ModelConfig"]) {
    const seen = new Set<string>();
    for (let looks = 0; looks < 4; looks++) seen.add(JSON.stringify((await door.client.call(method, { name: "tiny" })).message));
    assert.equal(seen.size, 1, method);
  }
  first!.state = "failed";
  for (let looks = 0; looks < 4; looks++) {
    assert.equal((await fetch(`${door.url}/v2/models/tiny/ready`)).status, 400);
    assert.deepEqual((await door.client.call("ModelReady", { name: "tiny" })).message, { ready: false });
  }
});

const everything = new Set<Scope>(scopes);
const key = (id: string, wishes: Partial<ApiKey> = {}): ApiKey => ({ id, tenant: "red", weight: 1, scopes: everything, ...wishes });

async function guardedDoor(t: TestContext, keys: ApiKey[]): Promise<OpenGrpc> {
  const ring = { find: (secret: string) => keys.find(({ id }) => id === secret), all: () => keys };
  return openGrpc(t, {}, { access: new KeyedAccess({ keys: ring, hosts: { isHost: async () => false }, clock: systemClock }) });
}

test("keys open methods as they open the routes that ask the same", async (t) => {
  const door = await guardedDoor(t, [
    key("all"),
    key("submit", { scopes: new Set(["submit"]) }),
    key("read", { scopes: new Set(["read"]) }),
    key("admin", { scopes: new Set(["admin"]) }),
    key("pair", { models: new Set(["pair"]) }),
  ]);
  door.jobs.run = tinyScores;
  const codes = async (method: string, request: object, service?: string) => {
    const found: string[] = [];
    for (const secret of [undefined, "nobody", "all", "submit", "read", "admin", "pair"]) {
      const metadata: Record<string, string> = secret === undefined ? {} : { authorization: `Bearer ${secret}` };
      found.push((await door.client.call(method, request, { metadata }, service)).code);
    }
    return found;
  };
  const [no, may, not] = ["UNAUTHENTICATED", "OK", "PERMISSION_DENIED"];
  const open = new Array(7).fill(may);
  assert.deepEqual(await codes("ServerLive", {}), open);
  assert.deepEqual(await codes("ServerReady", {}), open);
  assert.deepEqual(await codes("Check", {}, healthService), open);
  assert.deepEqual(await codes("ServerMetadata", {}), [no, no, may, may, may, may, may]);
  assert.deepEqual(await codes("ModelInfer", tinyMessage()), [no, no, may, may, not, not, not]);
  assert.deepEqual(await codes("ModelMetadata", { name: "tiny" }), [no, no, may, may, may, not, not]);
  assert.deepEqual(await codes("ModelReady", { name: "tiny" }), [no, no, may, may, may, not, not]);
  assert.deepEqual(await codes("RepositoryIndex", {}), [no, no, may, may, may, not, may]);
  const index = await door.client.call("RepositoryIndex", {}, { metadata: { authorization: "Bearer pair" } });
  assert.deepEqual(
    index.message.models.map(({ name }: { name: string }) => name),
    ["pair"],
  );
  for (const [secret, code] of [
    ["read", not],
    ["nobody", no],
  ] as const) {
    const stream = door.client.stream({ metadata: { authorization: `Bearer ${secret}` } });
    assert.equal((await collect(stream)).code, code);
  }
  assert.match(await door.metricsText(), /grpc_request_seconds_count\{method="ModelInfer",code="UNAUTHENTICATED"\} 2/);
});

test("a call without a key is refused before its message is there", async (t) => {
  const door = await guardedDoor(t, [key("all")]);
  const endless = door.client.duplex({ ...methodOf(inferenceService, "ModelInfer"), requestStream: true, responseStream: true });
  assert.equal((await collect(endless)).code, "UNAUTHENTICATED");
});

test("a message beyond the limit is refused, compressed or not, and one within it passes compressed", async (t) => {
  const door = await openGrpc(t, { maxBodyBytes: 10_000 });
  door.jobs.run = tinyScores;
  const large = tinyMessage({ parameters: { text: { string_param: "a".repeat(20_000) } } });
  assert.equal((await door.client.call("ModelInfer", large)).code, "RESOURCE_EXHAUSTED");
  using packed = new GrpcClient(door.grpc, { "grpc.default_compression_algorithm": 2 });
  assert.equal((await packed.call("ModelInfer", large)).code, "RESOURCE_EXHAUSTED");
  assert.equal((await packed.call("ModelInfer", tinyMessage())).code, "OK");
  door.jobs.run = () => [{ name: "scores", datatype: "FP32", shape: [1, 3000], bytes: new Uint8Array(12_000) }];
  assert.equal((await door.client.call("ModelInfer", tinyMessage())).code, "OK", "what was run is answered");
});

test("a stream answers each message in order, errors inside it, and goes on", async (t) => {
  const door = await openGrpc(t);
  const stream = door.client.stream();
  const all = collect(stream);
  const ids = Array.from({ length: 100 }, (_, at) => `m${at}`);
  for (const [at, id] of ids.entries()) {
    const final = at === 0 ? { parameters: { triton_enable_empty_final_response: { bool_param: true } } } : {};
    stream.write(tinyMessage({ id, ...final, ...(at === 5 && { model_name: "none" }) }));
  }
  stream.end();
  // the jobs end in another order than they came
  const ended = new Set<string>();
  await until("all jobs to have ended", async () => {
    const { jobs } = await door.jobs.list({ limit: 200, state: "queued" } as never);
    for (const { id } of jobs) {
      ended.add(id);
      door.jobs.end(id, "succeeded", { outputs: tinyScores() });
    }
    return ended.size === 99;
  });
  const { messages, code } = await all;
  assert.equal(code, "OK");
  assert.deepEqual(
    messages.map(({ infer_response }) => infer_response.id),
    ids.map((id, at) => (at === 5 ? "m5" : id)),
  );
  assert.match(messages[5].error_message, /Request for unknown model/);
  assert.equal(messages.filter(({ error_message }) => error_message !== "").length, 1);
  assert.equal(messages[0].infer_response.parameters.triton_final_response.bool_param, true);
  assert.deepEqual(messages[1].infer_response.parameters, {});
  assert.deepEqual(messages[99].infer_response.raw_output_contents, [floats(0.25, 0.5, 0.125)]);
});

test("a stream that is left takes its jobs along", async (t) => {
  const door = await openGrpc(t);
  const stream = door.client.stream();
  const all = collect(stream);
  for (let at = 0; at < 3; at++) stream.write(tinyMessage());
  await until("the jobs", async () => door.jobs.submissions.length === 3);
  stream.cancel();
  assert.equal((await all).code, "CANCELLED");
  await until("the jobs to be cancelled", async () => door.jobs.cancelled.length === 3);
});

test("health is told when asked and when it changes", async (t) => {
  const door = await openGrpc(t);
  const check = async (service: string) => {
    const { code, message } = await door.client.call("Check", { service }, {}, healthService);
    return code === "OK" ? message.status : code;
  };
  assert.deepEqual([await check(""), await check(inferenceService), await check("none")], ["SERVING", "SERVING", "NOT_FOUND"]);
  const watched: string[] = [];
  const watch = door.client.watch("");
  watch.on("data", ({ status }) => watched.push(status));
  const unknown = door.client.watch("none");
  const first = new Promise<{ status: string }>((resolve) => unknown.once("data", resolve));
  unknown.on("error", () => {});
  assert.equal((await first).status, "SERVICE_UNKNOWN");
  unknown.cancel();
  const ended = collect(watch);
  await until("the first state", async () => watched.length === 1);
  door.jobs.problems.push({ check: "store", detail: "away" });
  door.grpcServer.lookAtHealth();
  door.grpcServer.lookAtHealth();
  await until("the change", async () => watched.length === 2);
  assert.equal(await check(""), "NOT_SERVING");
  door.jobs.problems.length = 0;
  door.grpcServer.lookAtHealth();
  await until("the change back", async () => watched.length === 3);
  const closed = door.grpcServer.close();
  assert.equal((await ended).code, "UNAVAILABLE");
  assert.deepEqual(watched, ["SERVING", "NOT_SERVING", "SERVING", "NOT_SERVING"]);
  await closed;
});

for (const isShared of [false, true]) {
  const where = isShared ? "at an address that others may share" : "at an address of its own";
  test(`a server ${where} that closes lets calls end that had come, ends streams between messages, and sends clients away`, async (t) => {
    const door = await openGrpc(t, {}, { isShared });
    const held = door.client.call("ModelInfer", tinyMessage({ id: "held" }));
    const stream = door.client.stream();
    const streamed = collect(stream);
    stream.write(tinyMessage({ id: "streamed" }));
    await until("both jobs", async () => door.jobs.submissions.length === 2);
    let isClosed = false;
    const closed = door.grpcServer.close().then(() => {
      isClosed = true;
    });
    using late = new GrpcClient(door.grpc);
    assert.equal((await late.call("ServerLive", {})).code, "UNAVAILABLE");
    await sleep(200);
    assert.equal(isClosed, false, "calls are open");
    const { jobs } = await door.jobs.list({ limit: 10, state: "queued" } as never);
    for (const { id } of jobs) door.jobs.end(id, "succeeded", { outputs: tinyScores() });
    assert.equal((await held).code, "OK");
    const { messages, code, details } = await streamed;
    assert.deepEqual(
      messages.map(({ infer_response }) => infer_response.id),
      ["streamed"],
    );
    assert.equal(code, "UNAVAILABLE");
    assert.match(details, /shutting down/);
    await closed;
  });
}

for (const isShared of [false, true]) {
  const where = isShared ? "at an address that others may share" : "at an address of its own";
  test(`a client of a server ${where} that dies takes its job along`, async (t) => {
    const door = await openGrpc(t, {}, { isShared });
    const socket = connect(Number(door.grpc.split(":")[1]), "127.0.0.1");
    const tunnel = createServer(
      (client) =>
        void client
          .on("error", () => {})
          .pipe(socket)
          .pipe(client),
    );
    await once(tunnel.listen(0, "127.0.0.1"), "listening");
    t.after(() => tunnel.close());
    const plain = new PlainGrpc({ ...door, grpc: `127.0.0.1:${(tunnel.address() as AddressInfo).port}` });
    const call = await plain.begin(framed(methodOf(inferenceService, "ModelInfer").requestSerialize(tinyMessage())));
    call.stream.end();
    await until("the job", async () => door.jobs.submissions.length === 1);
    socket.destroy(); // what the system does for a process that is killed: no word of the protocol
    await until("it is cancelled", async () => door.jobs.cancelled.length === 1);
  });
}

test("servers that share an address both serve, and go on when one of them closes", async (t) => {
  const door = await openGrpc(t, {}, { isShared: true });
  const [host, port] = door.grpc.split(":") as [string, string];
  const other = createGrpcServer({ ...door.parts, version: "other" });
  await other.listen({ host, port: Number(port), isShared: true });
  const versionOf = async (): Promise<string> => {
    using client = new GrpcClient(door.grpc);
    const { code, message } = await client.call("ServerMetadata", {});
    assert.equal(code, "OK");
    return message.version;
  };
  const seen = new Set<string>();
  await until("answers of both", async () => seen.add(await versionOf()).size === 2);
  await other.close();
  for (let call = 0; call < 10; call++) assert.equal(await versionOf(), "1.2.3");
});

test("a stream whose last messages came while the server ended does not look whole, though its client had ended it", async (t) => {
  const door = await openGrpc(t);
  const plain = new PlainGrpc(door);
  const message = (id: string): Buffer => framed(methodOf(inferenceService, "ModelInfer").requestSerialize(tinyMessage({ id })));
  const { stream, ended } = await plain.begin(message("before"), {}, "ModelStreamInfer");
  await until("its job", async () => door.jobs.submissions.length === 1);
  const closed = door.grpcServer.close();
  stream.end(message("after"));
  await plain.heard();
  const { jobs } = await door.jobs.list({ limit: 10, state: "queued" } as never);
  assert.equal(jobs.length, 1, "the one that came late is no job");
  door.jobs.end(jobs[0]!.id, "succeeded", { outputs: tinyScores() });
  const { code, details } = await ended;
  assert.equal(code, "UNAVAILABLE");
  assert.match(details, /open a new stream/);
  await closed;
});

test("calls that outlast a drain hear where their jobs are", async (t) => {
  const door = await openGrpc(t);
  const unkeyed = door.client.call("ModelInfer", tinyMessage());
  const keyed = door.client.call("ModelInfer", tinyMessage(), { metadata: { "idempotency-key": "mine" } });
  await until("both jobs", async () => door.jobs.submissions.length === 2);
  const closed = door.grpcServer.close();
  door.grpcServer.endHeld();
  for (const [call, text] of [
    [unkeyed, /was cancelled: send the request to another one/],
    [keyed, /goes on: ask another one/],
  ] as const) {
    const { code, details, trailers } = await call;
    assert.deepEqual([code, trailers["x-switchyard-error"]], ["UNAVAILABLE", "draining"]);
    assert.match(details, text);
  }
  await closed;
});

test("a name is listened on at its addresses where others may share them, and one that is no address is said in words", async (t) => {
  const door = await openGrpc(t);
  const named = createGrpcServer(door.parts);
  t.after(() => named.close());
  const { host, port } = await named.listen({ host: "localhost", port: 0, isShared: true });
  assert.equal(host, "localhost");
  using client = new GrpcClient(`127.0.0.1:${port}`);
  assert.equal((await client.call("ServerLive", {})).code, "OK");
  const elsewhere = createGrpcServer(door.parts).listen({ host: "192.0.2.1", port, isShared: true });
  await assert.rejects(elsewhere, /192\.0\.2\.1 is no address of this machine/);
});

test("a port that is taken is said in words, also where others would share it", async (t) => {
  const door = await openGrpc(t);
  const port = Number(door.grpc.split(":")[1]);
  for (const isShared of [false, true]) {
    const other = createGrpcServer(door.parts);
    await assert.rejects(other.listen({ host: "127.0.0.1", port, isShared }), {
      message: `127.0.0.1:${port} is in use by another process; choose another address`,
    });
    await other.close();
  }
});

for (const version of ["v1", "v1alpha"] as const) {
  test(`reflection ${version} describes the services, so that clients without our files can call them`, async (t) => {
    const door = await openGrpc(t);
    const asItIs = (bytes: Buffer): Buffer => bytes;
    const path = `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`;
    const stream = door.client.duplex({
      ...methodOf(inferenceService, "ModelStreamInfer"),
      path,
      requestSerialize: asItIs,
      responseDeserialize: asItIs,
    });
    const all = collect(stream);
    const field = (number: number, text: string): Buffer => Buffer.from([(number << 3) | 2, text.length, ...Buffer.from(text)]);
    stream.write(field(7, "*")); // list_services
    for (const symbol of [inferenceService, healthService, "no.such.thing"]) stream.write(field(4, symbol)); // file_containing_symbol
    stream.end();
    const { messages, code } = await all;
    assert.equal(code, "OK");
    const [services, inference, health, nothing] = messages.map((message: Buffer) => message.toString("latin1"));
    for (const name of [inferenceService, healthService]) assert.ok(services!.includes(name), services);
    assert.match(inference!, /ModelStreamInfer/);
    assert.match(inference!, /ParametersEntry/); // the one name of a map's entries that Go's clients take
    assert.match(inference!, /rawInputContents/); // some derive no name for JSON
    assert.match(health!, /HealthCheckRequest/);
    assert.match(nothing!, /Symbol not found/);
  });
}

test("what is no question to reflection ends that call, with whatever else it had asked, and nothing more", async (t) => {
  const door = await openGrpc(t);
  const asItIs = (bytes: Buffer): Buffer => bytes;
  const path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
  const list = Buffer.from([(7 << 3) | 2, 1, 0x2a]);
  for (let turn = 0; turn < 5; turn++) {
    const stream = door.client.duplex({
      ...methodOf(inferenceService, "ModelStreamInfer"),
      ...{ path, requestSerialize: asItIs, responseDeserialize: asItIs },
    });
    const all = collect(stream);
    for (const message of [list, Buffer.from([0xff, 0xff]), list, list]) stream.write(message);
    stream.end();
    const { code, details } = await all;
    assert.equal(code, "INVALID_ARGUMENT", details);
    assert.match(details, /no ServerReflectionRequest/);
  }
  assert.equal((await door.client.call("ServerLive", Buffer.alloc(0))).code, "OK");
});
