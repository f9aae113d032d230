/** The SDK against a server that plays the protocol and fails on purpose. */

import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import { decodeInferRequest, encodeInferResponse, tensor } from "@switchyard/protocol";
import { ClientError, ConnectionError, Switchyard, TimeoutError } from "switchyard";
import { systemClock } from "../../client-sdk/src/clock.ts";
import { jobView } from "../support/job-views.ts";
import { answerJson, type SeenRequest, startScriptedServer } from "../support/scripted-server.ts";
import { until } from "../support/until.ts";

const quick = { minDelayMs: 1, maxDelayMs: 10, giveUpAfterMs: 30_000 };
const inputs = { x: { data: Float32Array.of(1, 2), shape: [1, 2] } };

function answerTensors(response: ServerResponse, headers: Record<string, string> = {}): void {
  const outputs = [tensor("y", Float32Array.of(3, 4), [1, 2]), tensor("n", BigInt64Array.of(2n ** 62n)), tensor("words", ["ä", "b"])];
  const encoded = encodeInferResponse({ response: { modelName: "m", modelVersion: "3", outputs }, wishes: { binaryDefault: true } });
  response.writeHead(200, {
    "content-type": encoded.contentType,
    "inference-header-content-length": String(encoded.headerLength),
    ...headers,
  });
  response.end(Buffer.concat(encoded.parts));
}

function busy(response: ServerResponse, headers: Record<string, string> = {}): void {
  response.writeHead(503, { "content-type": "application/json", ...headers });
  response.end('{"error": "the queue is full"}');
}

function keyOf(request: SeenRequest | undefined): string | undefined {
  return request?.headers["idempotency-key"] as string | undefined;
}

/** What a request says is what is left of its caller's time when it goes out; the call began at `startMs` of performance.now() and is over. */
function assertLeft(request: SeenRequest | undefined, timeoutMs: number, startMs: number): void {
  const leftMs = Number(request?.headers["x-request-timeout-ms"]);
  assert.ok(leftMs >= timeoutMs - (performance.now() - startMs) && leftMs <= timeoutMs, `${leftMs} of ${timeoutMs} ms`);
}

test("infer sends tensors as bytes and answers typed arrays by name", async () => {
  await using server = await startScriptedServer((_, response) => answerTensors(response, { "server-timing": "queue;dur=1.5, run;dur=2" }));
  const client = new Switchyard({ url: `${server.url}/`, apiKey: "secret" });
  const startMs = performance.now();
  const answer = await client.infer("a/b", inputs, { version: 3, class: "interactive", outputs: ["y"], timeoutMs: 4_000 });

  assert.deepEqual([answer.model, answer.version], ["m", 3]);
  assert.deepEqual(answer.outputs.y?.data, Float32Array.of(3, 4));
  assert.deepEqual(answer.outputs.n?.data, BigInt64Array.of(2n ** 62n));
  assert.deepEqual(answer.outputs.words?.data, ["ä", "b"]);
  assert.deepEqual(answer.timings, { queueMs: 1.5, runMs: 2 });

  const [request] = server.seen;
  assert.equal(request?.url, "/v2/models/a%2Fb/versions/3/infer");
  assert.equal(request.headers.authorization, "Bearer secret");
  assertLeft(request, 4_000, startMs);
  assert.equal(keyOf(request), undefined, "the first try of an infer carries no key");
  const sent = decodeInferRequest({ body: request.body, headerLength: Number(request.headers["inference-header-content-length"]) });
  assert.deepEqual(sent.inputs[0]?.bytes, new Uint8Array(Float32Array.of(1, 2).buffer));
  assert.equal(sent.parameters.priority, 1);
  assert.equal(sent.binaryDefault, true);
  assert.deepEqual(sent.outputs, [{ name: "y" }]);
});

test("an infer that is refused for now is repeated as one request under one key", async () => {
  await using server = await startScriptedServer((_, response, count) => (count < 4 ? busy(response) : answerTensors(response)));
  await new Switchyard({ url: server.url, retry: quick }).infer("m", inputs, { timeoutMs: 60_000 });
  const keys = server.seen.map(keyOf);
  assert.equal(keys.length, 4);
  assert.equal(keys[0], undefined);
  assert.match(keys[1] ?? "", /^"[0-9a-f]{32}"$/);
  assert.deepEqual([keys[2], keys[3]], [keys[1], keys[1]]);
  for (const request of server.seen.slice(2)) {
    assert.deepEqual(request.body, server.seen[1]?.body);
    assert.equal(request.headers["x-request-timeout-ms"], server.seen[1]?.headers["x-request-timeout-ms"], "tries with one key are equal");
  }
});

test("an infer whose connection breaks is repeated", async () => {
  await using server = await startScriptedServer((_, response, count) => {
    if (count === 1) response.destroy();
    else if (count === 2) response.writeHead(200, { "content-length": "100" }).write("half", () => response.destroy());
    else answerTensors(response);
  });
  const answer = await new Switchyard({ url: server.url, retry: quick }).infer("m", inputs);
  assert.equal(answer.version, 3);
  assert.equal(server.seen.length, 3);
});

test("Retry-After is honoured, and a wait beyond the deadline is not begun", async () => {
  await using server = await startScriptedServer((_, response) => busy(response, { "retry-after": "30" }));
  const waits: number[] = [];
  const clock = {
    nowMs: () => 0,
    monotonicMs: () => waits.reduce((sum, ms) => sum + ms, 0),
    sleep: async (ms: number) => void waits.push(ms),
    after: () => () => {},
    jitter: () => 0.5,
  };
  const failure = new Switchyard({ url: server.url, clock }).infer("m", inputs, { timeoutMs: 100_000 });
  await assert.rejects(failure, (error: ClientError) => error.status === 503 && error.retryable && error.retryAfterMs === 30_000);
  assert.deepEqual(waits, [30_000, 30_000, 30_000]);
  assert.equal(server.seen.length, 4);
});

test("pauses double with jitter up to the longest", async () => {
  await using server = await startScriptedServer((_, response, count) => (count < 6 ? busy(response) : answerTensors(response)));
  const waits: number[] = [];
  const clock = {
    nowMs: () => 0,
    monotonicMs: () => 0,
    sleep: async (ms: number) => void waits.push(ms),
    after: () => () => {},
    jitter: () => 0.5,
  };
  await new Switchyard({ url: server.url, clock, retry: { minDelayMs: 100, maxDelayMs: 500 } }).infer("m", inputs);
  assert.deepEqual(waits, [75, 150, 300, 375, 375]);
});

test("a refusal that will not change is thrown at once, with its fields", async () => {
  await using server = await startScriptedServer((request, response) => {
    if (request.url.startsWith("/v2")) return answerJson(response, 400, { error: "unexpected input 'x'" });
    answerJson(response, 422, {
      type: "about:blank",
      title: "The inputs do not match",
      status: 422,
      detail: "Input 'x' does not fit",
      code: "signature_mismatch",
      retryable: false,
      errors: [{ pointer: "/inputs/0/shape", expected: "[-1,64]", got: "[1,2]" }],
    });
  });
  const client = new Switchyard({ url: server.url, retry: quick });
  await assert.rejects(
    client.infer("m", inputs),
    (error: ClientError) => error.code === "invalid_request" && error.message === "unexpected input 'x'",
  );
  await assert.rejects(client.submit("m", inputs), (error: ClientError) => {
    assert.equal(error.code, "signature_mismatch");
    assert.equal(error.status, 422);
    assert.equal(error.retryable, false);
    assert.equal(error.problem?.errors?.[0]?.got, "[1,2]");
    assert.match(error.message, /\/inputs\/0\/shape: expected \[-1,64\], got \[1,2\]/);
    return true;
  });
  assert.equal(server.seen.length, 2);
});

/** Four minutes pass when the server says so, which has the request by then; nothing else takes any time. */
function clockOfLongCalls() {
  let nowMs = 0;
  const tries = new Set<() => void>();
  return {
    pass(): void {
      nowMs += 240_000;
      for (const run of tries) run();
    },
    ...systemClock,
    monotonicMs: () => nowMs,
    sleep: async (ms: number) => {
      nowMs += ms;
    },
    after(ms: number, run: () => void) {
      if (ms === 240_000) tries.add(run);
      return () => void tries.delete(run);
    },
  };
}

test("an infer of a long deadline is one job: tries of four minutes and cut connections ask for it again by its key", async () => {
  const clock = clockOfLongCalls();
  await using server = await startScriptedServer((_, response, count) => {
    if (count === 2) response.destroy();
    else if (count > 3) answerTensors(response);
    else clock.pass();
  });
  await new Switchyard({ url: server.url, clock }).infer("m", inputs, { timeoutMs: 1_000_000 });
  assert.equal(server.seen.length, 4);
  for (const request of server.seen) {
    assert.match(keyOf(request) ?? "", /^"[0-9a-f]{32}"$/);
    assert.equal(keyOf(request), keyOf(server.seen[0]));
    assert.equal(request.headers["x-request-timeout-ms"], "1000000");
    assert.deepEqual(request.body, server.seen[0]?.body);
  }
});

test("an infer that turns out to be long is begun again once, under a key", async () => {
  const clock = clockOfLongCalls();
  await using server = await startScriptedServer((_, response, count) => (count < 4 ? clock.pass() : answerTensors(response)));
  await new Switchyard({ url: server.url, clock }).infer("m", inputs);
  const [first, second, ...later] = server.seen.map(keyOf);
  assert.equal(first, undefined);
  assert.match(second ?? "", /^"[0-9a-f]{32}"$/);
  assert.deepEqual(later, [second, second]);
  await using silent = await startScriptedServer(() => clock.pass());
  const once = new Switchyard({ url: silent.url, clock, retry: false });
  await assert.rejects(once.infer("m", inputs), ConnectionError);
  assert.equal(silent.seen.length, 1);
});

test("a job that failed for now is handed in twice more, as other jobs; a model that does not load is asked for once", async () => {
  let code = "model_not_ready";
  await using server = await startScriptedServer((_, response) => {
    busy(response, { "x-switchyard-error": code, "x-switchyard-job": "abc" });
  });
  const client = new Switchyard({ url: server.url, retry: quick });
  await assert.rejects(client.infer("m", inputs, { timeoutMs: 60_000 }), { code, jobId: "abc" });
  assert.equal(server.seen.length, 3);
  assert.equal(new Set(server.seen.map(keyOf)).size, 3, "the key of a failed job would find that job again");
  code = "model_failed";
  await assert.rejects(client.infer("m", inputs, { timeoutMs: 60_000 }), { code, retryable: false });
  assert.equal(server.seen.length, 4);
});

test("a server that names no job in such an answer, but says that it is an earlier one's, is handed another job as well", async () => {
  const known = new Set<string>();
  await using server = await startScriptedServer((request, response) => {
    const key = keyOf(request) ?? "none";
    busy(response, { "x-switchyard-error": "model_not_ready", ...(known.has(key) && { "idempotent-replayed": "true" }) });
    if (key !== "none") known.add(key);
  });
  const client = new Switchyard({ url: server.url, retry: quick });
  await assert.rejects(client.infer("m", inputs, { timeoutMs: 60_000 }), { code: "model_not_ready" });
  assert.deepEqual(
    server.seen.map((request) => [...new Set(server.seen.map(keyOf))].indexOf(keyOf(request))),
    [0, 1, 1, 2, 2, 3, 3],
  );
});

test("a fetch whose answers are no streams will do", async () => {
  await using server = await startScriptedServer((_, response) => answerTensors(response));
  const plain: typeof fetch = async (...given) => {
    const answer = await fetch(...given);
    return Object.defineProperty(answer, "body", { value: undefined });
  };
  assert.equal((await new Switchyard({ url: server.url, fetch: plain }).infer("m", inputs)).version, 3);
});

test("a coordinator that does not know its models yet is asked until it does, as one request", async () => {
  const code = "model_not_ready";
  await using server = await startScriptedServer((request, response, count) => {
    const refusal = { code, detail: "this coordinator has just started", status: 503, retryable: true };
    if (count % 6 !== 0) return answerJson(response, 503, refusal, { "x-switchyard-error": code });
    if (request.url.startsWith("/v2")) answerTensors(response);
    else answerJson(response, 202, jobView("queued"));
  });
  const client = new Switchyard({ url: server.url, retry: quick });
  await client.infer("m", inputs, { timeoutMs: 60_000 });
  await client.submit("m", inputs);
  assert.equal(server.seen.length, 12);
  assert.equal(new Set(server.seen.slice(1, 6).map(keyOf)).size, 1, "nothing was admitted: it is the same request");
  assert.equal(new Set(server.seen.slice(6).map(keyOf)).size, 1);
});

test("a client that tries once still gives its whole deadline to that try", async () => {
  await using server = await startScriptedServer((_, response) => answerTensors(response));
  const startMs = performance.now();
  await new Switchyard({ url: server.url, retry: false }).infer("m", inputs, { timeoutMs: 5_000 });
  assertLeft(server.seen[0], 5_000, startMs);
});

test("aborting an infer closes its request and throws the signal's reason", async () => {
  await using server = await startScriptedServer(() => {});
  const caller = new AbortController();
  const call = new Switchyard({ url: server.url }).infer("m", inputs, { signal: caller.signal });
  const request = await server.request(1);
  const reason = new Error("the user left");
  caller.abort(reason);
  await assert.rejects(call, (error) => error === reason);
  await request.closed;
  assert.equal(server.seen.length, 1);
});

test("a server that never answers ends in a TimeoutError by the caller's own clock", async () => {
  await using server = await startScriptedServer(() => {});
  await assert.rejects(new Switchyard({ url: server.url }).infer("m", inputs, { timeoutMs: 50 }), TimeoutError);
});

test("an address where nobody listens is a ConnectionError that names it", async () => {
  const server = await startScriptedServer(() => {});
  await server.stop();
  const client = new Switchyard({ url: server.url, retry: false });
  await assert.rejects(client.hosts(), (error: ConnectionError) => {
    assert.ok(error instanceof ConnectionError && error instanceof ClientError);
    assert.equal(error.url, server.url);
    assert.match(error.message, /ECONNREFUSED/);
    return true;
  });
  await assert.rejects(client.infer("m", inputs), ConnectionError);
});

test("with two addresses, the one that answers is used", async () => {
  const away = await startScriptedServer(() => {});
  await away.stop();
  await using server = await startScriptedServer((_, response) => answerTensors(response));
  const client = new Switchyard({ url: [away.url, server.url], retry: quick });
  await client.infer("m", inputs);
  await client.infer("m", inputs);
  assert.equal(server.seen.length, 2);
  assert.equal(client.url, server.url);
});

test("submit sends a key from the first try and the same one again", async () => {
  await using server = await startScriptedServer((_, response, count) => {
    if (count === 1) response.destroy();
    else answerJson(response, 202, jobView("queued"));
  });
  const client = new Switchyard({ url: server.url, retry: quick });
  const job = await client.submit(
    "digits",
    { words: ["a", "b"] },
    { tags: { run: "7" }, maxAttempts: 2, timeoutMs: 60_000, class: "batch" },
  );
  assert.equal(job.id, jobView("queued").id);
  const [first, second] = server.seen;
  assert.match(keyOf(first) ?? "", /^"[0-9a-f]{32}"$/);
  assert.equal(keyOf(second), keyOf(first));
  const length = Number(first?.headers["inference-header-content-length"]);
  const { inputs: sent, ...fields } = JSON.parse(String(first?.body.subarray(0, length)));
  assert.deepEqual(fields, { model: "digits", timeout_ms: 60_000, class: "batch", max_attempts: 2, tags: { run: "7" } });
  assert.equal(sent[0].datatype, "BYTES");
  await client.submit("digits", inputs, { idempotencyKey: "mine" });
  assert.equal(keyOf(server.seen.at(-1)), '"mine"');
});

test("result outlives a restart of the server", async () => {
  await using server = await startScriptedServer((request, response, count) => {
    if (count === 1) return; // held until the server goes
    if (request.url.includes("/result")) answerTensors(response);
    else if (count === 2)
      answerJson(response, 503, { code: "store_unavailable", detail: "no Redis", retryable: true }, { "retry-after": "0" });
    else if (count === 3) answerJson(response, 200, jobView("running"));
    else answerJson(response, 200, jobView("succeeded", { timings: { queue_ms: 1, run_ms: 2, total_ms: 4, batch_items: 8 } }));
  });
  const result = new Switchyard({ url: server.url, retry: quick }).job("abc").result();
  const request = await server.request(1);
  assert.equal(request.url, "/v1/jobs/abc?wait=25");
  await server.stop();
  await server.restart();
  const answer = await result;
  assert.deepEqual(answer.outputs.y?.data, Float32Array.of(3, 4));
  assert.deepEqual(answer.timings, { queueMs: 1, runMs: 2, totalMs: 4, batchItems: 8 });
  const last = server.seen.at(-1);
  assert.equal(last?.url, "/v1/jobs/abc/result");
  assert.equal(last.headers.accept, "application/octet-stream");
});

test("a large result takes as long as pieces of it come; silence in it is another try", async () => {
  let say: (part: "next" | "nothing more") => void = () => {};
  const limits: (() => void)[] = [];
  await using server = await startScriptedServer((request, response, count) => {
    if (!request.url.includes("/result")) return answerJson(response, 200, jobView("succeeded"));
    const outputs = [tensor("y", Float32Array.of(3, 4), [1, 2])];
    const { contentType, headerLength, parts } = encodeInferResponse({
      response: { modelName: "m", modelVersion: "3", outputs },
      wishes: { binaryDefault: true },
    });
    const body = Buffer.concat(parts);
    response.writeHead(200, { "content-type": contentType, "inference-header-content-length": String(headerLength) });
    if (count > 2) return void response.end(body);
    response.write(body.subarray(0, 5));
    say = (part) => {
      if (part === "next") response.write(body.subarray(5, 10));
    };
  });
  const clock = {
    ...systemClock,
    after(ms: number, run: () => void) {
      if (ms !== 10_000) return systemClock.after(ms, run);
      limits.push(run);
      return () => void limits.splice(limits.indexOf(run), 1);
    },
  };
  const result = new Switchyard({ url: server.url, clock, retry: quick }).job("abc").result();
  await server.request(2);
  await until("the answer to begin", async () => limits.length === 1);
  const [first] = limits;
  say("next");
  await until("a piece to start the time again", async () => limits.length === 1 && limits[0] !== first);
  limits[0]!();
  const answer = await result;
  assert.deepEqual(answer.outputs.y?.data, Float32Array.of(3, 4));
  assert.equal(server.seen.length, 3, "the job, the result that fell silent, and once more");
});

test("a wait that is longer than a timer can be is not over at once", async () => {
  await using server = await startScriptedServer((_, response, count) => {
    if (count < 2) answerJson(response, 200, jobView("running"));
    else answerJson(response, 200, jobView("succeeded"));
  });
  const job = new Switchyard({ url: server.url, retry: quick }).job("abc");
  assert.equal((await job.finished({ timeoutMs: Number.POSITIVE_INFINITY })).state, "succeeded");
  assert.equal((await job.finished({ timeoutMs: 30 * 24 * 3_600_000 })).state, "succeeded");
});

test("a server that stays away ends the wait for a result", async () => {
  const server = await startScriptedServer(() => {});
  await server.stop();
  const client = new Switchyard({ url: server.url, retry: { ...quick, giveUpAfterMs: 50 } });
  await assert.rejects(client.job("abc").result(), ConnectionError);
});

/** A limit that is over when the server has the request. */
const lateMs = 12_345;

test("ending the wait for a result leaves the job alone", async () => {
  let endLate = (): void => {};
  await using server = await startScriptedServer((_, _response, count) => {
    if (count === 2) endLate();
  });
  const clock = {
    ...systemClock,
    after(ms: number, run: () => void) {
      if (ms !== lateMs) return systemClock.after(ms, run);
      endLate = run;
      return () => {};
    },
  };
  const job = new Switchyard({ url: server.url, clock }).job("abc");
  const caller = new AbortController();
  const aborted = job.result({ signal: caller.signal });
  const request = await server.request(1);
  caller.abort();
  await assert.rejects(aborted, { name: "AbortError" });
  await request.closed;
  await assert.rejects(job.result({ timeoutMs: lateMs }), (error: TimeoutError) => error instanceof TimeoutError && error.jobId === "abc");
  assert.deepEqual(
    server.seen.map((seen) => seen.method),
    ["GET", "GET"],
  );
});

test("a job that ended without a result throws the job's own error", async () => {
  const views = {
    failed: jobView("failed", { error: { code: "run_failed", detail: "node Add failed", retryable: true } }),
    cancelled: jobView("cancelled"),
    expired: jobView("expired"),
  };
  await using server = await startScriptedServer((request, response) => {
    answerJson(response, 200, views[request.url.split(/[/?]/)[3] as keyof typeof views]);
  });
  const client = new Switchyard({ url: server.url });
  await assert.rejects(client.job("failed").result(), { code: "run_failed", message: "node Add failed", jobId: jobView("failed").id });
  await assert.rejects(client.job("cancelled").result(), { code: "cancelled" });
  await assert.rejects(client.job("expired").result(), { code: "expired" });
});

test("states of a newer server are unknown, not errors", async () => {
  await using server = await startScriptedServer((_, response) =>
    answerJson(response, 200, { ...jobView("queued"), state: "paused", more: 1 }),
  );
  const view = await new Switchyard({ url: server.url }).job("abc").status();
  assert.equal(view.state, "unknown");
});

function sendEvent(response: ServerResponse, id: number, state: "queued" | "running" | "succeeded"): void {
  response.write(`id: ${id}\nevent: ${state}\ndata: ${JSON.stringify(jobView(state))}\n\n`);
}

test("events go on after a broken stream without gap or repeat", async () => {
  await using server = await startScriptedServer((_, response, count) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("retry: 1\n: keep-alive\n\n");
    if (count === 1) {
      sendEvent(response, 1, "queued");
      sendEvent(response, 2, "running");
      response.write("id: 3\nevent: que", () => response.destroy());
    } else if (count === 2) response.end();
    else {
      sendEvent(response, 2, "running");
      sendEvent(response, 3, "queued");
      sendEvent(response, 4, "running");
      sendEvent(response, 9, "succeeded");
    }
  });
  const events: string[] = [];
  for await (const event of new Switchyard({ url: server.url, retry: quick }).job("abc").events())
    events.push(`${event.id} ${event.type} ${event.job.state}`);
  assert.deepEqual(events, ["1 queued queued", "2 running running", "3 queued queued", "4 running running", "9 succeeded succeeded"]);
  assert.deepEqual(
    server.seen.map((request) => request.headers["last-event-id"]),
    [undefined, "2", "2"],
  );
  await server.request(3).then((request) => request.closed); // the client hangs up after the last event
});

test("an event that comes in pieces is read whole, and leaving the loop hangs up", async () => {
  await using server = await startScriptedServer(async (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    const bytes = Buffer.from(`id: 1\nevent: queued\ndata: ${JSON.stringify(jobView("queued", { tags: { name: "größe 🚂" } }))}\n\n`);
    for (let at = 0; at < bytes.length; at += 7)
      await new Promise<void>((resolve) => response.write(bytes.subarray(at, at + 7), () => setImmediate(resolve)));
  });
  for await (const event of new Switchyard({ url: server.url }).job("abc").events()) {
    assert.equal(event.job.tags?.name, "größe 🚂");
    break;
  }
  await (await server.request(1)).closed;
});

test("events behind the last one end at once", async () => {
  await using server = await startScriptedServer((_, response) => void response.writeHead(204).end());
  const events = new Switchyard({ url: server.url, retry: quick }).job("abc").events({ lastEventId: "9" });
  assert.equal((await events.next()).done, true);
  assert.equal(server.seen[0]?.headers["last-event-id"], "9");
});

test("events can be aborted, and time out", async () => {
  await using server = await startScriptedServer((_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    sendEvent(response, 1, "queued");
  });
  const job = new Switchyard({ url: server.url }).job("abc");
  const caller = new AbortController();
  const aborted = async (): Promise<void> => {
    for await (const _ of job.events({ signal: caller.signal })) caller.abort();
  };
  await assert.rejects(aborted(), { name: "AbortError" });
  const late = async (): Promise<void> => {
    for await (const _ of job.events({ timeoutMs: 50 }));
  };
  await assert.rejects(late(), TimeoutError);
});

test("events of an unknown job are refused, not repeated", async () => {
  await using server = await startScriptedServer((_, response) =>
    answerJson(response, 404, { code: "job_not_found", detail: "no such job", retryable: false }),
  );
  await assert.rejects(new Switchyard({ url: server.url, retry: quick }).job("abc").events().next(), {
    code: "job_not_found",
    status: 404,
  });
  assert.equal(server.seen.length, 1);
});

test("lists go on over empty pages", async () => {
  await using server = await startScriptedServer((request, response) => {
    const cursor = new URL(request.url, "http://any").searchParams.get("cursor");
    const next = cursor === null ? "b" : cursor === "b" ? "c" : undefined;
    const items = cursor === "b" ? [] : [jobView("failed", { id: cursor ?? "a" })];
    answerJson(response, 200, { items, links: next === undefined ? {} : { next: `/v1/jobs?state=failed&cursor=${next}` } });
  });
  const ids: string[] = [];
  for await (const job of new Switchyard({ url: server.url }).jobs.each({ state: "failed", tag: "run=7" })) ids.push(job.id);
  assert.deepEqual(ids, ["a", "c"]);
  assert.equal(server.seen[0]?.url, "/v1/jobs?state=failed&tag=run%3D7");
});

test("an address of something else is told from Switchyard", async () => {
  await using server = await startScriptedServer((_, response) => void response.end("<html>hello</html>"));
  const client = new Switchyard({ url: server.url });
  await assert.rejects(client.job("abc").status(), { code: "unexpected_answer" });
  await assert.rejects(client.infer("m", inputs), { code: "unexpected_answer" });
});

test("nonsense is refused before anything is sent", async () => {
  const client = new Switchyard({ url: "http://127.0.0.1:9" });
  await assert.rejects(client.infer("m", inputs, { timeoutMs: Number.NaN }), { code: "invalid_request" });
  await assert.rejects(client.infer("m", inputs, { version: 0 }), { code: "invalid_request" });
  await assert.rejects(client.infer("m", { x: [[1], [2, 3]] as never }), { code: "invalid_request" });
  await assert.rejects(client.submit("m", inputs, { idempotencyKey: 'a"b' }), { code: "invalid_request" });
  assert.throws(() => new Switchyard({ url: "localhost:8000" }), { code: "invalid_request" });
});
