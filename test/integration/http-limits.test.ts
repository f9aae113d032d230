import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { deflateSync, gzipSync } from "node:zlib";
import { SwitchyardError } from "@switchyard/protocol";
import { problemSchema } from "@switchyard/protocol/schemas";
import { refuseMalformed } from "../../coordinator/src/doors/malformed-requests.ts";
import { createMetricsServer } from "../../coordinator/src/doors/metrics-server.ts";
import { garbageCollector } from "../support/garbage-collector.ts";
import { openDoor, tinyRequest, tinyScores } from "../support/open-door.ts";
import { until } from "../support/until.ts";

const limit = 100_000;
const collect = garbageCollector();

test("a body beyond the limit is refused by its announced length before it is sent, naming the limit", async (t) => {
  const door = await openDoor(t, { maxBodyBytes: limit });
  for (const [path, type] of [
    ["/v1/jobs", "application/problem+json"],
    ["/v2/models/tiny/infer", "application/json"],
  ]) {
    const answer = await door.raw(`POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n{`, /100000 bytes/);
    assert.match(answer, /^HTTP\/1.1 413/);
    assert.ok(answer.includes(`content-type: ${type}\r\n`), path);
  }
});

test("a streamed body beyond the limit is refused and not kept", async (t) => {
  const door = await openDoor(t, { maxBodyBytes: limit });
  collect();
  const before = process.memoryUsage().arrayBuffers;
  const socket = connect(door.port, "127.0.0.1");
  socket.setEncoding("latin1");
  socket.write("POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  const chunk = Buffer.concat([Buffer.from("10000\r\n"), Buffer.alloc(0x10000, 0x20), Buffer.from("\r\n")]);
  let answer = "";
  socket.on("data", (text) => {
    answer += text;
  });
  let mostBytes = 0;
  for (let sent = 0; sent < 3200; sent++) {
    if (!socket.write(chunk)) await new Promise((resolve) => socket.once("drain", resolve));
    if (sent % 320 !== 0) continue;
    collect(); // pieces that nobody keeps may lie about until V8 looks for them
    mostBytes = Math.max(mostBytes, process.memoryUsage().arrayBuffers - before);
  }
  socket.write("0\r\n\r\n");
  while (!/100000 bytes/.test(answer)) await new Promise(setImmediate);
  socket.destroy();
  assert.match(answer, /^HTTP\/1.1 413/);
  assert.ok(mostBytes < 60_000_000, `${mostBytes} bytes were kept while 200 MB came`);
});

test("a small body that decompresses beyond the limit is refused", async (t) => {
  const door = await openDoor(t, { maxBodyBytes: limit });
  for (const [encoding, bomb] of [
    ["gzip", gzipSync(Buffer.alloc(50_000_000, 0x20))],
    ["deflate", deflateSync(Buffer.alloc(50_000_000, 0x20))],
  ] as const) {
    const response = await fetch(`${door.url}/v2/models/tiny/infer`, {
      method: "POST",
      body: bomb,
      headers: { "content-encoding": encoding },
    });
    assert.equal(response.status, 413);
    assert.match((await response.json()).error, /exceed maximum size.*100000 bytes.*decompression/);
  }
});

test("JSON beyond its own limit is refused before it is parsed, and the refusal tells of the binary form", async (t) => {
  const door = await openDoor(t, { maxBodyBytes: 10 * limit, maxJsonBytes: limit });
  door.jobs.run = tinyScores;
  const json = JSON.stringify({ ...tinyRequest({ model: "tiny" }), parameters: { note: "x".repeat(limit) } });
  const send = (path: string, body: Uint8Array<ArrayBuffer> | string, headers: Record<string, string> = {}) =>
    fetch(`${door.url}${path}`, { method: "POST", body, headers: { "content-type": "application/json", ...headers } });
  for (const path of ["/v1/jobs", "/v2/models/tiny/infer"]) {
    for (const [body, headers] of [
      [json, {}],
      [gzipSync(json), { "content-encoding": "gzip" }],
      [Buffer.concat([Buffer.from(json), Buffer.alloc(16)]), { "inference-header-content-length": String(json.length) }],
    ] as const) {
      const answer = await send(path, body, headers);
      const text = await answer.text();
      assert.equal(answer.status, 413, path);
      assert.match(text, /at most 100000[^0-9].*in binary form.*Inference-Header-Content-Length/);
      // of a binary body it is the JSON part alone that may not be so long
      assert.match(text, "inference-header-content-length" in headers ? /The JSON part of the body must not/ : /The body must not/);
    }
  }
  const head = JSON.stringify({
    inputs: [{ name: "image", datatype: "FP32", shape: [50_000, 4], parameters: { binary_data_size: 800_000 } }],
  });
  const binary = await send("/v2/models/tiny/infer", Buffer.concat([Buffer.from(head), Buffer.alloc(800_000)]), {
    "inference-header-content-length": String(head.length),
  });
  assert.equal(binary.status, 200, await binary.text());
});

test("a JSON part that is said to be longer than its body is a mistake in the header, however long that is", async (t) => {
  const door = await openDoor(t, { maxBodyBytes: 10 * limit, maxJsonBytes: limit });
  const json = JSON.stringify(tinyRequest({ model: "tiny" }));
  for (const path of ["/v1/jobs", "/v2/models/tiny/infer"]) {
    for (const length of [json.length + 1, limit + 1, 99_999_999]) {
      for (const [body, more] of [
        [json, {}],
        [gzipSync(json), { "content-encoding": "gzip" }],
      ] as const) {
        const headers = { "content-type": "application/json", "inference-header-content-length": String(length), ...more };
        const answer = await fetch(door.url + path, { method: "POST", body, headers });
        assert.equal(answer.status, 400, `${path} ${length}`);
        assert.match(await answer.text(), new RegExp(`from 1 to ${json.length}, the size of the body`));
      }
    }
  }
});

test("small JSON bodies that are deeper than anything asks for are refused, whatever would become of them", async (t) => {
  const door = await openDoor(t);
  const deep = `${"[".repeat(32_000)}${"]".repeat(32_000)}`;
  const consent = "/v1/mcp/servers/a/tools/b/consent";
  for (const [method, path, body] of [
    ["POST", "/v2/repository/models/tiny/load", `{"parameters":${deep}}`],
    ["POST", "/v2/repository/models/tiny/load", `{"parameters":{"config":${deep}}}`],
    ["POST", "/v2/repository/models/tiny/unload", `{"parameters":{"unload_dependents":${deep}}}`],
    ["POST", "/v2/repository/index", `{"ready":${deep}}`],
    ["POST", "/v1/models/tiny/aliases/stable/promote", `{"version":${deep}}`],
    ["PUT", consent, `{"decision":${deep}}`],
    ["PUT", consent, `{"decision":"allow","pin":${deep}}`],
  ] as const) {
    const answer = await fetch(door.url + path, { method, body, headers: { "content-type": "application/json" } });
    const text = await answer.text();
    assert.equal(answer.status, 400, `${path}: ${text}`);
    assert.match(text, /depth/);
    assert.ok(text.length < 1_000, `${text.length} bytes`);
  }
  const shallow = await fetch(`${door.url}/v1/models/tiny/aliases/stable/promote`, {
    method: "POST",
    body: JSON.stringify({ version: Array.from({ length: 10_000 }, () => [1]) }),
  });
  const refusal = await shallow.text();
  assert.equal(shallow.status, 400);
  assert.ok(refusal.length < 1_000, "what is quoted has an end");
});

test("the coding of a body is understood in capitals, too", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  const json = JSON.stringify(tinyRequest());
  for (const [coding, body] of [
    ["IDENTITY", json],
    ["Identity", json],
    ["GZIP", gzipSync(json)],
    ["Deflate", deflateSync(json)],
  ] as const) {
    const answer = await fetch(`${door.url}/v2/models/tiny/infer`, { method: "POST", body, headers: { "content-encoding": coding } });
    assert.equal(answer.status, 200, `${coding}: ${await answer.text()}`);
  }
});

test("what is no request, or one that is too long, is refused in the form of all failures", async (t) => {
  const door = await openDoor(t);
  for (const [request, status, title] of [
    ["BAD\r\n\r\n", 400, "Bad Request"],
    ["GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", 400, "Bad Request"],
    [`GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: ${"x".repeat(40_000)}\r\n\r\n`, 431, "Request Header Fields Too Large"],
  ] as const) {
    const answer = await door.raw(request);
    const [head = "", body = ""] = answer.split("\r\n\r\n");
    assert.ok(head.startsWith(`HTTP/1.1 ${status} ${title}\r\n`), answer);
    assert.match(head, /\r\ncontent-type: application\/problem\+json\r\n/);
    assert.match(head, /\r\nconnection: close/);
    assert.equal(Number(/content-length: (\d+)/.exec(head)?.[1]), body.length);
    const problem = JSON.parse(body);
    assert.ok(problemSchema.safeParse(problem).success, body);
    assert.deepEqual([problem.status, problem.code, problem.retryable], [status, "invalid_request", false]);
    assert.equal(problem.trace_id, /x-request-id: (\S+)/.exec(head)?.[1]);
  }
  assert.equal((await fetch(`${door.url}/livez`)).status, 200);
});

test("a request that does not come in time is told so, but not in the midst of another one's answer", () => {
  const told = (error: string, answering?: { headersSent: boolean; req: { complete: boolean } }): { text: string; destroyed: boolean } => {
    const written: string[] = [];
    let destroyed = false;
    const socket = { writable: true, destroyed: false, _httpMessage: answering, write: (text: string) => written.push(text) };
    const destroy = (): void => {
      destroyed = true;
    };
    refuseMalformed(() => "id-1")(Object.assign(new Error("no"), { code: error }), { ...socket, destroy } as unknown as Socket);
    return { text: written.join(""), destroyed };
  };
  const late = told("ERR_HTTP_REQUEST_TIMEOUT");
  assert.match(late.text, /^HTTP\/1\.1 408 Request Timeout\r\n/);
  const problem = JSON.parse(late.text.split("\r\n\r\n")[1]!);
  assert.deepEqual([problem.status, problem.retryable, problem.trace_id], [408, true, "id-1"]);
  assert.equal(late.destroyed, true);
  const silent = { text: "", destroyed: true };
  assert.deepEqual(told("HPE_INVALID_METHOD", { headersSent: true, req: { complete: false } }), silent);
  const unanswered = { headersSent: false, req: { complete: true } };
  assert.deepEqual(told("HPE_INVALID_METHOD", unanswered), silent, "whoever sent that request would take it for its answer");
  assert.match(told("HPE_INVALID_METHOD", { headersSent: false, req: { complete: false } }).text, /^HTTP\/1\.1 400 /);
  assert.deepEqual(told("ECONNRESET"), { text: "", destroyed: false });
});

test("bodies that come slowly hold four times the limit at most; then large ones are told to come back, and small ones pass", async (t) => {
  const door = await openDoor(t, { maxBodyBytes: limit });
  door.jobs.run = tinyScores;
  const part = "x".repeat(limit - 1_000);
  const slow = await Promise.all(
    Array.from({ length: 4 }, async () => {
      const socket = connect(door.port, "127.0.0.1");
      socket.setEncoding("latin1");
      socket.write(`POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: ${limit}\r\n\r\n`);
      await new Promise((resolve) => socket.write(part, resolve));
      return socket;
    }),
  );
  const post = (body: string) => fetch(`${door.url}/v2/models/tiny/infer`, { method: "POST", body });
  const large = JSON.stringify(tinyRequest({ parameters: { note: "x".repeat(limit * 0.9) } }));
  const refused = await until("the slow bodies to have come", async () => {
    const answer = await post(large);
    return answer.status === 200 ? undefined : answer;
  });
  assert.deepEqual([refused.status, refused.headers.get("x-switchyard-error")], [503, "queue_full"]);
  assert.ok(Number(refused.headers.get("retry-after")) >= 1);
  assert.equal((await post(JSON.stringify(tinyRequest()))).status, 200);
  for (const socket of slow) socket.destroy();
  await until("room for large bodies again", async () => (await post(large)).status === 200);
});

test("a connection that closes before its announced length leaves the door open for others", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  const socket = connect(door.port, "127.0.0.1");
  socket.write("POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n{");
  await new Promise((resolve) => socket.once("connect", resolve));
  socket.destroy();
  const response = await fetch(`${door.url}/v2/models/tiny/infer`, { method: "POST", body: JSON.stringify(tinyRequest()) });
  assert.equal(response.status, 200);
  assert.equal(door.jobs.submissions.length, 1);
  assert.deepEqual(door.logged, []);
});

test("a refused body leaves the connection fit for the next request", async (t) => {
  const door = await openDoor(t, { maxBodyBytes: limit });
  const body = " ".repeat(200_000);
  const answer = await door.raw(
    `POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
  );
  assert.match(answer, /^HTTP\/1.1 413[\s\S]*HTTP\/1.1 200 OK/);
});

test("unknown paths are 404, wrong methods 405 with Allow, HEAD and OPTIONS work, unbuilt routes are 501", async (t) => {
  const door = await openDoor(t);
  const nowhere = await fetch(`${door.url}/v1/nowhere`);
  assert.deepEqual([nowhere.status, nowhere.headers.get("content-type")], [404, "application/problem+json"]);
  assert.equal((await nowhere.json()).code, "not_found");
  const wrong = await fetch(`${door.url}/v1/jobs`, { method: "PUT", body: "x" });
  assert.deepEqual([wrong.status, wrong.headers.get("allow")], [405, "GET, POST, HEAD, OPTIONS"]);
  assert.equal((await wrong.json()).code, "method_not_allowed");
  const head = await fetch(`${door.url}/v1/models`, { method: "HEAD" });
  assert.deepEqual([head.status, await head.text()], [200, ""]);
  const options = await fetch(`${door.url}/v1/models`, { method: "OPTIONS" });
  assert.deepEqual([options.status, options.headers.get("allow")], [204, "GET, HEAD, OPTIONS"]);
  for (const path of ["/v1/pipelines", "/v1/pipelines/a/runs", "/v1/training"]) {
    const response = await fetch(door.url + path, { method: "POST", body: "{}" });
    assert.deepEqual([response.status, (await response.json()).code], [501, "unsupported"], path);
    const asked = await fetch(door.url + path, { method: "OPTIONS" });
    assert.deepEqual([asked.status, asked.headers.get("allow")], [204, "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"], path);
  }
  for (const method of ["TRACE", "QUERY"]) {
    const sent = request(`${door.url}/v1/models`, { method }).end();
    const [answer] = (await once(sent, "response")) as [IncomingMessage];
    assert.deepEqual([answer.statusCode, answer.headers.allow], [405, "GET, HEAD, OPTIONS"], method);
    answer.resume();
  }
  const malformed = await fetch(`${door.url}/v1/jobs/%zz`);
  assert.deepEqual([malformed.status, (await malformed.json()).code], [400, "invalid_request"]);
});

test("request ids are echoed when printable and made when not", async (t) => {
  const door = await openDoor(t);
  const ids = await Promise.all(
    ["mine-1", undefined, "x".repeat(500)].map(async (id) => {
      const response = await fetch(`${door.url}/livez`, { headers: id === undefined ? {} : { "x-request-id": id } });
      return response.headers.get("x-request-id")!;
    }),
  );
  assert.equal(ids[0], "mine-1");
  assert.match(ids[1]!, /^[0-9a-f]{12}-/);
  assert.notEqual(ids[1], ids[2]);
  assert.ok(ids[2]!.length < 100);
});

test("cross-origin calls are answered for configured origins only", async (t) => {
  const door = await openDoor(t, { corsOrigins: ["https://console.example"] });
  const from = async (origin: string) => (await fetch(`${door.url}/v1/models`, { headers: { origin } })).headers;
  assert.equal((await from("https://console.example")).get("access-control-allow-origin"), "https://console.example");
  assert.equal((await from("https://other.example")).get("access-control-allow-origin"), null);
  const preflight = await fetch(`${door.url}/v1/jobs`, {
    method: "OPTIONS",
    headers: { origin: "https://console.example", "access-control-request-method": "POST", "access-control-request-headers": "prefer" },
  });
  assert.equal(preflight.headers.get("access-control-allow-headers"), "prefer");
  const closed = await openDoor(t);
  const answer = await fetch(`${closed.url}/v1/models`, { headers: { origin: "https://console.example" } });
  assert.equal(answer.headers.get("access-control-allow-origin"), null);
});

test("hosts, models, probes and the description are served", async (t) => {
  const door = await openDoor(t);
  const get = async (path: string) => {
    const response = await fetch(door.url + path);
    return [response.status, await response.json()];
  };
  assert.equal((await get("/v1/hosts"))[1].items[0].id, "host-1");
  assert.equal((await get("/v1/hosts/host-1"))[1].state, "ready");
  assert.equal((await get("/v1/hosts/host-2"))[1].code, "host_not_found");
  assert.deepEqual((await get("/v1/models"))[1].items.length, 4);
  assert.deepEqual(
    (await get("/v1/models/tiny"))[1].items.map((view: { version: number }) => view.version),
    [2, 1],
  );
  assert.equal((await get("/v1/models/broken/versions/1"))[1].reason, "the graph ends early");
  assert.equal((await get("/v1/models/none"))[0], 404);
  assert.deepEqual(await get("/livez"), [200, { live: true }]);
  assert.deepEqual(await get("/readyz"), [200, { ready: true }]);
  const passed = ["draining", "store", "models", "hosts"].map((check) => ({ check, state: "passed" }));
  assert.deepEqual(await get("/readyz?verbose"), [200, { ready: true, failed: [], checks: passed }]);
  const [, description] = await get("/openapi.json");
  assert.equal(description.openapi, "3.1.0");
  for (const [path, operations] of Object.entries(description.paths as Record<string, object>)) {
    for (const method of Object.keys(operations)) {
      const response = await fetch(door.url + path.replace(/\{.*?\}/g, "1"), { method: method.toUpperCase() });
      assert.notEqual(response.status, 405, `${method} ${path}`);
      if (response.headers.get("content-type") === "text/event-stream")
        await response.body?.cancel(); // it does not end by itself
      else assert.doesNotMatch(await response.text(), /There is nothing at|not supported by this version/, `${method} ${path}`);
    }
  }
  door.jobs.problems = [{ check: "store", detail: "does not answer" }];
  const [status, problem] = await get("/readyz?verbose");
  assert.deepEqual([status, problem.failed], [503, door.jobs.problems]);
  const away = { check: "store", state: "failed", details: ["does not answer"] };
  assert.deepEqual(
    problem.checks,
    passed.map((one) => (one.check === "store" ? away : one)),
  );
  assert.deepEqual(await get("/livez"), [200, { live: true }]);
});

test("a draining door refuses new work, lets waiters go with 202 and closes connections", async (t) => {
  const door = await openDoor(t);
  const send = (headers: Record<string, string>) =>
    fetch(`${door.url}/v1/jobs`, {
      method: "POST",
      body: JSON.stringify(tinyRequest({ model: "tiny" })),
      headers: { "content-type": "application/json", ...headers },
    });
  const waiting = send({ prefer: "wait=60" });
  while (door.jobs.submissions.length === 0) await new Promise(setImmediate);
  door.drain();
  door.server.endWaits();
  assert.equal((await waiting).status, 202);
  assert.deepEqual(door.jobs.cancelled, []);
  const refused = await send({});
  assert.deepEqual([refused.status, (await refused.json()).code], [503, "draining"]);
  assert.ok(Number(refused.headers.get("retry-after")) >= 1);
  const infer = await fetch(`${door.url}/v2/models/tiny/infer`, { method: "POST", body: "{}" });
  assert.equal(infer.status, 503);
  assert.equal((await fetch(`${door.url}/v2/health/ready`)).status, 400);
  const probe = await fetch(`${door.url}/readyz`);
  assert.deepEqual([probe.status, probe.headers.get("connection")], [503, "close"]);
});

test("closing finishes a held inference, ends its connection and the streams, and then resolves", async (t) => {
  const door = await openDoor(t);
  const infer = fetch(`${door.url}/v2/models/tiny/infer`, { method: "POST", body: JSON.stringify(tinyRequest()) });
  while (door.jobs.submissions.length === 0) await new Promise(setImmediate);
  const { items } = await (await fetch(`${door.url}/v1/jobs`)).json();
  const events = await fetch(`${door.url}/v1/jobs/${items[0].id}/events`);
  const closed = door.server.close();
  assert.match(await events.text(), /event: queued/);
  door.jobs.end(items[0].id, "succeeded", { outputs: tinyScores() });
  const answer = await infer;
  assert.deepEqual([answer.status, answer.headers.get("connection")], [200, "close"]);
  await answer.arrayBuffer();
  await closed;
});

test("an inference that outlasts the drain hears which job it left, and takes the job with it when nobody could ask for it", async (t) => {
  const door = await openDoor(t);
  const infer = (headers: Record<string, string>) =>
    fetch(`${door.url}/v2/models/tiny/infer`, { method: "POST", body: JSON.stringify(tinyRequest()), headers });
  const keyed = infer({ "idempotency-key": "again" });
  while (door.jobs.submissions.length < 1) await new Promise(setImmediate);
  const unkeyed = infer({});
  while (door.jobs.submissions.length < 2) await new Promise(setImmediate);
  const [last, first] = (await (await fetch(`${door.url}/v1/jobs`)).json()).items;
  door.drain();
  const closed = door.server.close();
  door.server.endHeld();
  for (const [answer, text] of [
    [await keyed, `job ${first.id} goes on`],
    [await unkeyed, `job ${last.id} was cancelled`],
  ] as const) {
    assert.deepEqual([answer.status, answer.headers.get("x-switchyard-error")], [503, "draining"]);
    assert.ok(Number(answer.headers.get("retry-after")) >= 1);
    assert.match((await answer.json()).error, new RegExp(text));
  }
  assert.deepEqual(door.jobs.cancelled, [last.id]);
  await closed;
});

test("events that are asked for while the door drains tell the state and end", async (t) => {
  const door = await openDoor(t);
  const headers = { "content-type": "application/json" };
  const body = JSON.stringify(tinyRequest({ model: "tiny" }));
  const { links } = await (await fetch(`${door.url}/v1/jobs`, { method: "POST", body, headers })).json();
  door.drain();
  door.server.endWaits();
  const events = await fetch(door.url + links.events);
  assert.match(await events.text(), /event: queued/);
});

test("a taken port is told in words", async (t) => {
  const taken = createServer().listen(0, "127.0.0.1");
  t.after(() => taken.close());
  await new Promise((resolve) => taken.once("listening", resolve));
  const address = taken.address();
  assert.ok(typeof address === "object" && address !== null);
  const server = createMetricsServer({ contentType: "text/plain", text: async () => "" }, () => undefined);
  await assert.rejects(server.listen({ host: "127.0.0.1", port: address.port }), /is in use by another process/);
});

test("metrics count requests by route pattern and start known models at zero", async (t) => {
  const door = await openDoor(t);
  await fetch(`${door.url}/v1/models/tiny`);
  const { prometheusMetrics } = await import("../../coordinator/src/adapters/prometheus-metrics.ts");
  assert.match(
    await door.metricsText(),
    /switchyard_http_request_seconds_count\{route="\/v1\/models\/:model",method="GET",status="200"\} 1/,
  );
  const metrics = prometheusMetrics({ version: "1", processMetrics: true });
  metrics.modelKnown("tiny");
  metrics.admitted("tiny", "standard");
  metrics.leading(true);
  metrics.queueFigures({ model: "tiny", version: 1, tag: "queue-1" }, { waiting: 3, running: 1, oldestSeconds: 2, dead: 2 });
  metrics.queueFigures({ model: "tiny", version: 1, tag: "queue-2" }, { waiting: 1, running: 0, oldestSeconds: 5, dead: 1 });
  metrics.finished("tiny", "standard", "succeeded", { e2eSeconds: 0.02, queueSeconds: 0.01 });
  const server = createMetricsServer(metrics, () => undefined);
  const { port } = await server.listen({ host: "127.0.0.1", port: 0 });
  t.after(() => server.close());
  const response = await fetch(`http://127.0.0.1:${port}/metrics`);
  assert.match(response.headers.get("content-type")!, /^application\/openmetrics-text; version=1.0.0/);
  const text = await response.text();
  for (const line of [
    'switchyard_jobs_admitted_total{model="tiny",class="standard"} 1',
    'switchyard_jobs_admitted_total{model="tiny",class="batch"} 0',
    'switchyard_jobs_rejected_total{model="tiny",class="standard",reason="queue_full"} 0',
    'switchyard_jobs_finished_total{model="tiny",class="standard",outcome="expired"} 0',
    'switchyard_queue_jobs{model="tiny",state="queued"} 4',
    'switchyard_dead_letters{model="tiny"} 3',
    'switchyard_queue_oldest_seconds{model="tiny"} 5',
    'switchyard_job_e2e_seconds_bucket{le="0.025",model="tiny",class="standard"} 1',
    'switchyard_build_info{version="1",revision="unknown"} 1',
  ]) {
    assert.ok(text.includes(`${line}\n`), line);
  }
  metrics.modelGone("tiny");
  assert.doesNotMatch(await metrics.text(), /tiny/);
});

for (const [path, body] of [
  ["/v2/models/tiny/infer", tinyRequest({ parameters: { timeout: 60_000_000 } })],
  ["/v1/jobs", tinyRequest({ model: "tiny", timeout_ms: 60_000 })],
] as const) {
  test(`what a request waited for in its socket while another was served is told as spent: ${path}`, async (t) => {
    const door = await openDoor(t);
    const turnMs = 300;
    door.jobs.run = () => {
      for (const untilMs = performance.now() + turnMs; performance.now() < untilMs; );
      return tinyScores();
    };
    const text = JSON.stringify(body);
    const request = `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
    const sockets = await Promise.all(
      [0, 1].map(async () => {
        const socket = connect(door.port, "127.0.0.1");
        await once(socket, "connect");
        return socket;
      }),
    );
    const answers = sockets.map((socket) => once(socket.setEncoding("latin1"), "data"));
    for (const socket of sockets) socket.write(request);
    for (const [answer] of await Promise.all(answers)) assert.match(answer, /^HTTP\/1.1 20[02]/);
    for (const socket of sockets) socket.destroy();
    const [first, second] = door.jobs.submissions;
    assert.deepEqual([first!.timeoutMs, second!.timeoutMs], [60_000, 60_000]);
    assert.ok(second!.spentMs! - first!.spentMs! >= turnMs / 2 - 50, `${first!.spentMs} and ${second!.spentMs} ms`);
  });
}

test("refusals leave at the end of the turn that read their requests", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = ({ timeoutMs }) => {
    if (timeoutMs === 1) throw new SwitchyardError("deadline_unattainable", "the job would be done in about 9 ms, and has 1 ms");
    return tinyScores();
  };
  const answered: unknown[] = [];
  const heard = (message: unknown): void => void answered.push((message as { request: IncomingMessage }).request.headers["x-request-id"]);
  subscribe("http.server.response.finish", heard);
  t.after(() => unsubscribe("http.server.response.finish", heard));
  const [refused, served] = (await Promise.all(
    ["refused", "served"].map(async (id) => {
      const socket = connect(door.port, "127.0.0.1");
      await once(socket, "connect");
      socket.resume();
      const text = JSON.stringify(tinyRequest());
      const limit = `X-Request-Timeout-Ms: ${id === "refused" ? 1 : 60_000}`;
      return {
        socket,
        request: `POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nX-Request-Id: ${id}\r\n${limit}\r\nContent-Length: ${text.length}\r\n\r\n${text}`,
      };
    }),
  )) as [{ socket: Socket; request: string }, { socket: Socket; request: string }];
  // the system hardly ever tells of the later of two first
  const rounds = 20;
  let servedFirst = 0;
  for (let round = 1; round <= rounds; round++) {
    refused.socket.write(refused.request);
    served.socket.write(served.request);
    for (const untilMs = performance.now() + 10; performance.now() < untilMs; ); // both have come when the next turn reads
    await until("their answers", async () => answered.length === 2 * round);
    if (answered.at(-2) === "served") servedFirst++;
  }
  assert.ok(servedFirst > rounds / 2, `${servedFirst} of ${rounds}`);
  for (const { socket } of [refused, served]) socket.destroy();
});

test("refusals reach each its client, however many leave together, and those whose client has gone are in nobody's way", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = () => {
    throw new SwitchyardError("deadline_unattainable", "the job would be done in about 9 ms, and has 1 ms", {
      estimatedMs: 9,
      retryAfterMs: 8,
    });
  };
  const text = JSON.stringify(tinyRequest());
  const request = (id: number): string =>
    `POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nX-Request-Id: ${id}\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
  const clients = 40;
  const sockets = await Promise.all(
    Array.from({ length: clients }, async () => {
      const socket = connect(door.port, "127.0.0.1");
      await once(socket, "connect");
      return socket.setEncoding("latin1");
    }),
  );
  const answers = sockets.map(async (socket, id) => {
    let said = "";
    socket.on("data", (piece) => {
      said += piece;
    });
    await until(`the answers of ${id}`, async () => id % 8 === 7 || said.split("HTTP/1.1 503").length === 3);
    return said;
  });
  for (const [id, socket] of sockets.entries()) {
    socket.write(request(id) + request(id + clients)); // the second one before the first is answered
    if (id % 8 === 7) socket.destroy();
  }
  for (const [id, said] of (await Promise.all(answers)).entries()) {
    if (id % 8 === 7) continue;
    const ids = [...said.matchAll(/^x-request-id: (\d+)/gim)].map(([, found]) => Number(found));
    assert.deepEqual(ids, [id, id + clients]);
    assert.equal(said.split('{"error":"the job would be done in about 9 ms, and has 1 ms"}').length, 3);
    assert.equal(said.split("x-switchyard-error: deadline_unattainable").length, 3);
  }
  for (const socket of sockets) socket.destroy();
  assert.equal((await fetch(`${door.url}/livez`)).status, 200);
});

const manyClients = 1_500;

test("clients that come together while the coordinator is held up are connected", async (t) => {
  const somaxconn = "/proc/sys/net/core/somaxconn";
  if (!existsSync(somaxconn)) return t.skip("how many connections may wait to be accepted is known on Linux only");
  const allowed = Number(readFileSync(somaxconn, "utf8"));
  if (allowed < manyClients) return t.skip(`this system lets ${allowed} connections wait to be accepted`);
  const door = await openDoor(t);
  const connects = `
    let connected = 0;
    const tell = () => { process.stdout.write(String(connected)); process.exit(); };
    setTimeout(tell, 20_000);
    for (let client = 0; client < ${manyClients}; client++)
      require("node:net").connect(${door.port}, "127.0.0.1", () => ++connected === ${manyClients} && tell());`;
  // this process accepts none meanwhile
  const { stderr, stdout } = spawnSync(process.execPath, ["-e", connects], { encoding: "utf8", timeout: 60_000 });
  assert.equal(stdout, String(manyClients), stderr || `${stdout} of ${manyClients} were connected`);
});
