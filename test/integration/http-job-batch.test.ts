/** Many jobs in one request: what each line is answered, what refuses the whole, and what is held meanwhile. */

import assert from "node:assert/strict";
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { SwitchyardError } from "@switchyard/protocol";
import { type OpenDoor, openDoor, tinyRequest, tinyScores } from "../support/open-door.ts";

const ndjson = "application/x-ndjson";

// biome-ignore lint/suspicious/noExplicitAny: the shape is what a test checks
type AnswerLine = any;

function job(extra: Record<string, unknown> = {}): string {
  return JSON.stringify(tinyRequest({ model: "tiny", ...extra }));
}

function send(door: OpenDoor, body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${door.url}/v1/jobs:batch`, { method: "POST", body, headers: { "content-type": ndjson, ...headers } });
}

function linesOf(text: string): AnswerLine[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}

async function answered(
  door: OpenDoor,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
): Promise<AnswerLine[]> {
  const response = await send(door, body, headers);
  assert.deepEqual([response.status, response.headers.get("content-type")], [200, ndjson]);
  return linesOf(await response.text());
}

/** A request whose body is written by hand, and whose answer is read line by line. */
class Talk {
  readonly request: ClientRequest;
  readonly #response: Promise<IncomingMessage>;
  #text = "";
  #pieces: AsyncIterator<Buffer> | undefined;

  constructor(port: number, headers: Record<string, string> = {}) {
    const all = { "content-type": ndjson, ...headers };
    this.request = httpRequest({ host: "127.0.0.1", port, method: "POST", path: "/v1/jobs:batch", headers: all });
    this.#response = new Promise((resolve, reject) => this.request.on("response", resolve).on("error", reject));
  }

  async line(): Promise<AnswerLine> {
    this.#pieces ??= (await this.#response)[Symbol.asyncIterator]();
    let at = this.#text.indexOf("\n");
    while (at < 0) {
      const next = await this.#pieces.next();
      if (next.done === true) return undefined;
      this.#text += next.value;
      at = this.#text.indexOf("\n");
    }
    const line = JSON.parse(this.#text.slice(0, at));
    this.#text = this.#text.slice(at + 1);
    return line;
  }
}

test("each line is answered in its place: jobs that are admitted, and a problem for each line that is not", async (t) => {
  const door = await openDoor(t);
  const lines = [
    job({ class: "batch", tags: { team: "a" } }),
    "{broken",
    job({ model: "none" }),
    job({ timeout_ms: 0 }),
    job({ webhook: "https://example.org" }),
    "[]",
    job({ nonsense: 1 }),
    job(),
  ];
  const answers = await answered(door, lines.join("\n"));
  assert.deepEqual(
    answers.map(({ index, status, problem }) => [index, status, problem?.code]),
    [
      [0, 202, undefined],
      [1, 400, "invalid_request"],
      [2, 404, "model_not_found"],
      [3, 400, "invalid_request"],
      [4, 501, "unsupported"],
      [5, 400, "invalid_request"],
      [6, 400, "invalid_request"],
      [7, 202, undefined],
    ],
  );
  const [first] = answers;
  assert.deepEqual([first.job.state, first.job.class, first.job.tags], ["queued", "batch", { team: "a" }]);
  assert.equal(first.job.links.self, `/v1/jobs/${first.job.id}`);
  assert.deepEqual([answers[3].problem.errors[0].pointer, answers[3].problem.instance], ["/timeout_ms", "/v1/jobs:batch#3"]);
  assert.equal(door.jobs.submissions.length, 2);
});

test("blank lines have a number and no answer, ends of lines may have a carriage return, the last needs none", async (t) => {
  const door = await openDoor(t);
  const answers = await answered(door, `\n${job()}\r\n  \n${job()}`);
  assert.deepEqual(
    answers.map(({ index, status }) => [index, status]),
    [
      [1, 202],
      [3, 202],
    ],
  );
});

test("a thousand lines are taken; of a thousand and one that are sent with their length nothing is", async (t) => {
  const door = await openDoor(t);
  const answers = await answered(door, `${job()}\n`.repeat(1_000));
  assert.deepEqual(
    answers.map(({ index }) => index),
    Array.from({ length: 1_000 }, (_, index) => index),
  );
  assert.equal(door.jobs.submissions.length, 1_000);
  const refused = await send(door, `${job()}\n`.repeat(1_001));
  const problem = await refused.json();
  assert.deepEqual([refused.status, problem.code, problem.errors[0].got], [413, "payload_too_large", "1001"]);
  assert.equal(door.jobs.submissions.length, 1_000);
});

test("of more lines that come without their length, the first thousand are taken and the next is told that it ends there", async (t) => {
  const door = await openDoor(t);
  const talk = new Talk(door.port);
  talk.request.write(`${job()}\n`.repeat(1_200)); // apart from the end, so that no length is told
  talk.request.end();
  const answers: AnswerLine[] = [];
  for (let line = await talk.line(); line !== undefined; line = await talk.line()) answers.push(line);
  assert.deepEqual([answers.length, door.jobs.submissions.length], [1_001, 1_000]);
  assert.deepEqual([answers[1_000].index, answers[1_000].status, answers[999].status], [1_000, 413, 202]);
});

test("a line is answered before the next one is sent", async (t) => {
  const door = await openDoor(t);
  const talk = new Talk(door.port);
  for (let index = 0; index < 3; index++) {
    talk.request.write(`${job()}\n`);
    assert.deepEqual([(await talk.line()).index, door.jobs.submissions.length], [index, index + 1]);
  }
  talk.request.end();
  assert.equal(await talk.line(), undefined);
});

test("a line that comes in pieces, one of them within a character, is one line", async (t) => {
  const door = await openDoor(t);
  const bytes = Buffer.from(`${job({ tags: { name: "é" } })}\n`);
  const talk = new Talk(door.port);
  for (const byte of bytes) talk.request.write(Buffer.of(byte));
  assert.deepEqual((await talk.line()).job.tags, { name: "é" });
  talk.request.end();
  assert.equal(await talk.line(), undefined);
});

test("one key makes one for each line: the same request finds the same jobs, a line alone too, another one is refused", async (t) => {
  const door = await openDoor(t);
  const body = `${job()}\n${job({ class: "batch" })}\n${job({ idempotency_key: "own" })}`;
  const first = await answered(door, body, { "idempotency-key": "night-7" });
  assert.deepEqual(
    door.jobs.submissions.map(({ idempotency }) => idempotency!.key),
    ["night-7/0", "night-7/1", "own"],
  );
  const again = await answered(door, body, { "idempotency-key": '"night-7"' });
  assert.deepEqual(
    again.map(({ job: { id }, replayed }) => [id, replayed]),
    first.map(({ job: { id } }) => [id, true]),
  );
  const alone = await fetch(`${door.url}/v1/jobs`, {
    method: "POST",
    body: job(),
    headers: { "content-type": "application/json", "idempotency-key": "night-7/0" },
  });
  assert.deepEqual([(await alone.json()).id, alone.headers.get("idempotent-replayed")], [first[0].job.id, "true"]);
  const [other, same] = await answered(door, `${job({ class: "batch" })}\n${job({ class: "batch" })}`, { "idempotency-key": "night-7" });
  assert.deepEqual([other.problem.code, same.job.id], ["idempotency_key_reused", first[1].job.id]);
});

test("with Prefer: wait a job is answered when it ends, with its result, and those that go on when the wait is over", async (t) => {
  const door = await openDoor(t);
  const talk = new Talk(door.port, { prefer: "wait=60" });
  talk.request.write(`${job()}\n${job({ model: "none" })}\n${job({ id: "mine" })}\n`);
  assert.deepEqual([(await talk.line()).index], [1]);
  while (door.jobs.submissions.length < 2) await new Promise(setImmediate);
  const ids = (await (await fetch(`${door.url}/v1/jobs`)).json()).items.map(({ id }: { id: string }) => id).reverse();
  door.jobs.end(ids[1], "succeeded", { outputs: tinyScores() });
  const done = await talk.line();
  assert.deepEqual([done.index, done.status, done.job.state, done.job.result.id], [2, 200, "succeeded", "mine"]);
  assert.deepEqual(done.job.result.outputs[0].data, [0.25, 0.5, 0.125]);
  door.jobs.end(ids[0], "failed", { error: { code: "run_failed", detail: "no", retryable: true } });
  const failed = await talk.line();
  assert.deepEqual([failed.index, failed.status, failed.job.error.code], [0, 200, "run_failed"]);
  talk.request.end();
  assert.equal(await talk.line(), undefined);
  const brief = new Talk(door.port, { prefer: "wait=1" });
  brief.request.end(`${job()}\n`);
  const late = await brief.line();
  assert.deepEqual([late.index, late.status, late.job.state], [0, 202, "queued"]);
  assert.equal(await brief.line(), undefined);
  assert.equal((await send(door, job(), { prefer: "wait=0" })).headers.get("preference-applied"), "wait=0");
  assert.equal((await send(door, job(), { prefer: "respond-async, wait=9" })).headers.get("preference-applied"), "respond-async");
});

test("a client that goes away in the midst of a wait takes the jobs that have no key, and leaves the others", async (t) => {
  const door = await openDoor(t);
  const talk = new Talk(door.port, { prefer: "wait=30" });
  talk.request.on("error", () => {});
  talk.line().catch(() => {});
  talk.request.write(`${job()}\n${job({ idempotency_key: "kept" })}\n${job()}\n`);
  while (door.jobs.submissions.length < 3) await new Promise(setImmediate);
  talk.request.destroy();
  while (door.jobs.cancelled.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
  const { items } = await (await fetch(`${door.url}/v1/jobs`)).json();
  assert.deepEqual(
    items.map(({ state }: { state: string }) => state),
    ["cancelled", "queued", "cancelled"],
  );
});

test("what refuses the whole request is a problem with its own status", async (t) => {
  const door = await openDoor(t, { maxBodyBytes: 10_000 });
  const cases: [number, string, () => Promise<Response>][] = [
    [415, "Content-Type", () => send(door, job(), { "content-type": "application/json" })],
    [400, "body", () => send(door, "")],
    [400, "Idempotency-Key", () => send(door, job(), { "idempotency-key": "k".repeat(251) })],
    [400, "X-Request-Timeout-Ms", () => send(door, job(), { "x-request-timeout-ms": "soon" })],
    [400, "Inference-Header-Content-Length", () => send(door, job(), { "inference-header-content-length": "10" })],
    [415, "Content-Encoding", () => send(door, job(), { "content-encoding": "br" })],
    [413, "body", () => send(door, `${job()}\n`.repeat(200))],
  ];
  for (const [status, pointer, ask] of cases) {
    const response = await ask();
    const problem = await response.json();
    assert.deepEqual([response.status, problem.errors[0].pointer], [status, pointer]);
    assert.equal(response.headers.get("content-type"), "application/problem+json");
  }
  const allowed = await fetch(`${door.url}/v1/jobs:batch`);
  assert.deepEqual([allowed.status, allowed.headers.get("allow")], [405, "POST, OPTIONS"]);
  assert.equal(door.jobs.submissions.length, 0);
  door.drain();
  assert.equal((await send(door, job())).status, 503);
});

test("a coordinator that drains answers what it has, says where it stopped, and keeps no connection", async (t) => {
  const door = await openDoor(t);
  const talk = new Talk(door.port, { prefer: "wait=30" });
  talk.request.on("error", () => {});
  talk.request.write(`${job()}\n${job()}\n`);
  while (door.jobs.submissions.length < 2) await new Promise(setImmediate);
  const startedMs = performance.now();
  const closed = door.server.close();
  const answers = [await talk.line(), await talk.line(), await talk.line()];
  assert.deepEqual(answers.map(({ index, status, job: view, problem }) => [index, status, view?.state ?? problem.code]).sort(), [
    [0, 202, "queued"],
    [1, 202, "queued"],
    [2, 503, "draining"],
  ]);
  await closed;
  assert.ok(performance.now() - startedMs < 30_000, "the client's unfinished request kept the server");
});

test("a line that is too long is refused alone; a body that is too long ends where the limit is", async (t) => {
  const long = job({ tags: { a: "x".repeat(250) } });
  const door = await openDoor(t, { maxBodyBytes: 20_000, maxJsonBytes: 300 } as object);
  const [one, two, three] = await answered(door, `${job()}\n${long}\n${job()}`);
  assert.deepEqual([one.status, two.status, two.problem.code, three.status], [202, 413, "payload_too_large", 202]);
  const talk = new Talk(door.port);
  talk.request.on("error", () => {});
  talk.request.write(`${job()}\n`.repeat(10));
  const answers: AnswerLine[] = [await talk.line()];
  talk.request.write(`${job()}\n`.repeat(300));
  talk.request.end();
  for (let line = await talk.line(); line !== undefined; line = await talk.line()) answers.push(line);
  const last = answers.pop();
  assert.deepEqual([last.status, last.problem.code, last.index], [413, "payload_too_large", answers.length]);
  assert.ok(answers.length >= 10 && answers.every(({ status }) => status === 202));
});

test("a compressed body is read as it comes, and one that is not what it says ends with a problem", async (t) => {
  const door = await openDoor(t);
  const body = gzipSync(`${job()}\n${job()}\n`);
  const answers = await answered(door, body, { "content-encoding": "gzip" });
  assert.deepEqual(
    answers.map(({ status }) => status),
    [202, 202],
  );
  const [broken] = await answered(door, Buffer.from("no gzip"), { "content-encoding": "gzip" });
  assert.deepEqual([broken.index, broken.status], [0, 400]);
});

test("a failure of ours is one line's, logged, and says nothing of its cause", async (t) => {
  const door = await openDoor(t);
  door.jobs.failure = new Error("secret");
  const [broken, fine] = await answered(door, `${job()}\n${job()}`);
  assert.deepEqual([broken.status, broken.problem.code, fine.status], [500, "internal", 202]);
  assert.ok(!JSON.stringify(broken).includes("secret"));
  assert.ok(door.logged.some(({ event }) => event === "request_failed"));
  door.jobs.failure = new SwitchyardError("queue_full", "full", { retryAfterMs: 2_000 });
  const [full] = await answered(door, job());
  assert.deepEqual([full.status, full.problem.retryable, full.problem.retry_after_ms >= 2_000], [503, true, true]);
});

test("while a client reads nothing, only some results are read for it; when it reads, all come", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = () => [{ name: "scores", datatype: "FP32", shape: [1, 250_000], bytes: new Uint8Array(1_000_000) }];
  const outputs = door.jobs.outputs.bind(door.jobs);
  let read = 0;
  door.jobs.outputs = (record) => {
    read++;
    return outputs(record);
  };
  const talk = new Talk(door.port, { prefer: "wait=5" });
  talk.request.end(`${job()}\n`.repeat(200));
  try {
    for (let before = -1; before < read; await new Promise((resolve) => setTimeout(resolve, 300))) before = read;
    assert.ok(read < 100, `${read} results of half a megabyte were read`);
    const indexes = new Set<number>();
    for (let line = await talk.line(); line !== undefined; line = await talk.line()) {
      assert.equal(line.job.result.outputs[0].data.length, 250_000);
      indexes.add(line.index);
    }
    assert.equal(indexes.size, 200);
  } finally {
    talk.request.destroy(); // an answer that is left unread would keep the server
  }
});

test("a job that ends in whatever step in which the answers before it have just been written is answered too", async (t) => {
  const door = await openDoor(t);
  const error = { code: "run_failed", detail: "no", retryable: true };
  for (let steps = 0; steps < 40; steps++) {
    const before = door.jobs.submissions.length;
    const answers = answered(door, `${job()}\n${job()}\n`, { prefer: "wait=5" });
    while (door.jobs.submissions.length < before + 2) await new Promise(setImmediate);
    for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate); // until both are waited for
    const [second, first] = (await door.jobs.list({ limit: 2 })).jobs;
    door.jobs.end(first!.id, "failed", { error });
    for (let step = 0; step < steps; step++) await undefined;
    door.jobs.end(second!.id, "failed", { error });
    assert.deepEqual((await answers).map(({ index, job: view }) => [index, view.state]).sort(), [
      [0, "failed"],
      [1, "failed"],
    ]);
  }
});
