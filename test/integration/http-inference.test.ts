import assert from "node:assert/strict";
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { test } from "node:test";
import { deflateSync, gunzipSync, gzipSync, inflateSync } from "node:zlib";
import { count, countRun, emptyTally, SwitchyardError } from "@switchyard/protocol";
import { floats, type OpenDoor, openDoor, tinyRequest, tinyScores } from "../support/open-door.ts";
import { until } from "../support/until.ts";

function infer(
  door: OpenDoor,
  body: string | Buffer,
  headers: Record<string, string> = {},
  path = "/v2/models/tiny/infer",
): Promise<Response> {
  return fetch(door.url + path, { method: "POST", body: body as BodyInit, headers });
}

function binaryBody(): { body: Buffer; length: string } {
  const head = Buffer.from(
    JSON.stringify({
      id: "seven",
      parameters: { binary_data_output: true },
      inputs: [{ name: "image", datatype: "FP32", shape: [1, 4], parameters: { binary_data_size: 16 } }],
    }),
  );
  return { body: Buffer.concat([head, floats(1, 2, 3, 4)]), length: String(head.length) };
}

test("a JSON inference answers JSON with exactly application/json and the client's id", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  const response = await infer(door, JSON.stringify(tinyRequest({ id: "seven" })));
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), "application/json");
  assert.deepEqual(await response.json(), {
    model_name: "tiny",
    model_version: "2",
    id: "seven",
    outputs: [{ name: "scores", datatype: "FP32", shape: [1, 3], data: [0.25, 0.5, 0.125] }],
  });
  const submitted = door.jobs.submissions[0]!;
  assert.equal(submitted.hold, true);
  assert.deepEqual(submitted.request.inputs[0]!.bytes, new Uint8Array(floats(1, 2, 3, 4)));
});

test("a binary inference answers binary tensors behind a JSON header of the announced length", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  const { body, length } = binaryBody();
  const response = await infer(door, body, { "inference-header-content-length": length });
  assert.equal(response.headers.get("content-type"), "application/octet-stream");
  const bytes = Buffer.from(await response.arrayBuffer());
  const head = Number(response.headers.get("inference-header-content-length"));
  assert.deepEqual(JSON.parse(bytes.toString("utf8", 0, head)).outputs, [
    { name: "scores", datatype: "FP32", shape: [1, 3], parameters: { binary_data_size: 12 } },
  ]);
  assert.deepEqual(bytes.subarray(head), floats(0.25, 0.5, 0.125));
});

test("a raw inference takes the whole body for the model's one input", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  const response = await infer(door, floats(1, 2, 3, 4), { "inference-header-content-length": "0" });
  assert.equal(response.status, 200);
  assert.deepEqual(door.jobs.submissions[0]!.request.inputs[0]!.shape, [1, 4]);
  const refused = await infer(door, floats(1), { "inference-header-content-length": "0" }, "/v2/models/pair/infer");
  assert.equal(refused.status, 400);
  assert.match((await refused.json()).error, /Raw request must only have 1 input/);
});

test("classification answers the labels of the version that ran", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  const body = JSON.stringify(tinyRequest({ outputs: [{ name: "scores", parameters: { classification: 2 } }] }));
  const response = await infer(door, body, {}, "/v2/models/tiny/versions/1/infer");
  assert.deepEqual((await response.json()).outputs[0].data, ["0.5:1:one", "0.25:0:zero"]);
});

test("the smallest of timeout parameter and header wins, zero is the default, priority names a class", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  const send = (parameters: object, header?: string) =>
    infer(door, JSON.stringify(tinyRequest({ parameters })), header === undefined ? {} : { "x-request-timeout-ms": header });
  await send({ timeout: 500_000, priority: 1 }, "700");
  await send({ timeout: "900000", priority: 2 }, "700");
  await send({ timeout: 0, priority: 9 }, "0");
  await send({ priority: 0 });
  const seen = door.jobs.submissions.map((one) => [one.timeoutMs, one.class]);
  assert.deepEqual(seen, [
    [500, "interactive"],
    [700, "standard"],
    [undefined, "batch"],
    [undefined, undefined],
  ]);
  for (const [parameters, header] of [
    [{ timeout: -1 }],
    [{ timeout: 1.5 }],
    [{ timeout: 86_400_000_001 }],
    [{ priority: -1 }],
    [{}, "abc"],
    [{}, "86400001"],
  ] as const) {
    const response = await send(parameters, header);
    assert.equal(response.status, 400, JSON.stringify([parameters, header]));
  }
});

test("a sequence is refused as unsupported in words that say so, sequence 0 is no sequence", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  for (const parameters of [
    { sequence_id: 5 },
    { sequence_id: "robot-7" },
    { sequence_id: "0" },
    { sequence_start: true },
    { sequence_end: true },
  ]) {
    const answer = await infer(door, JSON.stringify(tinyRequest({ parameters })));
    assert.deepEqual([answer.status, answer.headers.get("x-switchyard-error")], [501, "unsupported"], JSON.stringify(parameters));
    assert.match((await answer.json()).error, /^sequence_\w+ \S+: sequences are not supported/);
  }
  const job = JSON.stringify(tinyRequest({ model: "tiny", parameters: { sequence_id: 5 } }));
  const headers = { "content-type": "application/json" };
  assert.equal((await fetch(`${door.url}/v1/jobs`, { method: "POST", body: job, headers })).status, 501);
  for (const parameters of [{ sequence_id: 0 }, { sequence_id: "" }, { sequence_id: 0, sequence_start: false, sequence_end: false }]) {
    assert.equal((await infer(door, JSON.stringify(tinyRequest({ parameters })))).status, 200, JSON.stringify(parameters));
  }
});

test("every malformed inference is a 400 of the exact form and the door goes on", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  const deep = `${"[".repeat(120)}${"]".repeat(120)}`;
  const cases: [string, string | Buffer, Record<string, string>, RegExp][] = [
    ["empty", "", {}, /JSON/],
    ["no JSON", "{", {}, /not valid JSON/],
    ["deep JSON", `{"x":${deep},"inputs":[]}`, {}, /JSON nesting depth exceeds maximum allowed limit \(100\)/],
    ["an array", "[]", {}, /object/],
    ["a header longer than the body", "{}", { "inference-header-content-length": "50" }, /Inference-Header-Content-Length/],
    ["a header that is no number", "{}", { "inference-header-content-length": "-1" }, /Inference-Header-Content-Length/],
    ["too few elements", JSON.stringify({ inputs: [{ name: "image", datatype: "FP32", shape: [1, 4], data: [1] }] }), {}, /elements/],
    [
      "bytes left over",
      Buffer.concat([binaryBody().body, floats(1)]),
      { "inference-header-content-length": binaryBody().length },
      /unexpected additional input data for model/,
    ],
    ["negative dimension", JSON.stringify({ inputs: [{ name: "image", datatype: "FP32", shape: [-1], data: [] }] }), {}, /axis 0/],
    ["not gzip", "{}", { "content-encoding": "gzip" }, /not valid gzip/],
    ["not deflate", "{}", { "content-encoding": "deflate" }, /not valid deflate/],
    ["NaN", JSON.stringify(tinyRequest()).replace("[1,2,3,4]", "[1,NaN,3,4]"), {}, /NaN and infinities have no JSON form.*binary/],
    [
      "infinity",
      JSON.stringify(tinyRequest()).replace("[1,2,3,4]", "[1,2,3,-Infinity]"),
      {},
      /NaN and infinities have no JSON form.*binary/,
    ],
    ["a number beyond the datatype", JSON.stringify(tinyRequest()).replace("[1,2,3,4]", "[1,2,3,1e99]"), {}, /element 3.*only as binary/],
    ["a reserved parameter", JSON.stringify(tinyRequest({ parameters: { triton_x: 1 } })), {}, /'triton_x'.*reserved/],
    [
      "the same output twice",
      JSON.stringify(tinyRequest({ outputs: [{ name: "scores" }, { name: "scores" }] })),
      {},
      /already exists in request/,
    ],
    ["an id that is no text", JSON.stringify(tinyRequest({ id: 7 })), {}, /id must be a string/],
    [
      "shared memory",
      JSON.stringify(tinyRequest({ outputs: [{ name: "scores", parameters: { shared_memory_region: "r" } }] })),
      {},
      /shared memory/,
    ],
  ];
  for (const [name, body, headers, text] of cases) {
    const response = await infer(door, body, headers);
    assert.equal(response.status, 400, name);
    assert.equal(response.headers.get("content-type"), "application/json", name);
    const answer = await response.json();
    assert.deepEqual(Object.keys(answer), ["error"], name);
    assert.match(answer.error, text, name);
  }
  assert.equal((await infer(door, JSON.stringify(tinyRequest()))).status, 200);
  assert.deepEqual(door.logged, []);
});

test("JSON of fifty levels passes, an empty id is none, and a body without a type is taken for what it is", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  const deep = `{"x":${"[".repeat(50)}${"]".repeat(50)},${JSON.stringify(tinyRequest({ id: "" })).slice(1)}`;
  const answer = await infer(door, Buffer.from(deep));
  assert.deepEqual([answer.status, "id" in (await answer.json())], [200, false]);
  const { body, length } = binaryBody();
  const type = "application/octet-stream";
  for (const headers of [{}, { "content-type": type }, { "content-type": "text/plain" }] as Record<string, string>[]) {
    const binary = await infer(door, body, { "inference-header-content-length": length, ...headers });
    assert.deepEqual([binary.status, binary.headers.get("content-type")], [200, type], JSON.stringify(headers));
  }
});

test("a query behind the path, and versions in it, change nothing", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  const first = await infer(door, JSON.stringify(tinyRequest()), {}, "/v2/models/tiny/versions/1/infer?trace=x&y");
  assert.equal((await first.json()).model_version, "1");
  assert.equal((await infer(door, JSON.stringify(tinyRequest()), {}, "/v2/models/t%69ny/infer?")).status, 200);
  for (const path of [
    "/v2?x=1",
    "/v2/health/live?x",
    "/v2/models/tiny?x",
    "/v2/models/tiny/versions/1/ready?x",
    "/v2/models/tiny/config?x",
    "/v2/models/stats?x",
  ]) {
    assert.equal((await fetch(door.url + path)).status, 200, path);
  }
  const index = await fetch(`${door.url}/v2/repository/own/index?x`, { method: "POST" });
  assert.equal((await index.json()).length, 4);
});

test("what the server does not have is 404, and a path's other methods 405, in the protocol's form", async (t) => {
  const door = await openDoor(t);
  for (const path of [
    "/v2/systemsharedmemory/status",
    "/v2/cudasharedmemory/status",
    "/v2/trace/setting",
    "/v2/logging",
    "/v2/models/tiny/trace/setting",
  ]) {
    const answer = await fetch(door.url + path);
    assert.deepEqual([answer.status, answer.headers.get("content-type")], [404, "application/json"], path);
    assert.deepEqual(Object.keys(await answer.json()), ["error"], path);
  }
  for (const path of ["/v2/models/tiny/generate", "/v2/models/tiny/generate_stream"]) {
    assert.equal((await fetch(door.url + path, { method: "POST", body: "{}" })).status, 404, path);
  }
  for (const [path, allow] of [
    ["/v2", "GET, HEAD, OPTIONS"],
    ["/v2/health/ready", "GET, HEAD, OPTIONS"],
    ["/v2/models/tiny/versions/1", "GET, HEAD, OPTIONS"],
    ["/v2/models/tiny/stats", "GET, HEAD, OPTIONS"],
  ] as const) {
    const answer = await fetch(door.url + path, { method: "POST", body: "{}" });
    assert.deepEqual(
      [answer.status, answer.headers.get("allow"), answer.headers.get("content-type")],
      [405, allow, "application/json"],
      path,
    );
    assert.deepEqual(Object.keys(await answer.json()), ["error"], path);
  }
});

test("binary and JSON tensors may stand side by side, going in and coming out", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = () => [
    ...tinyScores(),
    { name: "more", datatype: "INT64", shape: [2], bytes: new Uint8Array(new BigInt64Array([2n ** 62n, -1n]).buffer) },
  ];
  const head = Buffer.from(
    JSON.stringify({
      inputs: [
        { name: "image", datatype: "FP32", shape: [1, 4], data: [[1, 2, 3, 4]] },
        { name: "second", datatype: "FP32", shape: [1, 4], parameters: { binary_data_size: 16 } },
      ],
      outputs: [
        { name: "more", parameters: { binary_data: false } },
        { name: "scores", parameters: { binary_data: true } },
      ],
    }),
  );
  const body = Buffer.concat([head, floats(5, 6, 7, 8)]);
  const answer = await infer(door, body, { "inference-header-content-length": String(head.length) }, "/v2/models/pair/infer");
  const bytes = Buffer.from(await answer.arrayBuffer());
  const length = Number(answer.headers.get("inference-header-content-length"));
  const json = bytes.toString("utf8", 0, length);
  assert.match(json, /"name":"more".*"data":\[4611686018427387904,-1\].*"name":"scores".*"binary_data_size":12/);
  assert.deepEqual(bytes.subarray(length), floats(0.25, 0.5, 0.125));
  const seen = door.jobs.submissions[0]!.request.inputs.map(({ bytes: sent }) => [...new Float32Array(sent.slice().buffer)]);
  assert.deepEqual(seen, [
    [1, 2, 3, 4],
    [5, 6, 7, 8],
  ]);
});

test("the memory of a large body goes with its answer", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  for (const items of [1, 8_192]) {
    const image = { name: "image", datatype: "FP32", shape: [items, 4], parameters: { binary_data_size: 16 * items } };
    const head = Buffer.from(JSON.stringify({ inputs: [image] }));
    const body = Buffer.concat([head, Buffer.alloc(16 * items)]);
    assert.equal((await infer(door, body, { "inference-header-content-length": String(head.length) })).status, 200);
    const [input] = door.jobs.submissions.at(-1)!.request.inputs;
    assert.equal(input!.bytes.length, items === 1 ? 16 : 0);
  }
});

test("the text of a large JSON body is gone while its call is held", async (t) => {
  const door = await openDoor(t, { maxBodyBytes: 16 << 20, maxJsonBytes: 16 << 20 }); // whose jobs stay queued
  const rows = 20_000;
  const data = `0.12345678901234567${",0.12345678901234567".repeat(4 * rows - 1)}`;
  const text = Buffer.from(`{"inputs":[{"name":"image","datatype":"FP32","shape":[${rows},4],"data":[${data}]}]}`);
  const before = process.memoryUsage().arrayBuffers;
  const calls = Array.from({ length: 5 }, () => {
    const call = httpRequest(`${door.url}/v2/models/tiny/infer`, { method: "POST", headers: { "content-length": text.length } });
    call.on("error", () => {});
    return call.end(text); // the same memory for all
  });
  await until("all are read", async () => door.jobs.submissions.length === 5);
  const grownBytes = process.memoryUsage().arrayBuffers - before;
  for (const call of calls) call.destroy();
  assert.ok(grownBytes < 2.5 * text.length, `${grownBytes} bytes for five bodies of ${text.length}, whose tensors have ${16 * rows}`);
});

test("answers are compressed as the client can read them; binary ones for a client that names one coding alone", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = () => [{ name: "scores", datatype: "FP32", shape: [1, 3000], bytes: new Uint8Array(12_000) }];
  const binary = binaryBody();
  const codings = async (accept: string | undefined, isBinary: boolean) => {
    const call = httpRequest({
      ...{ port: door.port, host: "127.0.0.1", method: "POST", path: "/v2/models/tiny/infer" },
      headers: {
        ...(accept !== undefined && { "accept-encoding": accept }),
        ...(isBinary && { "inference-header-content-length": binary.length }),
      },
    });
    call.end(isBinary ? binary.body : JSON.stringify(tinyRequest()));
    const [answer] = await once(call, "response");
    const chunks: Buffer[] = [];
    for await (const chunk of answer) chunks.push(chunk);
    const coding = answer.headers["content-encoding"];
    const bytes = Buffer.concat(chunks);
    const plain = coding === "gzip" ? gunzipSync(bytes) : coding === "deflate" ? inflateSync(bytes) : bytes;
    if (isBinary) assert.equal(plain.length, Number(answer.headers["inference-header-content-length"]) + 12_000, "of what is compressed");
    else assert.equal(JSON.parse(plain.toString()).outputs[0].data.length, 3000);
    return coding;
  };
  for (const [accept, json, asBinary] of [
    [undefined, undefined, undefined],
    ["identity", undefined, undefined],
    ["gzip", "gzip", "gzip"],
    ["deflate", "deflate", "deflate"],
    ["gzip, deflate", "gzip", undefined],
    ["gzip;q=0.1, deflate", "deflate", undefined],
    ["gzip;q=0, deflate;q=0", undefined, undefined],
    ["br", undefined, undefined],
    ["*", "gzip", undefined],
  ] as const) {
    assert.deepEqual([await codings(accept, false), await codings(accept, true)], [json, asBinary], accept);
  }
});

test("statistics have every entry of every version, unsigned, and are sums over a version's queues", async (t) => {
  const door = await openDoor(t);
  const get = async (path: string) => {
    const response = await fetch(door.url + path);
    return { status: response.status, body: await response.json() };
  };
  const zero = { count: 0, ns: 0 };
  const none = {
    success: zero,
    fail: zero,
    queue: zero,
    compute_input: zero,
    compute_infer: zero,
    compute_output: zero,
    cache_hit: zero,
    cache_miss: zero,
  };
  const empty = {
    last_inference: 0,
    inference_count: 0,
    execution_count: 0,
    inference_stats: none,
    response_stats: {},
    batch_stats: [],
    memory_usage: [],
  };
  assert.deepEqual((await get("/v2/models/tiny/stats")).body, {
    model_stats: [
      { name: "tiny", version: "1", ...empty },
      { name: "tiny", version: "2", ...empty },
    ],
  });
  const tally = emptyTally();
  countRun(tally, { items: 3, jobs: 2, inputMs: 0.25, inferMs: 4, outputMs: 0.5 });
  countRun(tally, { items: 300, jobs: 1, inputMs: 0.25, inferMs: 40, outputMs: 0.5 });
  count(tally.success, 2, 2 ** 60);
  count(tally.fail, 1, 0.0004);
  tally.lastMs = 1_700_000_000_000;
  door.tallies.set(door.models.resolve("tiny", 2).version.tag, tally);
  const { body } = await get("/v2/models/tiny/versions/2/stats");
  const [{ batch_stats, inference_stats, ...rest }] = body.model_stats;
  assert.deepEqual(rest, {
    ...{ name: "tiny", version: "2", last_inference: 1_700_000_000_000, inference_count: 303, execution_count: 2 },
    ...{ response_stats: {}, memory_usage: [] },
  });
  const once = (ns: number) => ({ count: 1, ns });
  assert.deepEqual(batch_stats, [
    { batch_size: 3, compute_input: once(250_000), compute_infer: once(4_000_000), compute_output: once(500_000) },
    { batch_size: 512, compute_input: once(250_000), compute_infer: once(40_000_000), compute_output: once(500_000) },
  ]);
  assert.deepEqual(inference_stats.fail, { count: 1, ns: 0 });
  const text = await (await fetch(`${door.url}/v2/models/tiny/versions/2/stats`)).text();
  const most = /"success":\{"count":2,"ns":(\d+)\}/.exec(text)?.[1];
  assert.ok(most !== undefined && BigInt(most) < 2n ** 64n, "no client's 64 bits overflow");
  const all = await get("/v2/models/stats");
  assert.deepEqual(
    all.body.model_stats.map(({ name, version }: { name: string; version: string }) => `${name} ${version}`),
    ["tiny 1", "tiny 2", "pair 1"],
  );
  assert.equal((await get("/v2/models/none/stats")).status, 404);
  assert.equal((await get("/v2/models/tiny/versions/9/stats")).status, 404);
  assert.equal((await get("/v2/models/broken/stats")).status, 503);
});

test("prototype keys in a request are data", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  const body = `{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},${JSON.stringify(tinyRequest()).slice(1)}`;
  assert.equal((await infer(door, body)).status, 200);
  assert.equal(({} as Record<string, unknown>).polluted, undefined);
});

test("unknown models, versions and paths are 404 and wrong methods 405 in the protocol's form", async (t) => {
  const door = await openDoor(t);
  for (const path of ["/v2/models/none/infer", "/v2/models/tiny/versions/9/infer", "/v2/models/tiny/versions/x/infer"]) {
    const response = await infer(door, "{}", {}, path);
    assert.equal(response.status, 404, path);
    assert.match((await response.json()).error, /Request for unknown model/);
  }
  const nowhere = await fetch(`${door.url}/v2/nowhere`);
  assert.deepEqual([nowhere.status, nowhere.headers.get("content-type")], [404, "application/json"]);
  assert.deepEqual(Object.keys(await nowhere.json()), ["error"]);
  const wrong = await fetch(`${door.url}/v2/models/tiny/infer`);
  assert.deepEqual([wrong.status, wrong.headers.get("allow")], [405, "POST, OPTIONS"]);
  assert.deepEqual(Object.keys(await wrong.json()), ["error"]);
});

test("a refusal at admission says when to come back", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  door.jobs.failure = new SwitchyardError("deadline_unattainable", "the queue needs 900 ms", { estimatedMs: 900, retryAfterMs: 1500 });
  const response = await infer(door, JSON.stringify(tinyRequest()));
  assert.equal(response.status, 503);
  assert.equal(response.headers.get("retry-after"), "2");
  assert.equal(response.headers.get("estimated_ms"), "900");
  assert.deepEqual(await response.json(), { error: "the queue needs 900 ms" });
});

test("a bug is a 500 that tells a trace id and nothing else", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  door.jobs.failure = new Error("secret of redis:6379");
  const response = await infer(door, JSON.stringify(tinyRequest()), { "x-request-id": "trace-7" });
  assert.equal(response.status, 500);
  assert.equal(response.headers.get("x-request-id"), "trace-7");
  const text = await response.text();
  assert.doesNotMatch(text, /secret/);
  assert.match(text, /trace-7/);
  assert.equal(door.logged[0]!.fields?.trace_id, "trace-7");
});

test("a client that hangs up cancels its inference", async (t) => {
  const door = await openDoor(t);
  const call = httpRequest({ port: door.port, host: "127.0.0.1", method: "POST", path: "/v2/models/tiny/infer" });
  call.on("error", () => {});
  call.end(JSON.stringify(tinyRequest()));
  while (door.jobs.submissions.length === 0) await new Promise(setImmediate);
  call.destroy();
  while (door.jobs.cancelled.length === 0) await new Promise(setImmediate);
  assert.equal(door.jobs.cancelled.length, 1);
  const text = await door.metricsText();
  const counted = text.split("\n").filter((line) => line.startsWith("switchyard_http_request_seconds_count"));
  assert.deepEqual(counted, ['switchyard_http_request_seconds_count{route="/v2/models/:model/infer",method="POST",status="499"} 1']);
});

test("the same idempotency key answers the same job, with another body it is refused", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  const headers = { "idempotency-key": '"key-1"' };
  const body = JSON.stringify(tinyRequest());
  const first = await infer(door, body, headers);
  assert.equal(first.headers.get("idempotent-replayed"), null);
  const second = await infer(door, body, headers);
  assert.equal(second.headers.get("idempotent-replayed"), "true");
  assert.deepEqual(await second.json(), await first.json());
  assert.equal(door.jobs.submissions.length, 1);
  assert.equal((await infer(door, `${body} `, headers)).status, 422);
});

test("compressed, chunked and expected bodies are read, and long JSON answers are compressed for who can read that", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = () => [{ name: "scores", datatype: "FP32", shape: [1, 3000], bytes: new Uint8Array(12_000) }];
  const json = JSON.stringify(tinyRequest());
  const zipped = await infer(door, gzipSync(json), { "content-encoding": "gzip" });
  assert.equal(zipped.status, 200);
  assert.equal((await infer(door, deflateSync(json), { "content-encoding": "deflate" })).status, 200);
  const { body, length } = binaryBody();
  const binary = await infer(door, gzipSync(body), { "content-encoding": "gzip", "inference-header-content-length": length });
  assert.equal(binary.status, 200, "the header's length is that of the JSON when it is decompressed");
  assert.equal((await infer(door, json, { "content-encoding": "br" })).status, 415);
  const expecting = await door.raw(
    `POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect:\r\nContent-Type:\r\nContent-Length: ${json.length}\r\n\r\n${json}`,
  );
  assert.match(expecting, /^HTTP\/1.1 200/, "Triton's C++ client expects nothing");
  const chunked = await door.raw(
    `POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n${json.length.toString(16)}\r\n${json}\r\n0\r\n\r\n`,
  );
  assert.match(chunked, /^HTTP\/1.1 200/);
  const call = httpRequest({
    port: door.port,
    host: "127.0.0.1",
    method: "POST",
    path: "/v2/models/tiny/infer",
    headers: { expect: "100-continue", "content-length": json.length, "accept-encoding": "gzip" },
  });
  await once(call, "continue");
  call.end(json);
  const [answer] = await once(call, "response");
  assert.equal(answer.headers["content-encoding"], "gzip");
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk);
  assert.equal(JSON.parse(gunzipSync(Buffer.concat(chunks)).toString()).outputs[0].data.length, 3000);
});

test("server, model metadata, configuration, health and index answer the protocol's shapes", async (t) => {
  const door = await openDoor(t);
  const get = async (path: string, init?: RequestInit) => {
    const response = await fetch(door.url + path, init);
    assert.equal(response.headers.get("content-type"), "application/json");
    return [response.status, await response.json()];
  };
  assert.deepEqual((await get("/v2"))[1].extensions, [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "schedule_policy",
    "parameters",
    "statistics",
    "model_repository",
    "model_repository(unload_dependents)",
  ]);
  assert.deepEqual(await get("/v2/"), await get("/v2"));
  assert.deepEqual(await get("/v2/health/live"), [200, { live: true }]);
  assert.deepEqual(await get("/v2/health/ready"), [200, { ready: true }]);
  assert.deepEqual(await get("/v2/models/tiny"), [
    200,
    {
      name: "tiny",
      versions: ["1", "2"],
      platform: "onnxruntime_onnx",
      inputs: [{ name: "image", datatype: "FP32", shape: [-1, 4] }],
      outputs: [{ name: "scores", datatype: "FP32", shape: [-1, 3] }],
    },
  ]);
  assert.deepEqual((await get("/v2/models/tiny/versions/1"))[1].versions, ["1"]);
  assert.deepEqual(await get("/v2/models/tiny/ready"), [200, { name: "tiny", ready: true }]);
  assert.deepEqual(await get("/v2/models/broken/ready"), [400, { name: "broken", ready: false }]);
  assert.equal((await get("/v2/models/broken"))[0], 503);
  const [, config] = await get("/v2/models/tiny/config");
  assert.deepEqual([config.max_batch_size, config.input], [0, [{ name: "image", data_type: "TYPE_FP32", dims: [-1, 4] }]]);
  door.models.resolve("tiny").version.config = { max_batch_items: 16 }; // and no host has loaded it yet
  const [, batched] = await get("/v2/models/tiny/config");
  assert.deepEqual([batched.max_batch_size, batched.input], [16, [{ name: "image", data_type: "TYPE_FP32", dims: [4] }]]);
  const [, index] = await get("/v2/repository/index", { method: "POST" });
  assert.deepEqual(index.at(-1), { name: "broken", version: "1", state: "UNAVAILABLE", reason: "the graph ends early" });
  assert.equal((await get("/v2/repository/index", { method: "POST", body: '{"ready":true}' }))[1].length, 3);
  assert.match((await get("/v2/repository/index", { method: "POST", body: '{"ready":1}' }))[1].error, /Invalid value for 'ready'/);
  door.jobs.problems = [{ check: "store", detail: "does not answer" }];
  assert.deepEqual(await get("/v2/health/ready"), [400, { ready: false }]);
});
