/** A model on another server: what is sent, what is believed of the answers, and which failures are worth another try. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { decodeInferRequest, encodeInferResponse, type Tensor, tensor, toTypedArray } from "@switchyard/protocol";
import { systemClock } from "../../worker/src/clock.ts";
import { runBatch } from "../../worker/src/runtime/batch-run.ts";
import { openRemote } from "../../worker/src/runtime/remote-session.ts";
import { RunFailure, type Session } from "../../worker/src/runtime/session.ts";
import { Scratch } from "../../worker/src/runtime/stacking.ts";
import { answerJson, type Script, startScriptedServer } from "../support/scripted-server.ts";

const x = (): Tensor => tensor("x", Float32Array.of(1, 2), [1, 2]);
const metadata = {
  inputs: [{ name: "x", datatype: "FP32", shape: [-1, 2] }],
  outputs: [{ name: "y", datatype: "FP32", shape: [-1, 2] }],
};

type Answers = { extensions?: string[]; metadata?: object; ready?: number; infer?: Script };

function serverOf({ extensions = ["binary_tensor_data"], infer, metadata: told = metadata, ready = 200 }: Answers) {
  return startScriptedServer((request, response, count) => {
    if (request.url.endsWith("/ready")) return void response.writeHead(ready).end();
    if (request.url === "/v2") return answerJson(response, 200, { name: "other", extensions });
    if (request.url.endsWith("/infer")) return infer?.(request, response, count);
    return answerJson(response, 200, told);
  });
}

const open = (url: string, timeoutMs = 5_000): Promise<Session> =>
  openRemote({ url, remote: { framework: "other", model: "a model", version: "3" }, timeoutMs, clock: systemClock });

/** Doubles, in the form that was asked for. */
const doubles: Script = (request, response) => {
  const length = request.headers["inference-header-content-length"];
  const asked = decodeInferRequest({ body: request.body, ...(length === undefined ? {} : { headerLength: Number(length) }) });
  const [input] = asked.inputs as [Tensor];
  const output = tensor(
    "y",
    (toTypedArray(input) as Float32Array).map((value) => 2 * value),
    input.shape,
  );
  const body = encodeInferResponse({ response: { modelName: "m", modelVersion: "3", outputs: [output] }, wishes: asked });
  response.writeHead(200, {
    "content-type": body.contentType,
    ...(body.headerLength === undefined ? {} : { "inference-header-content-length": String(body.headerLength) }),
  });
  response.end(Buffer.concat(body.parts));
};

for (const [form, extensions] of [
  ["raw bytes", ["binary_tensor_data"]],
  ["JSON", []],
] as const) {
  test(`tensors travel as ${form} when the server knows that`, async () => {
    await using server = await serverOf({ extensions: [...extensions], infer: doubles });
    const session = await open(`${server.url}/`);
    assert.deepEqual([session.inputs, session.outputs], [metadata.inputs, metadata.outputs]);
    const answered = await session.run([x()], ["y"]);
    assert.deepEqual([...(toTypedArray(answered.get("y")!) as Float32Array)], [2, 4]);
    const sent = server.seen.at(-1)!;
    assert.equal(sent.url, "/v2/models/a%20model/versions/3/infer");
    assert.equal(sent.headers["inference-header-content-length"] !== undefined, extensions.length > 0);
  });
}

const failures: { what: string; infer: Script; isTransient: boolean; says: RegExp; timeoutMs?: number }[] = [
  {
    what: "another type than it promised",
    infer: (_request, response) => answerJson(response, 200, { outputs: [{ name: "y", datatype: "FP64", shape: [1, 2], data: [1, 2] }] }),
    isTransient: false,
    says: /output 'y' as FP64, expected FP32/,
  },
  {
    what: "another shape than it promised",
    infer: (_request, response) => answerJson(response, 200, { outputs: [{ name: "y", datatype: "FP32", shape: [2], data: [1, 2] }] }),
    isTransient: false,
    says: /output 'y' with shape \[2\], expected \[-1,2\]/,
  },
  {
    what: "less data than its shape says",
    infer: (_request, response) => answerJson(response, 200, { outputs: [{ name: "y", datatype: "FP32", shape: [1, 2], data: [1] }] }),
    isTransient: false,
    says: /cannot be read/,
  },
  {
    what: "no output of the name",
    infer: (_request, response) => answerJson(response, 200, { outputs: [] }),
    isTransient: false,
    says: /no output 'y'/,
  },
  {
    what: "a page that is no answer",
    infer: (_request, response) => void response.writeHead(200, { "content-type": "text/html" }).end("<p>welcome</p>"),
    isTransient: false,
    says: /cannot be read/,
  },
  {
    what: "that the input is wrong",
    infer: (_request, response) => answerJson(response, 400, { error: "x must be positive" }),
    isTransient: false,
    says: /answered 400: x must be positive/,
  },
  {
    what: "that the run failed",
    infer: (_request, response) => answerJson(response, 500, { error: "division by zero" }),
    isTransient: false,
    says: /answered 500: division by zero/,
  },
  {
    what: "that it is busy",
    infer: (_request, response) => answerJson(response, 503, { error: "queue is full" }),
    isTransient: true,
    says: /answered 503: queue is full/,
  },
  {
    what: "half of it, and cuts the connection",
    infer: (_request, response) => {
      response.writeHead(200, { "content-type": "application/json", "content-length": "1000" });
      response.write('{"outputs": [');
      setTimeout(() => response.destroy(), 20);
    },
    isTransient: true,
    says: /cannot be reached/,
  },
  { what: "nothing", infer: () => {}, isTransient: true, says: /no answer within 1000 ms/, timeoutMs: 1_000 },
];
for (const { what, infer, isTransient, says, timeoutMs } of failures) {
  test(`a server that answers ${what}: the run ${isTransient ? "is worth another try" : "has failed for good"}`, async () => {
    await using server = await serverOf({ infer });
    const session = await open(server.url, timeoutMs);
    await assert.rejects(session.run([x()], ["y"]), (error: unknown) => {
      assert.ok(error instanceof RunFailure);
      assert.match(error.message, says);
      assert.equal(error.retryable, isTransient);
      return true;
    });
  });
}

test("a server that is away costs a batch one call, not one for each half", async () => {
  await using server = await serverOf({ infer: (_request, response) => answerJson(response, 503, { error: "away" }) });
  const session = await open(server.url);
  const calls = server.seen.length;
  const model = { session, batching: { maxItems: 8, reason: "test" }, scratch: new Scratch(), clock: systemClock };
  const jobs = Array.from({ length: 8 }, () => ({ inputs: [x()], items: 1 }));
  const { results } = await runBatch({ model, jobs });
  assert.ok(results.every((result) => "error" in result && result.error.retryable));
  assert.equal(server.seen.length - calls, 1);
});

test("a model that the server does not have, does not describe or describes strangely is not loaded, and why is told", async () => {
  const odd: [Answers, RegExp][] = [
    [{ ready: 400 }, /is not ready \(400\)/],
    [{ metadata: { inputs: "x" } }, /expected a list of tensors/],
    [{ metadata: { ...metadata, outputs: [{ name: "y", datatype: "BF16", shape: [1] }] } }, /'y' has type BF16/],
    [{ metadata: { ...metadata, inputs: [{ datatype: "FP32" }] } }, /name, datatype and shape/],
  ];
  for (const [answers, says] of odd) {
    await using server = await serverOf(answers);
    await assert.rejects(open(server.url), ({ message }: Error) => says.test(message) && !message.includes(server.url));
  }
  await using gone = await serverOf({});
  await gone.stop();
  await assert.rejects(open(gone.url), /does not answer: ECONNREFUSED/);
});

test("an answer that does not end fails the run once it is longer than any answer may be", async () => {
  let sent = 0;
  const endless: Script = async (_request, response) => {
    response.writeHead(200, { "content-type": "application/json" });
    const chunk = Buffer.alloc(1024 * 1024, " ");
    while (!response.destroyed) {
      sent += chunk.byteLength;
      if (!response.write(chunk)) await Promise.race([once(response, "drain"), once(response, "close")]);
    }
  };
  await using server = await serverOf({ infer: endless });
  const session = await open(server.url, 60_000);
  await assert.rejects(session.run([x()], ["y"]), /answered more than 67108864 bytes/);
  assert.ok(sent < 200 * 1024 * 1024, `${sent} bytes`);
});
