/** The SDK's batch against a server that plays the protocol and fails on purpose. */

import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { type BatchAnswer, type BatchOptions, ClientError, Switchyard } from "switchyard";
import { jobView } from "../support/job-views.ts";
import { answerJson, type ScriptedServer, startScriptedServer } from "../support/scripted-server.ts";

interface SentLine {
  index: number;
  idempotency_key: string;
  inputs: { data: number[] }[];
}

/** Answers one line; the text of it, or nothing to leave it unanswered. */
type Answerer = (line: SentLine) => object | string | undefined;

function succeeded(line: SentLine, data: string | number = line.inputs[0]!.data[0]!): string {
  const view = JSON.stringify(jobView("succeeded", { id: `job-${line.idempotency_key}` })).slice(0, -1);
  const outputs = `[{"name":"y","datatype":"INT64","shape":[1],"data":[${data}]}]`;
  return `{"index":${line.index},"status":200,"job":${view},"result":{"model_name":"m","model_version":"1","outputs":${outputs}}}}`;
}

function refused(line: SentLine, code: string, status: number, more: object = {}): object {
  const retryable = status === 503;
  return { index: line.index, status, problem: { type: "", title: "", status, code, detail: `no: ${code}`, retryable, ...more } };
}

function linesIn(body: Buffer): SentLine[] {
  return body
    .toString()
    .trim()
    .split("\n")
    .map((text, index) => ({ ...JSON.parse(text), index }));
}

function answerLines(response: ServerResponse, lines: readonly SentLine[], answer: Answerer): void {
  response.writeHead(200, { "content-type": "application/x-ndjson" });
  for (const line of lines) {
    const said = answer(line);
    if (said !== undefined) response.write(`${typeof said === "string" ? said : JSON.stringify(said)}\n`);
  }
}

const quick = { minDelayMs: 5, maxDelayMs: 20, giveUpAfterMs: 30_000 };

function itemsOf(count: number) {
  return Array.from({ length: count }, (_, index) => ({ x: { data: [BigInt(index)] } }));
}

async function runAll(
  server: ScriptedServer,
  count: number,
  { retry = quick, ...options }: Partial<BatchOptions> & { retry?: typeof quick } = {},
): Promise<Map<number, BatchAnswer>> {
  const client = new Switchyard({ url: server.url, retry });
  const answers = new Map<number, BatchAnswer>();
  for await (const answer of client.batch(itemsOf(count), { model: "m", key: "k", ...options })) {
    assert.ok(!answers.has(answer.index), `item ${answer.index} was answered twice`);
    answers.set(answer.index, answer);
  }
  assert.equal(answers.size, count);
  return answers;
}

test("values beyond 2^53 come as they were written, and each item has a key of its own", async () => {
  await using server = await startScriptedServer((request, response) => {
    assert.deepEqual([request.method, request.url, request.headers["content-type"]], ["POST", "/v1/jobs:batch", "application/x-ndjson"]);
    assert.match(String(request.headers.prefer), /^wait=\d+$/);
    answerLines(response, linesIn(request.body), (line) => succeeded(line, "9007199254740993"));
    response.end();
  });
  const answers = await runAll(server, 3);
  assert.equal(answers.get(2)!.result!.outputs.y!.data[0], 9007199254740993n);
  assert.equal(answers.get(2)!.jobId, "job-k/2");
  assert.deepEqual(
    linesIn(server.seen[0]!.body).map(({ idempotency_key }) => idempotency_key),
    ["k/0", "k/1", "k/2"],
  );
});

test("what is not ended, refused for now or left unanswered is sent again under the same key", async () => {
  const sent = new Map<string, number>();
  await using server = await startScriptedServer((request, response, count) => {
    if (count === 2) return void response.destroy();
    const lines = linesIn(request.body);
    answerLines(response, lines, (line) => {
      const times = (sent.get(line.idempotency_key) ?? 0) + 1;
      sent.set(line.idempotency_key, times);
      if (times > 1) return succeeded(line);
      if (line.inputs[0]!.data[0]! % 3 === 0) return { index: line.index, status: 202, job: jobView("queued") };
      if (line.inputs[0]!.data[0]! % 3 === 1) return refused(line, "queue_full", 503, { retry_after_ms: 30 });
      return undefined;
    });
    if (count === 1) response.destroy();
    else response.end();
  });
  const answers = await runAll(server, 30);
  for (const [index, { result, jobId }] of answers)
    assert.deepEqual([Number(result!.outputs.y!.data[0]), jobId], [index, `job-k/${index}`]);
  assert.equal(sent.size, 30);
});

test("a refusal for good and a failure are the item's own", async () => {
  await using server = await startScriptedServer((request, response) => {
    answerLines(response, linesIn(request.body), (line) => {
      if (line.index === 0)
        return refused(line, "signature_mismatch", 422, { errors: [{ pointer: "/inputs/0", expected: "two", got: "one" }] });
      if (line.index === 1) {
        const error = { code: "run_failed", detail: "node Add failed", retryable: true };
        return { index: 1, status: 200, job: jobView("failed", { id: "broken", error }) };
      }
      return succeeded(line);
    });
    response.end();
  });
  const answers = await runAll(server, 3);
  assert.match(answers.get(0)!.error!.message, /no: signature_mismatch \(\/inputs\/0: expected two, got one\)/);
  assert.deepEqual([answers.get(1)!.error!.code, answers.get(1)!.jobId], ["run_failed", "broken"]);
  assert.equal(server.seen.length, 1);
});

test("a result that is no longer kept is computed under another key", async () => {
  await using server = await startScriptedServer((request, response) => {
    answerLines(response, linesIn(request.body), (line) =>
      line.idempotency_key === "k/0" ? refused(line, "result_expired", 410) : succeeded(line),
    );
    response.end();
  });
  assert.equal((await runAll(server, 2)).get(0)!.jobId, "job-k/0/2");
});

test("a request that is too large is sent in halves, and an item that is too large alone is refused alone", async () => {
  await using server = await startScriptedServer((request, response) => {
    const lines = linesIn(request.body);
    const isTooLarge = lines.length > 10 || lines.some(({ inputs }) => inputs[0]!.data[0] === 7);
    if (isTooLarge) return answerJson(response, 413, { status: 413, code: "payload_too_large", detail: "too large", retryable: false });
    answerLines(response, lines, (line) => succeeded(line));
    response.end();
  });
  const answers = await runAll(server, 100);
  const failed = [...answers.values()].filter(({ error }) => error !== undefined);
  assert.deepEqual(
    failed.map(({ index, error }) => [index, error!.code]),
    [[7, "payload_too_large"]],
  );
});

test("a result too large for a line is fetched", async () => {
  await using server = await startScriptedServer((request, response) => {
    if (request.method === "GET" && request.url.endsWith("/result")) {
      return answerJson(response, 200, {
        model_name: "m",
        model_version: "1",
        outputs: [{ name: "y", datatype: "FP32", shape: [1], data: [5] }],
      });
    }
    if (request.method === "GET") return answerJson(response, 200, jobView("succeeded", { id: "large" }));
    answerLines(response, linesIn(request.body), ({ index }) => ({ index, status: 200, job: jobView("succeeded", { id: "large" }) }));
    response.end();
  });
  assert.equal((await runAll(server, 1)).get(0)!.result!.outputs.y!.data[0], 5);
});

test("results too large for a line are held four at a time, while they are fetched and until the caller has taken them", async () => {
  let underWay = 0;
  let most = 0;
  let asked = 0;
  const four = Promise.withResolvers<void>();
  await using server = await startScriptedServer(async (request, response) => {
    if (request.method === "GET" && !request.url.endsWith("/result")) {
      return answerJson(response, 200, jobView("succeeded", { id: /jobs\/([^?]+)/.exec(request.url)![1]! }));
    }
    if (request.method === "GET") {
      asked++;
      most = Math.max(most, ++underWay);
      if (underWay === 4) four.resolve();
      // the first are answered when there are as many as there may be: a client that asks for fewer is found out after a while
      await Promise.race([four.promise, setTimeout(5_000)]);
      await setTimeout(10);
      underWay--;
      // the first of them was kept for too short a time
      if (request.url.includes("k%2F0/"))
        return answerJson(response, 410, { status: 410, code: "result_expired", detail: "gone", retryable: false });
      return answerJson(response, 200, {
        model_name: "m",
        model_version: "1",
        outputs: [{ name: "y", datatype: "FP32", shape: [1], data: [5] }],
      });
    }
    answerLines(response, linesIn(request.body), (line) => ({
      index: line.index,
      status: 200,
      job: jobView("succeeded", { id: line.idempotency_key }),
    }));
    response.end();
  });
  const client = new Switchyard({ url: server.url, retry: quick });
  const taken = new Set<number>();
  for await (const { index, result, jobId } of client.batch(itemsOf(40), { model: "m", key: "k" })) {
    assert.equal(result!.outputs.y!.data[0], 5);
    assert.equal(jobId, index === 0 ? "k/0/2" : `k/${index}`);
    if (taken.size % 10 === 0) await setTimeout(50); // a caller who takes its time
    // the one that was gone was asked for once more
    assert.ok(asked - 1 - taken.size <= 4, `${asked} asked for with ${taken.size} taken`);
    taken.add(index);
  }
  assert.deepEqual([taken.size, most], [40, 4]);
});

test("what no repeating changes ends the whole, and so does a server that only refuses", async () => {
  const bodies: [number, object, string][] = [
    [403, { status: 403, code: "forbidden", detail: "lacks the scope", retryable: false }, "forbidden"],
    [501, { status: 501, code: "unsupported", detail: "an old server", retryable: false }, "unsupported"],
  ];
  for (const [status, body, code] of bodies) {
    await using server = await startScriptedServer((_request, response) => answerJson(response, status, body));
    await assert.rejects(runAll(server, 3), { code });
    assert.equal(server.seen.length, 1);
  }
  await using full = await startScriptedServer((request, response) => {
    answerLines(response, linesIn(request.body), (line) => refused(line, "store_full", 503));
    response.end();
  });
  const startedMs = performance.now();
  const patience = { retry: { ...quick, giveUpAfterMs: 2_000 } };
  await assert.rejects(runAll(full, 3, patience), (error) => error instanceof ClientError && error.code === "store_full");
  const tookMs = performance.now() - startedMs;
  assert.ok(tookMs > 1_500 && tookMs < 20_000, `${tookMs} ms`);
});

test("no more items are under way than asked for, also while nobody takes the answers", async () => {
  let taken = 0;
  await using server = await startScriptedServer((request, response) => {
    answerLines(response, linesIn(request.body), (line) => succeeded(line));
    response.end();
  });
  const client = new Switchyard({ url: server.url, retry: quick });
  function* items() {
    for (const item of itemsOf(1_000)) {
      taken++;
      yield item;
    }
  }
  let answered = 0;
  for await (const _answer of client.batch(items(), { model: "m", atOnce: 20 })) {
    answered++;
    if (answered % 100 === 0) await setTimeout(20);
    assert.ok(taken - answered < 20 + 1, `${taken - answered} items are held`);
  }
  assert.equal(answered, 1_000);
});
