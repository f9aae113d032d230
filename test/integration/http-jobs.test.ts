import assert from "node:assert/strict";
import { request as httpRequest } from "node:http";
import { test } from "node:test";
import { SwitchyardError } from "@switchyard/protocol";
import { floats, type OpenDoor, openDoor, tinyRequest, tinyScores } from "../support/open-door.ts";

function submit(door: OpenDoor, headers: Record<string, string> = {}, extra: Record<string, unknown> = {}): Promise<Response> {
  const body = JSON.stringify(tinyRequest({ model: "tiny", ...extra }));
  return fetch(`${door.url}/v1/jobs`, { method: "POST", body, headers: { "content-type": "application/json", ...headers } });
}

async function submitted(door: OpenDoor): Promise<string> {
  return (await (await submit(door)).json()).id;
}

async function problemOf(response: Response) {
  assert.equal(response.headers.get("content-type"), "application/problem+json");
  const problem = await response.json();
  assert.equal(problem.status, response.status);
  return problem;
}

test("a job is accepted with 202, its address and its view", async (t) => {
  const door = await openDoor(t);
  const response = await submit(door, {}, { timeout_ms: 5000, class: "batch", tags: { team: "a" } });
  assert.equal(response.status, 202);
  const view = await response.json();
  assert.equal(response.headers.get("location"), `/v1/jobs/${view.id}`);
  assert.deepEqual(
    [view.state, view.model, view.version, view.class, view.attempt, view.tags],
    ["queued", "tiny", 2, "batch", 0, { team: "a" }],
  );
  assert.deepEqual(view.links, { self: `/v1/jobs/${view.id}`, result: `/v1/jobs/${view.id}/result`, events: `/v1/jobs/${view.id}/events` });
  assert.equal(Date.parse(view.deadline) - Date.parse(view.created_at), 5000);
  assert.equal(door.jobs.submissions[0]!.hold, false);
});

test("a binary body and an idempotency key as structured string or bare token make the same kind of job", async (t) => {
  const door = await openDoor(t);
  const head = Buffer.from(
    JSON.stringify({ model: "tiny", inputs: [{ name: "image", datatype: "FP32", shape: [1, 4], parameters: { binary_data_size: 16 } }] }),
  );
  const send = (key: string) =>
    fetch(`${door.url}/v1/jobs`, {
      method: "POST",
      body: Buffer.concat([head, floats(1, 2, 3, 4)]),
      headers: {
        "content-type": "application/octet-stream",
        "inference-header-content-length": String(head.length),
        "idempotency-key": key,
      },
    });
  const first = await send('"key \\"1\\""');
  const again = await send('"key \\"1\\""');
  assert.equal((await first.json()).id, (await again.json()).id);
  assert.equal(again.headers.get("idempotent-replayed"), "true");
  assert.equal((await send("bare-token")).headers.get("idempotent-replayed"), null);
  assert.deepEqual(
    door.jobs.submissions.map((one) => one.idempotency?.key),
    ['key "1"', "bare-token"],
  );
  for (const key of ["", '""', "k".repeat(256), "two words"]) assert.equal((await send(key)).status, 400, key);
});

test("Prefer: wait answers 200 with the view and the result inline, respond-async answers 202", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  const response = await submit(door, { prefer: "wait=5" }, { id: "mine" });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("preference-applied"), "wait=5");
  assert.match(response.headers.get("vary")!, /Prefer/);
  const view = await response.json();
  assert.equal(view.state, "succeeded");
  assert.deepEqual(view.timings, { queue_ms: 1, run_ms: 2, total_ms: 3, batch_items: 1 });
  assert.deepEqual(view.result, {
    model_name: "tiny",
    model_version: "2",
    id: "mine",
    outputs: [{ name: "scores", datatype: "FP32", shape: [1, 3], data: [0.25, 0.5, 0.125] }],
  });
  const accepted = await submit(door, { prefer: "respond-async, wait=5" });
  assert.deepEqual([accepted.status, accepted.headers.get("preference-applied")], [202, "respond-async"]);
});

test("a wait that is over answers 202, one whose job fails answers 200 with the error in the view", async (t) => {
  const door = await openDoor(t);
  const late = await submit(door, { prefer: "wait=0" });
  assert.deepEqual([late.status, late.headers.get("preference-applied")], [202, "wait=0"]);
  const held = submit(door, { prefer: "wait=10000000000" });
  while (door.jobs.submissions.length < 2) await new Promise(setImmediate);
  const { items } = await (await fetch(`${door.url}/v1/jobs`)).json();
  door.jobs.end(items[0].id, "failed", { error: { code: "run_failed", detail: "no", retryable: true } });
  const response = await held;
  assert.deepEqual([response.status, response.headers.get("preference-applied")], [200, "wait=60"]);
  const view = await response.json();
  assert.deepEqual([view.state, view.error.code, view.result], ["failed", "run_failed", undefined]);
});

test("results beyond 1 MiB, and values without a JSON form, are not inline", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = () => [{ name: "scores", datatype: "FP32", shape: [1, 300_000], bytes: new Uint8Array(1_200_000) }];
  assert.equal((await (await submit(door, { prefer: "wait=5" })).json()).result, undefined);
  door.jobs.run = () => [{ name: "scores", datatype: "FP32", shape: [1], bytes: new Uint8Array(floats(Number.NaN)) }];
  const view = await (await submit(door, { prefer: "wait=5" })).json();
  assert.deepEqual([view.state, view.result], ["succeeded", undefined]);
  const result = door.url + view.links.result;
  assert.equal((await fetch(result)).headers.get("content-type"), "application/octet-stream");
  assert.equal((await problemOf(await fetch(result, { headers: { accept: "application/json" } }))).code, "not_acceptable");
});

test("a view is answered without its result when that is gone", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = tinyScores;
  door.jobs.outputs = async (record) => {
    throw new SwitchyardError("result_expired", "the result is no longer kept", { jobId: record.id });
  };
  const answer = await fetch(`${door.url}/v1/jobs`, {
    method: "POST",
    body: JSON.stringify(tinyRequest({ model: "tiny" })),
    headers: { "content-type": "application/json", prefer: "wait=10" },
  });
  const view = await answer.json();
  assert.deepEqual([answer.status, view.state, "result" in view], [200, "succeeded", false]);
});

test("a client that hangs up in Prefer: wait without a key cancels its job", async (t) => {
  const door = await openDoor(t);
  const call = httpRequest({ port: door.port, host: "127.0.0.1", method: "POST", path: "/v1/jobs", headers: { prefer: "wait=30" } });
  call.on("error", () => {});
  call.end(JSON.stringify(tinyRequest({ model: "tiny" })));
  while (door.jobs.submissions.length === 0) await new Promise(setImmediate);
  call.destroy();
  while (door.jobs.cancelled.length === 0) await new Promise(setImmediate);
});

test("a job's view has a strong ETag, 304 while unchanged, and a wait that ends with the change", async (t) => {
  const door = await openDoor(t);
  const id = await submitted(door);
  const url = `${door.url}/v1/jobs/${id}`;
  const first = await fetch(url);
  assert.deepEqual([first.status, first.headers.get("etag"), first.headers.get("cache-control")], [200, '"1"', "no-store"]);
  const same = await fetch(url, { headers: { "if-none-match": '"1"' } });
  assert.deepEqual([same.status, same.headers.get("etag"), await same.text()], [304, '"1"', ""]);
  const waiting = fetch(`${url}?wait=30s`, { headers: { "if-none-match": '"1"' } });
  setTimeout(() => door.jobs.start(id), 20);
  const changed = await waiting;
  const view = await changed.json();
  assert.deepEqual([changed.status, changed.headers.get("etag"), view.state, view.host], [200, '"2"', "running", "host-1"]);
  assert.equal((await fetch(`${url}?wait=1`, { headers: { "if-none-match": '"2"' } })).status, 304);
  const ended = fetch(`${url}?wait=30`);
  setTimeout(() => door.jobs.end(id, "expired"), 20);
  assert.equal((await (await ended).json()).state, "expired");
  const head = await fetch(url, { method: "HEAD" });
  assert.deepEqual([head.status, head.headers.get("etag"), await head.text()], [200, '"3"', ""]);
  for (const wait of ["-1", "1.5", "61", "abc", ""]) assert.equal((await fetch(`${url}?wait=${wait}`)).status, 400, wait);
});

test("cancel answers 200 whenever the job moved, again too, and 409 when it had ended otherwise", async (t) => {
  const door = await openDoor(t);
  const id = await submitted(door);
  const remove = (job: string) => fetch(`${door.url}/v1/jobs/${job}`, { method: "DELETE" });
  for (const _ of [1, 2]) {
    const response = await remove(id);
    assert.deepEqual([response.status, (await response.json()).state], [200, "cancelled"]);
  }
  door.jobs.run = tinyScores;
  const problem = await problemOf(await remove(await submitted(door)));
  assert.deepEqual([problem.code, problem.state, problem.retryable], ["job_already_ended", "succeeded", false]);
  assert.equal((await problemOf(await remove("nobody"))).code, "job_not_found");
});

test("a result comes as JSON or binary by Accept, 409 before, 406 in no form", async (t) => {
  const door = await openDoor(t);
  const id = await submitted(door);
  const url = `${door.url}/v1/jobs/${id}/result`;
  const early = await fetch(url);
  assert.equal(early.status, 409);
  assert.match(early.headers.get("retry-after")!, /^\d+$/);
  const problem = await problemOf(early);
  assert.deepEqual([problem.code, problem.state], ["job_not_finished", "queued"]);
  const waiting = fetch(`${url}?wait=30`, { headers: { accept: "application/octet-stream;q=0.9, application/json;q=0.1" } });
  setTimeout(() => door.jobs.end(id, "succeeded", { outputs: tinyScores() }), 20);
  const binary = await waiting;
  const bytes = Buffer.from(await binary.arrayBuffer());
  const head = Number(binary.headers.get("inference-header-content-length"));
  assert.deepEqual(bytes.subarray(head), floats(0.25, 0.5, 0.125));
  const json = await (await fetch(url)).json();
  assert.deepEqual([json.model_name, json.model_version, json.id, json.outputs[0].data], ["tiny", "2", id, [0.25, 0.5, 0.125]]);
  assert.equal((await problemOf(await fetch(url, { headers: { accept: "image/png" } }))).code, "not_acceptable");
  const failed = await submitted(door);
  door.jobs.end(failed, "failed", { error: { code: "run_failed", detail: "bad graph", retryable: true } });
  const notSucceeded = await problemOf(await fetch(`${door.url}/v1/jobs/${failed}/result`));
  assert.deepEqual([notSucceeded.code, notSucceeded.error.detail], ["job_not_succeeded", "bad graph"]);
  door.jobs.failure = new SwitchyardError("result_expired", "gone");
  assert.equal((await problemOf(await fetch(url))).status, 410);
});

interface Event {
  id: string;
  event: string;
  data: { state: string };
}

function eventsIn(text: string): Event[] {
  const blocks = text.split("\n\n").filter((block) => block.includes("data:"));
  return blocks.map((block) => {
    const field = (name: string): string => new RegExp(`^${name}: (.*)$`, "m").exec(block)![1]!;
    return { id: field("id"), event: field("event"), data: JSON.parse(field("data")) };
  });
}

test("events tell each state once, end after the last, and resume behind Last-Event-ID", async (t) => {
  const door = await openDoor(t);
  const id = await submitted(door);
  const url = `${door.url}/v1/jobs/${id}/events`;
  const response = await fetch(url, { headers: { "accept-encoding": "gzip" } });
  assert.deepEqual(
    ["content-type", "cache-control", "x-accel-buffering", "content-encoding"].map((name) => response.headers.get(name)),
    ["text/event-stream", "no-store", "no", null],
  );
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  const readUntil = async (what: string): Promise<void> => {
    while (!text.includes(what)) text += (await reader.read()).value;
  };
  await readUntil("event: queued");
  door.jobs.start(id);
  await readUntil("event: running");
  door.jobs.end(id, "succeeded", { outputs: tinyScores() });
  for (let part = await reader.read(); !part.done; part = await reader.read()) text += part.value;
  assert.match(text, /^retry: 2000\n\n/);
  assert.deepEqual(
    eventsIn(text).map(({ id: revision, event, data }) => [revision, event, data.state]),
    [
      ["1", "queued", "queued"],
      ["2", "running", "running"],
      ["3", "succeeded", "succeeded"],
    ],
  );
  const resumed = await (await fetch(url, { headers: { "last-event-id": "1" } })).text();
  assert.deepEqual(
    eventsIn(resumed).map((event) => event.event),
    ["succeeded"],
  );
  assert.equal((await fetch(url, { headers: { "last-event-id": "3" } })).status, 204);
  assert.equal((await fetch(`${url}?last_event_id=3`)).status, 204);
  assert.equal((await problemOf(await fetch(`${door.url}/v1/jobs/nobody/events`))).code, "job_not_found");
});

test("lists filter, page by cursor and refuse filters that mean nothing", async (t) => {
  const door = await openDoor(t);
  const ids = [await submitted(door), await submitted(door), await submitted(door)].reverse();
  const first = await (await fetch(`${door.url}/v1/jobs?model=tiny&limit=2`)).json();
  assert.deepEqual(
    first.items.map((view: { id: string }) => view.id),
    ids.slice(0, 2),
  );
  const second = await (await fetch(door.url + first.links.next)).json();
  assert.deepEqual([second.items.map((view: { id: string }) => view.id), second.links], [ids.slice(2), {}]);
  for (const query of [
    "state=done",
    "limit=0",
    "limit=201",
    "version=x",
    "class=fast",
    "created_after=yesterday",
    "created_before=soon",
    "nonsense=1",
    "state=queued&state=running",
  ]) {
    assert.equal((await problemOf(await fetch(`${door.url}/v1/jobs?${query}`))).code, "invalid_request", query);
  }
  assert.equal((await problemOf(await fetch(`${door.url}/v1/jobs?tenant=${encodeURIComponent("a b")}`))).code, "invalid_request");
});

test("bad submissions are problems that name the field", async (t) => {
  const door = await openDoor(t);
  const cases: [Record<string, unknown>, number, string][] = [
    [{ timeout_ms: 0 }, 400, "/timeout_ms"],
    [{ timeout_ms: 86_400_001 }, 400, "/timeout_ms"],
    [{ nonsense: 1 }, 400, "/nonsense"],
    [{ class: "fast" }, 400, "/class"],
  ];
  for (const [extra, status, pointer] of cases) {
    const problem = await problemOf(await submit(door, {}, extra));
    assert.deepEqual([problem.status, problem.errors[0].pointer, problem.code], [status, pointer, "invalid_request"]);
  }
  assert.equal((await problemOf(await submit(door, { "x-request-timeout-ms": "0" }))).errors[0].pointer, "X-Request-Timeout-Ms");
  assert.equal((await problemOf(await submit(door, { "content-type": "text/csv" }))).code, "unsupported_media_type");
  assert.equal((await problemOf(await submit(door, { "content-encoding": "br" }))).code, "unsupported_encoding");
  assert.equal((await problemOf(await submit(door, {}, { model: "none" }))).code, "model_not_found");
  assert.equal((await problemOf(await submit(door, {}, { webhook: "https://example.test/" }))).code, "unsupported");
  const [fault] = (await problemOf(await submit(door, {}, { durability: "best" }))).errors;
  assert.deepEqual([fault.pointer, fault.expected, fault.got], ["/durability", "one of fast, fsync, replicated", '"best"']);
  door.jobs.failure = new SwitchyardError("store_unavailable", "the store does not answer");
  const away = await submit(door);
  assert.equal(away.status, 503);
  const problem = await problemOf(away);
  assert.ok(problem.retry_after_ms >= 1000 && problem.retry_after_ms <= Number(away.headers.get("retry-after")) * 1000);
  assert.equal(problem.instance, "/v1/jobs");
});
