/** The door of the Model Context Protocol over a job service in memory: who may ask, what tools there are, and how calls that fail say so. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { SwitchyardError, type TraceContext } from "@switchyard/protocol";
import type { Scope } from "@switchyard/protocol/api-keys";
import { PNG } from "pngjs";
import { KeyedAccess } from "../../coordinator/src/application/access.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import type { OpenSpan, Tracing } from "../../coordinator/src/ports/tracing.ts";
import { ask, callTool, connectMcp, eras, send, withTasks } from "../support/mcp-client.ts";
import { openDoor, tinyScores } from "../support/open-door.ts";
import { until } from "../support/until.ts";

const image = [[1, 2, 3, 4]];
const initialize = (id = 1) => ({
  jsonrpc: "2.0",
  id,
  method: "initialize",
  params: { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "test", version: "1" } },
});
const legacyHeaders = { "content-type": "application/json", accept: "application/json, text/event-stream" };
const post = (url: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(`${url}/mcp`, {
    method: "POST",
    headers: { ...legacyHeaders, ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });

function keyed(...keys: { id: string; tenant?: string; scopes: Scope[] }[]) {
  const all = keys.map(({ id, scopes, tenant = "default" }) => ({ id, tenant, weight: 1, scopes: new Set(scopes) }));
  const ring = { find: (secret: string) => all.find(({ id }) => id === secret), all: () => all };
  return { access: new KeyedAccess({ keys: ring as never, hosts: { isHost: async () => false }, clock: systemClock }) };
}

for (const era of eras) {
  test(`a ${era} client lists the tools and runs a model`, async (t) => {
    const door = await openDoor(t);
    door.jobs.run = () => tinyScores();
    const client = await connectMcp(t, door.url, { era });
    assert.match(client.getInstructions() ?? "", /models_search/);
    assert.ok((client.getInstructions() ?? "").split(" ").length <= 500);
    const { tools } = await client.listTools();
    const names = tools.map(({ name }) => name);
    const core = ["infer", "infer_batch", "job_cancel", "job_get", "job_submit", "job_wait", "models_search"];
    assert.deepEqual(names, [...core, "infer_pair", "infer_tiny"].sort());
    for (const { annotations, name, outputSchema } of tools) {
      assert.ok(outputSchema, name);
      for (const hint of ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] as const) {
        assert.equal(typeof annotations?.[hint], "boolean", `${name} ${hint}`);
      }
    }
    const answer = await client.callTool({ name: "infer_tiny", arguments: { inputs: { image } } });
    assert.equal(answer.isError, undefined, JSON.stringify(answer));
    assert.deepEqual(answer.structuredContent, { model: "tiny", version: 2, outputs: { scores: [[0.25, 0.5, 0.125]] } });
    const [text] = answer.content as { type: string; text: string }[];
    assert.deepEqual(JSON.parse(text!.text), answer.structuredContent);
    const classes = await client.callTool({ name: "infer", arguments: { model: "tiny", version: 1, inputs: { image } } });
    assert.deepEqual((classes.structuredContent as { classes: unknown }).classes, { scores: [{ class: "one", index: 1, value: 0.5 }] });
  });

  test(`a ${era} client hears what to do when a call cannot be served`, async (t) => {
    const door = await openDoor(t);
    const client = await connectMcp(t, door.url, { era });
    const failed = async (name: string, args: Record<string, unknown>) => {
      const { _meta, content, isError, structuredContent } = await client.callTool({ name, arguments: args });
      assert.deepEqual([isError, structuredContent], [true, undefined]);
      const texts = (content as { text: string }[]).map(({ text }) => text);
      const failure = _meta?.["switchyard/error"] as Record<string, unknown>;
      assert.deepEqual(JSON.parse(texts[1]!), { error: failure });
      return { ...failure, text: texts[0]! } as Record<string, unknown> & { text: string };
    };
    const unknown = await failed("infer", { model: "nothing", inputs: {} });
    assert.equal(unknown.code, "model_not_found");
    assert.match(unknown.text, /Call models_search/);
    const shape = await failed("infer_tiny", { inputs: { image: [1, 2] } });
    assert.match(shape.text, /\/inputs\/image must be FP32 \[-1,4\]: 2 levels of arrays/);
    const extra = await failed("infer_tiny", { inputs: { image }, speed: 3 });
    assert.match(extra.text, /\/speed must be absent: this tool takes inputs, timeout_ms, idempotency_key, task/);
    const timeout = await failed("infer_tiny", { inputs: { image }, timeout_ms: 0 });
    assert.match(timeout.text, /arguments\/timeout_ms must be >= 1/);
    const missing = await failed("infer_pair", { inputs: { image } });
    assert.match(missing.text, /Model pair needs second \(FP32 \[-1,4\]\): give it in the argument `inputs`/);
    door.jobs.failure = new SwitchyardError("queue_full", "many jobs wait", { retryAfterMs: 500 });
    const full = await failed("job_submit", { model: "tiny", inputs: { image } });
    assert.ok(Number(full.retry_after_ms) >= 500 && full.retryable === true);
    assert.match(full.text, /Wait \d+ ms before/);
    door.jobs.failure = new SwitchyardError("deadline_unattainable", "too late", { estimatedMs: 1_234.5 });
    assert.equal((await failed("job_submit", { model: "tiny", inputs: { image } })).estimated_ms, 1_235);
    door.jobs.failure = new Error("secret words of a bug");
    const broken = await failed("job_submit", { model: "tiny", inputs: { image } });
    assert.equal(broken.code, "internal");
    assert.doesNotMatch(broken.text, /secret words/);
    assert.ok(door.logged.some(({ event }) => event === "request_failed"));
    await assert.rejects(client.callTool({ name: "no_such_tool", arguments: {} }), { code: -32_602 });
  });

  test(`a ${era} client's user is asked for inputs that are missing`, async (t) => {
    const door = await openDoor(t);
    door.jobs.run = () => tinyScores();
    const asked: string[] = [];
    const client = await connectMcp(t, door.url, {
      era,
      onQuestion: ({ message, requestedSchema }) => {
        asked.push(`${message}: ${Object.keys(requestedSchema.properties as object)}`);
        return message.startsWith("Which model") ? { model: "pair" } : { image: "[[1,2,3,4]]", second: "[[5,6,7,8]]" };
      },
    });
    const answer = await client.callTool({ name: "infer_pair", arguments: { inputs: { image } } });
    assert.equal(answer.isError, undefined, JSON.stringify(answer));
    assert.deepEqual(asked, ["Model pair needs second (FP32 [-1,4]): second"]);
    assert.deepEqual(
      door.jobs.submissions.at(-1)!.request.inputs.map(({ name, shape }) => [name, shape]),
      [
        ["image", [1, 4]],
        ["second", [1, 4]],
      ],
    );
    const bare = await client.callTool({ name: "infer", arguments: {} });
    assert.equal((bare.structuredContent as { model: string }).model, "pair", "what was answered first is known when more is asked");
    assert.deepEqual(asked.slice(1), [
      "Which model is to run?: model",
      "Model pair needs image (FP32 [-1,4]), second (FP32 [-1,4]): image,second",
    ]);
    const declining = await connectMcp(t, door.url, { era, onQuestion: () => "decline" });
    const declined = await declining.callTool({ name: "infer_tiny", arguments: {} });
    assert.equal(declined.isError, true);
    assert.match(JSON.stringify(declined.content), /would not answer/);
  });

  test(`what a ${era} client cancels is cancelled in the queue`, async (t) => {
    const door = await openDoor(t);
    const client = await connectMcp(t, door.url, { era });
    const leave = new AbortController();
    const call = client.callTool({ name: "infer_tiny", arguments: { inputs: { image } } }, { signal: leave.signal });
    const refused = assert.rejects(call);
    await until("the job", async () => door.jobs.submissions.length === 1);
    assert.deepEqual(door.jobs.cancelled, []);
    leave.abort();
    await refused;
    await until("the cancellation", async () => door.jobs.cancelled.length === 1);
  });

  test(`a ${era} client that asks for progress is told of it`, async (t) => {
    const door = await openDoor(t);
    const client = await connectMcp(t, door.url, { era });
    const told: { progress: number; message?: string | undefined }[] = [];
    const call = client.callTool({ name: "infer_tiny", arguments: { inputs: { image } } }, { onprogress: (note) => told.push(note) });
    await until("the job", async () => door.jobs.submissions.length === 1);
    await until("a note", async () => told.length > 0);
    const [job] = (await door.jobs.list({ limit: 1 })).jobs;
    door.jobs.end(job!.id, "succeeded", { outputs: tinyScores() });
    assert.equal((await call).isError, undefined);
    assert.equal(told[0]!.message, "waiting for tiny");
    assert.ok(told.every(({ progress }, at) => at === 0 || progress > told[at - 1]!.progress));
  });
}

test("jobs that nobody waits for are submitted, looked at, waited for and cancelled", async (t) => {
  const door = await openDoor(t);
  const { result: made } = await callTool(door.url, "job_submit", { model: "tiny", inputs: { image }, class: "batch" });
  const { job_id: id, state, uri } = made.structuredContent;
  assert.deepEqual([state, uri], ["queued", `switchyard://jobs/${id}`]);
  assert.equal(door.jobs.submissions[0]!.class, "batch");
  const { result: waiting } = await callTool(door.url, "job_wait", { job_id: id, wait_ms: 50 });
  assert.equal(waiting.structuredContent.state, "queued");
  const soon = callTool(door.url, "job_wait", { job_id: id });
  await sleep(50);
  door.jobs.end(id, "succeeded", { outputs: tinyScores() });
  const { result: done } = await soon;
  assert.deepEqual([done.structuredContent.state, done.structuredContent.outputs], ["succeeded", { scores: [[0.25, 0.5, 0.125]] }]);
  const { result: looked } = await callTool(door.url, "job_get", { job_id: id });
  assert.deepEqual(looked.structuredContent, done.structuredContent);
  const { result: late } = await callTool(door.url, "job_cancel", { job_id: id });
  assert.deepEqual([late.isError, late._meta["switchyard/error"].code], [true, "job_already_ended"]);
  const { result: other } = await callTool(door.url, "job_submit", { model: "tiny", inputs: { image } });
  const { result: cancelled } = await callTool(door.url, "job_cancel", { job_id: other.structuredContent.job_id });
  assert.equal(cancelled.structuredContent.state, "cancelled");
});

test("models are found by their names and those of their tensors and classes", async (t) => {
  const door = await openDoor(t);
  const search = async (args: Record<string, unknown>) => (await callTool(door.url, "models_search", args)).result.structuredContent;
  const all = await search({});
  assert.deepEqual([all.total, all.models.map(({ model }: { model: string }) => model)], [3, ["broken", "pair", "tiny"]]);
  const tiny = (await search({ query: "TIN" })).models[0];
  assert.deepEqual(tiny, {
    model: "tiny",
    version: 2,
    versions: [1, 2],
    state: "ready",
    inputs: { image: "FP32 [-1,4]" },
    outputs: { scores: "FP32 [-1,3]" },
    tool: "infer_tiny",
  });
  assert.equal((await search({ query: "second" })).models[0].model, "pair");
  assert.deepEqual(await search({ limit: 1 }), { models: [all.models[0]], total: 3 });
});

test("above the configured number models have no tools of their own, and infer runs them", async (t) => {
  const door = await openDoor(t, { mostModelTools: 1 });
  door.jobs.run = () => tinyScores();
  const { result } = await ask(door.url, { method: "tools/list" });
  assert.equal(result.tools.length, 7);
  assert.equal((await callTool(door.url, "infer", { model: "tiny", inputs: { image } })).result.isError, undefined);
});

test("an answer to questions that this server did not ask is passed over, and a forged note refused", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = () => tinyScores();
  const params = { name: "infer_tiny", arguments: {} };
  const capabilities = { elicitation: { form: {} } };
  const first = await ask(door.url, { method: "tools/call", params, capabilities });
  assert.equal(first.result.resultType, "input_required");
  const { inputRequests, requestState } = first.result;
  assert.deepEqual(Object.keys(inputRequests), ["missing"]);
  const inputResponses = { missing: { action: "accept", content: { image: "[[1,2,3,4]]" } } };
  const deep = { missing: { action: "accept", content: { image: `${"[".repeat(30_000)}${"]".repeat(30_000)}` } } };
  const tooDeep = await ask(door.url, { method: "tools/call", params: { ...params, inputResponses: deep, requestState }, capabilities });
  assert.match(tooDeep.result.content[0].text, /as nested JSON arrays/);
  const without = await ask(door.url, { method: "tools/call", params: { ...params, inputResponses }, capabilities });
  assert.equal(without.result.resultType, "input_required");
  const forged = `${requestState.slice(0, -4)}AAAA`;
  const refused = await ask(door.url, { method: "tools/call", params: { ...params, inputResponses, requestState: forged }, capabilities });
  assert.equal(refused.error.code, -32_602);
  const elsewhere = { ...params, name: "infer_pair", inputResponses, requestState };
  assert.equal((await ask(door.url, { method: "tools/call", params: elsewhere, capabilities })).result.resultType, "input_required");
  const right = await ask(door.url, { method: "tools/call", params: { ...params, inputResponses, requestState }, capabilities });
  assert.equal(right.result.structuredContent.version, 2);
  const cannot = await ask(door.url, { method: "tools/call", params });
  assert.match(cannot.result.content[0].text, /give it in the argument `inputs`/);
});

test("a keyed call that is repeated answers with the same job", async (t) => {
  const door = await openDoor(t);
  const args = { model: "tiny", inputs: { image }, idempotency_key: "k" };
  const one = await callTool(door.url, "job_submit", args);
  const two = await callTool(door.url, "job_submit", args);
  assert.equal(two.result.structuredContent.job_id, one.result.structuredContent.job_id);
  const other = await callTool(door.url, "job_submit", { ...args, inputs: { image: [[9, 9, 9, 9]] } });
  assert.equal(other.result._meta["switchyard/error"].code, "idempotency_key_reused");
});

test("a key is for one class, and a repeat that asks for a task gets one only of a job that is as safe as tasks are", async (t) => {
  const door = await openDoor(t);
  door.jobs.strongest = "fsync";
  const submit = { model: "tiny", inputs: { image }, idempotency_key: "class" };
  await callTool(door.url, "job_submit", { ...submit, class: "batch" });
  const other = await callTool(door.url, "job_submit", { ...submit, class: "interactive" });
  assert.equal(other.result._meta["switchyard/error"].code, "idempotency_key_reused");

  const call = (task: boolean) =>
    callTool(door.url, "infer_tiny", { inputs: { image }, idempotency_key: "task", task }, { capabilities: withTasks });
  const held = call(false);
  await until("its job", async () => door.jobs.submissions.length === 2);
  const again = call(true);
  const [job] = (await door.jobs.list({ limit: 1 })).jobs;
  const early = await Promise.race([again.then(({ result }) => result.resultType), sleep(200)]);
  assert.equal(early, undefined, "it is waited for");
  door.jobs.end(job!.id, "succeeded", { outputs: tinyScores() });
  assert.deepEqual((await again).result.structuredContent.outputs, (await held).result.structuredContent.outputs);
  const late = await call(true);
  assert.deepEqual([late.result.resultType, late.result.isError], ["complete", undefined], "what has ended is no task that works");
});

test("a batch that was refused stays so under its key: what was refused of it is not run later", async (t) => {
  const door = await openDoor(t);
  const { jobs } = door;
  const { submit } = jobs;
  let isFull = true;
  jobs.submit = async (submission) => {
    if (isFull && submission.member?.index === 2) throw new SwitchyardError("queue_full", "many jobs wait");
    return submit.call(jobs, submission);
  };
  const call = (task: boolean) => {
    const args = { model: "tiny", items: [{ image }, { image }, { image }], idempotency_key: "k", task };
    return callTool(door.url, "infer_batch", args, { capabilities: withTasks });
  };
  assert.equal((await call(true)).result._meta["switchyard/error"].code, "queue_full");
  isFull = false;
  for (const task of [true, false]) {
    const { result } = await call(task);
    assert.equal(result._meta["switchyard/error"]?.code, "cancelled", JSON.stringify(result));
    assert.match(result.content[0].text, /a new idempotency_key/);
  }
  assert.equal(jobs.submissions.length, 2);
});

test("what takes long is a task for a client that takes tasks, and a held call for others", async (t) => {
  const door = await openDoor(t);
  door.jobs.expected = 5_000;
  const args = { inputs: { image } };
  const { result: task } = await callTool(door.url, "infer_tiny", args, { capabilities: withTasks });
  assert.deepEqual([task.resultType, task.status], ["task", "working"]);
  assert.ok(task.ttlMs > 0 && task.pollIntervalMs >= 500 && Date.parse(task.createdAt) > 0);
  const get = (taskId: string) => ask(door.url, { method: "tasks/get", params: { taskId }, capabilities: withTasks });
  door.jobs.start(task.taskId);
  const running = (await get(task.taskId)).result;
  assert.deepEqual([running.resultType, running.status, running.statusMessage], ["complete", "working", "tiny is running"]);
  door.jobs.end(task.taskId, "succeeded", { outputs: tinyScores() });
  const done = (await get(task.taskId)).result;
  assert.deepEqual([done.status, done.result.structuredContent.outputs], ["completed", { scores: [[0.25, 0.5, 0.125]] }]);

  const update = await ask(door.url, {
    method: "tasks/update",
    params: { taskId: task.taskId, inputResponses: {} },
    capabilities: withTasks,
  });
  assert.deepEqual([update.status, update.result.resultType], [200, "complete"]);
  const bare = await ask(door.url, { method: "tasks/get", params: { taskId: task.taskId } });
  assert.deepEqual([bare.status, bare.error.code], [400, -32_021]);
  assert.equal((await get("nonsense")).error.code, -32_602);
  for (const method of ["tasks/list", "tasks/result"]) {
    assert.equal((await ask(door.url, { method, params: { taskId: task.taskId }, capabilities: withTasks })).error.code, -32_601, method);
  }
  const never = callTool(door.url, "infer_tiny", { ...args, task: false }, { capabilities: withTasks });
  await until("the held job", async () => door.jobs.submissions.length === 2);
  assert.equal(door.jobs.submissions[1]!.hold, true);
  door.jobs.end((await door.jobs.list({ limit: 1 })).jobs[0]!.id, "succeeded", { outputs: tinyScores() });
  assert.equal((await never).result.resultType, "complete");
  const asked = await callTool(door.url, "infer_tiny", { ...args, task: true });
  assert.equal(asked.result._meta["switchyard/error"].code, "unsupported");
});

test("each end of a job has its status as a task", async (t) => {
  const door = await openDoor(t);
  door.jobs.strongest = "fsync";
  const start = async (): Promise<string> =>
    (await callTool(door.url, "infer_tiny", { inputs: { image }, task: true }, { capabilities: withTasks })).result.taskId;
  const get = async (taskId: string) => (await ask(door.url, { method: "tasks/get", params: { taskId }, capabilities: withTasks })).result;
  const cancelled = await start();
  assert.equal(door.jobs.submissions[0]!.durability, "fsync", "a task is as safe as the store can make it");
  const ack = await ask(door.url, { method: "tasks/cancel", params: { taskId: cancelled }, capabilities: withTasks });
  assert.deepEqual([ack.status, ack.error], [200, undefined]);
  assert.equal((await get(cancelled)).status, "cancelled");
  const again = await ask(door.url, { method: "tasks/cancel", params: { taskId: cancelled }, capabilities: withTasks });
  assert.deepEqual([again.status, again.error], [200, undefined]);
  const failed = await start();
  door.jobs.end(failed, "failed", { error: { code: "run_failed", detail: "division by zero", retryable: false } });
  const ill = await get(failed);
  assert.deepEqual([ill.status, ill.result.isError, ill.result._meta["switchyard/error"].job_id], ["completed", true, failed]);
  const expired = await start();
  door.jobs.end(expired, "expired");
  assert.deepEqual([(await get(expired)).status, (await get(expired)).result.isError], ["completed", true]);
  const poison = await start();
  door.jobs.end(poison, "failed", { error: { code: "poison", detail: "three hosts died", retryable: false } });
  const broken = await get(poison);
  assert.deepEqual([broken.status, broken.error.code, broken.error.message], ["failed", -32_603, "three hosts died"]);
});

test("a batch is one task, whose jobs are found again by the first one's id", async (t) => {
  const door = await openDoor(t);
  const items = Array.from({ length: 5 }, () => ({ image }));
  const { result: task } = await callTool(door.url, "infer_batch", { model: "tiny", items, task: true }, { capabilities: withTasks });
  assert.equal(task.resultType, "task");
  assert.equal(door.jobs.submissions.length, 5);
  assert.ok(door.jobs.submissions.every((one) => one.class === "batch"));
  const get = async () => (await ask(door.url, { method: "tasks/get", params: { taskId: task.taskId }, capabilities: withTasks })).result;
  const ids = (await door.jobs.list({ limit: 10 })).jobs.map(({ id }) => id).reverse();
  assert.equal(ids[0], task.taskId);
  const seen: number[] = [];
  for (const id of ids.slice(0, 4)) {
    door.jobs.end(id, "succeeded", { outputs: tinyScores() });
    const { _meta, status, statusMessage } = await get();
    assert.equal(status, "working");
    seen.push(_meta["switchyard/progress"].progress);
    assert.equal(statusMessage, `${seen.length} of 5 items done`);
  }
  assert.deepEqual(seen, [1, 2, 3, 4]);
  door.jobs.end(ids[4]!, "failed", { error: { code: "run_failed", detail: "no", retryable: false } });
  const done = await get();
  const { failed, items: answered, succeeded } = done.result.structuredContent;
  assert.deepEqual([done.status, succeeded, failed, answered.length], ["completed", 4, 1, 5]);
  assert.deepEqual(answered[0].outputs, { scores: [[0.25, 0.5, 0.125]] });
  assert.equal(answered[4].error.code, "run_failed");

  const held = callTool(door.url, "infer_batch", { model: "tiny", items: items.slice(0, 2) });
  await until("its jobs", async () => door.jobs.submissions.length === 7);
  for (const { id } of (await door.jobs.list({ limit: 2 })).jobs) door.jobs.end(id, "succeeded", { outputs: tinyScores() });
  assert.equal((await held).result.structuredContent.succeeded, 2);
});

test("an item of a batch that cannot be is named, and then nothing is submitted", async (t) => {
  const door = await openDoor(t);
  const items = [{ image }, { image: [[1, 2]] }];
  const { result } = await callTool(door.url, "infer_batch", { model: "tiny", items });
  assert.match(result.content[0].text, /item 1: Input 'image' must have the shape FP32 \[-1,4\]/);
  const lacking = await callTool(door.url, "infer_batch", { model: "tiny", items: [{ image }, {}] });
  assert.match(lacking.result.content[0].text, /item 1 lacks the input image/);
  assert.equal(door.jobs.submissions.length, 0);
});

test("a batch of images is read some at a time, and others are served in between", async (t) => {
  const door = await openDoor(t);
  Object.assign(door.models.resolve("tiny", 2).version, { config: { image: { size: [2, 2] } } });
  door.jobs.run = () => tinyScores();
  const picture = { data: PNG.sync.write(new PNG({ width: 512, height: 512 })).toString("base64"), mimeType: "image/png" };
  const items = Array.from({ length: 40 }, () => ({ image: picture }));
  const waits: string[] = [];
  const isServedBetween = async (): Promise<boolean> => {
    const startMs = performance.now();
    let [worstMs, lastMs] = [0, startMs];
    const beat = setInterval(() => {
      const nowMs = performance.now();
      [worstMs, lastMs] = [Math.max(worstMs, nowMs - lastMs), nowMs];
    }, 1);
    const { result } = await callTool(door.url, "infer_batch", { model: "tiny", items });
    clearInterval(beat);
    const tookMs = performance.now() - startMs;
    assert.equal(result.structuredContent.succeeded, 40);
    waits.push(`${worstMs} ms of ${tookMs} ms`);
    return worstMs < tookMs / 4;
  };
  // the machine may hold this process up, but not in the midst of every call
  let isServed = false;
  for (let call = 0; call < 5 && !isServed; call++) isServed = await isServedBetween();
  assert.ok(isServed, `others waited ${waits}`);
});

test("a batch that no host may run is refused before its items are read", async (t) => {
  const door = await openDoor(t);
  door.jobs.closed = new SwitchyardError("no_capable_host", "no host has a GPU");
  const { result } = await callTool(door.url, "infer_batch", { model: "tiny", items: [{ image: "nonsense" }] });
  assert.equal(result._meta["switchyard/error"].code, "no_capable_host");
});

test("a held batch whose store goes away names its first job, and is cancelled once the store is back", async (t) => {
  const door = await openDoor(t);
  const away = () => new SwitchyardError("store_unavailable", "the store does not answer");
  const { jobs } = door;
  const { wait, states } = jobs;
  const signals: (AbortSignal | undefined)[] = [];
  jobs.wait = async (id, how) => {
    signals.push(how.signal);
    if (signals.length === 2) throw away();
    return wait.call(jobs, id, how);
  };
  let outages = 2;
  jobs.states = async (ids) => {
    if (outages-- > 0) throw away();
    return states.call(jobs, ids);
  };
  const { result } = await callTool(door.url, "infer_batch", { model: "tiny", items: [{ image }, { image }, { image }] });
  const ids = (await jobs.list({ limit: 10 })).jobs.map(({ id }) => id).reverse();
  const { code, job_id: named } = result._meta["switchyard/error"];
  assert.deepEqual([code, named], ["store_unavailable", ids[0]]);
  assert.ok(
    signals.every((signal) => signal?.aborted),
    "the other waits go on",
  );
  await until("the cancellation", async () => jobs.cancelled.length === 3);
});

test("keys, scopes and tenants are those of every door", async (t) => {
  const door = await openDoor(
    t,
    {},
    keyed({ id: "all", scopes: ["submit", "read"] }, { id: "reader", scopes: ["read"] }, { id: "admin", scopes: ["admin"] }),
  );
  door.jobs.run = () => tinyScores();
  const none = await send(door.url, { method: "tools/list" });
  assert.deepEqual([none.status, none.headers.get("www-authenticate")], [401, 'Bearer realm="switchyard"']);
  assert.equal((await send(door.url, { method: "tools/list", key: "admin" })).status, 403);
  const { result } = await ask(door.url, { method: "tools/list", key: "reader" });
  assert.deepEqual(
    result.tools.map(({ name }: { name: string }) => name),
    ["job_get", "job_wait", "models_search"],
  );
  const refused = await callTool(door.url, "infer_tiny", { inputs: { image } }, { key: "reader" });
  assert.equal(refused.result._meta["switchyard/error"].code, "forbidden");
  const allowed = await callTool(door.url, "infer_tiny", { inputs: { image } }, { key: "all" });
  assert.equal(allowed.result.isError, undefined);
});

test("a key does with tasks what it may do with jobs, and one that may only submit polls what it was handed", async (t) => {
  const keys = keyed(
    { id: "sender", scopes: ["submit"] },
    { id: "other", scopes: ["submit"] },
    { id: "reader", scopes: ["read"] },
    { id: "operator", scopes: ["operate"] },
  );
  const door = await openDoor(t, {}, keys);
  const about = (method: string, taskId: string, key: string) =>
    ask(door.url, { method, params: { taskId, ...(method === "tasks/update" && { inputResponses: {} }) }, key, capabilities: withTasks });
  const told = async (method: string, taskId: string, key: string) => {
    const { error, result } = await about(method, taskId, key);
    return error === undefined ? (result.status ?? "done") : error.data.code;
  };
  const start = async (name: string, args: Record<string, unknown>) =>
    (await callTool(door.url, name, { ...args, task: true }, { key: "sender", capabilities: withTasks })).result.taskId as string;
  const task = await start("infer_tiny", { inputs: { image } });
  assert.deepEqual(
    [await told("tasks/get", task, "sender"), await told("tasks/get", task, "reader")],
    ["working", "working"],
    "its own key and readers",
  );
  assert.deepEqual([await told("tasks/get", task, "other"), await told("tasks/get", task, "operator")], ["forbidden", "forbidden"]);
  for (const method of ["tasks/cancel", "tasks/update"]) {
    for (const key of ["reader", "operator"]) assert.equal(await told(method, task, key), "forbidden", `${method} ${key}`);
  }
  assert.deepEqual(door.jobs.cancelled, []);
  assert.equal(await told("tasks/update", task, "sender"), "done");
  const { result } = await callTool(door.url, "job_submit", { model: "tiny", inputs: { image } }, { key: "sender" });
  assert.equal(await told("tasks/get", result.structuredContent.job_id, "sender"), "forbidden", "a job that is no task of its");
  const batch = await start("infer_batch", { model: "tiny", items: [{ image }, { image }] });
  for (const { id } of (await door.jobs.list({ limit: 2 })).jobs) door.jobs.end(id, "succeeded", { outputs: tinyScores() });
  const { result: done } = await about("tasks/get", batch, "sender");
  assert.deepEqual([done.status, done.result.structuredContent.succeeded], ["completed", 2]);
  assert.equal(await told("tasks/cancel", task, "sender"), "done");
  assert.deepEqual(door.jobs.cancelled, [task]);
});

test("pages of other origins are refused, with keys too, and origins that are named are let in", async (t) => {
  const open = await openDoor(t, { corsOrigins: ["https://app.example"] });
  const guarded = await openDoor(t, { corsOrigins: ["https://app.example"] }, keyed({ id: "all", scopes: ["submit", "read"] }));
  for (const { url } of [open, guarded]) {
    const from = (origin: string) => send(url, { method: "tools/list", key: "all", headers: { origin } });
    assert.equal((await from("https://evil.example")).status, 403);
    assert.equal((await from("null")).status, 403);
    const allowed = await from("https://app.example");
    assert.deepEqual([allowed.status, allowed.headers.get("access-control-allow-origin")], [200, "https://app.example"]);
    assert.match(allowed.headers.get("access-control-expose-headers") ?? "", /Mcp-Session-Id/);
    assert.equal((await from(url)).status, 200, "its own");
  }
  const rebound = await open.raw("POST /mcp HTTP/1.1\r\nhost: evil.example\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}");
  assert.match(rebound, /^HTTP\/1\.1 403/);
});

test("answers carry what every answer carries, and are counted", async (t) => {
  const door = await openDoor(t);
  const response = await send(door.url, { method: "tools/list", headers: { "x-request-id": "mine" } });
  await response.text();
  assert.deepEqual(
    ["x-request-id", "cache-control", "x-content-type-options"].map((name) => response.headers.get(name)),
    ["mine", "no-store", "nosniff"],
  );
  await until("the count", async () =>
    /switchyard_http_request_seconds_count\{route="\/mcp",method="POST",status="200"\} 1/.test(await door.metricsText()),
  );
});

test("what is no JSON, and what is too large, is answered as JSON-RPC", async (t) => {
  const door = await openDoor(t, { maxJsonBytes: 2_000 });
  const told = async (body: string) => {
    const response = await post(door.url, body);
    return [response.status, (await response.json()).error.code];
  };
  assert.deepEqual(await told("{"), [400, -32_700]);
  assert.deepEqual(await told(""), [400, -32_700]);
  assert.deepEqual(await told("[".repeat(500)), [400, -32_700]);
  assert.deepEqual(await told(JSON.stringify({ x: "y".repeat(3_000) })), [413, -32_600]);
  assert.deepEqual(await told('{"jsonrpc":"2.0","id":1,"method":"tools/list"}'), [400, -32_000], "no session");
  const response = await fetch(`${door.url}/mcp`, { method: "PUT" });
  assert.deepEqual([response.status, response.headers.get("allow")], [405, "GET, POST, DELETE, HEAD, OPTIONS"]);
});

test("a session belongs to its key, ends when it is deleted, and is unknown to another coordinator", async (t) => {
  const access = keyed({ id: "one", scopes: ["submit", "read"] }, { id: "two", scopes: ["submit", "read"] });
  const door = await openDoor(t, {}, access);
  const elsewhere = await openDoor(t, {}, access);
  const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
  const opened = await post(door.url, initialize(), bearer("one"));
  await opened.text();
  const id = opened.headers.get("mcp-session-id")!;
  assert.match(id, /^[a-z2-7]{26}\.[0-9a-f-]{36}$/);
  const list = (url: string, key: string) =>
    post(url, { jsonrpc: "2.0", id: 2, method: "tools/list" }, { ...bearer(key), "mcp-session-id": id });
  assert.equal((await list(door.url, "one")).status, 200);
  assert.equal((await list(door.url, "two")).status, 404);
  assert.equal((await list(elsewhere.url, "one")).status, 404);
  const end = await fetch(`${door.url}/mcp`, { method: "DELETE", headers: { ...bearer("one"), "mcp-session-id": id } });
  assert.equal(end.status, 200);
  assert.equal((await list(door.url, "one")).status, 404);
});

test("a key that opens too many sessions loses those that it does not use", async (t) => {
  const door = await openDoor(t);
  const ids: string[] = [];
  for (let at = 0; at < 70; at++) {
    const opened = await post(door.url, initialize(at));
    await opened.text();
    ids.push(opened.headers.get("mcp-session-id")!);
  }
  const list = async (id: string) => {
    const response = await post(door.url, { jsonrpc: "2.0", id: 2, method: "tools/list" }, { "mcp-session-id": id });
    await response.text();
    return response.status;
  };
  assert.deepEqual([await list(ids[0]!), await list(ids[5]!), await list(ids[6]!), await list(ids[69]!)], [404, 404, 200, 200]);
});

test("streams end with the coordinator, and calls that it holds are told to go elsewhere", async (t) => {
  const door = await openDoor(t);
  const opened = await post(door.url, initialize());
  await opened.text();
  const session = { "mcp-session-id": opened.headers.get("mcp-session-id")! };
  const stream = await fetch(`${door.url}/mcp`, { headers: { accept: "text/event-stream", ...session } });
  assert.equal(stream.status, 200);
  const listen = await send(door.url, { method: "subscriptions/listen", params: { notifications: { toolsListChanged: true } } });
  assert.match(listen.headers.get("content-type") ?? "", /event-stream/);
  const held = callTool(door.url, "infer_tiny", { inputs: { image } });
  await until("the job", async () => door.jobs.submissions.length === 1);
  door.drain();
  door.server.endWaits();
  await stream.text();
  await listen.text();
  const refused = await send(door.url, { method: "tools/list" });
  assert.deepEqual([refused.status, refused.headers.get("connection")], [503, "close"]);
  door.server.endHeld();
  const { result } = await held;
  assert.deepEqual([result.isError, result._meta["switchyard/error"].code], [true, "draining"]);
  assert.equal(door.jobs.cancelled.length, 1);
});

test("outputs that are too large for an answer are linked to, and their job is kept", async (t) => {
  const door = await openDoor(t);
  const held = callTool(door.url, "infer_tiny", { inputs: { image } });
  await until("the job", async () => door.jobs.submissions.length === 1);
  const [job] = (await door.jobs.list({ limit: 1 })).jobs;
  assert.equal(job!.held, true);
  door.jobs.end(job!.id, "succeeded", {
    outputs: [{ name: "scores", datatype: "FP32", shape: [30_000, 3], bytes: new Uint8Array(360_000) }],
  });
  const { result } = await held;
  const uri = `switchyard://jobs/${job!.id}/output`;
  assert.deepEqual(result.structuredContent, { model: "tiny", version: 2, job_id: job!.id, output_uri: uri });
  assert.deepEqual([result.content[1].type, result.content[1].uri], ["resource_link", uri]);
  assert.equal((await door.jobs.get(job!.id)).held, false);
});

test("a call that goes by an older definition of its tool is told to list the tools again", async (t) => {
  const door = await openDoor(t);
  door.jobs.run = () => tinyScores();
  const { result: list } = await ask(door.url, { method: "tools/list" });
  const { _meta } = list.tools.find(({ name }: { name: string }) => name === "infer_tiny");
  const go = (mark: string) =>
    callTool(door.url, "infer_tiny", { inputs: { image } }, { params: { _meta: { "switchyard/signature": mark } } });
  assert.equal((await go(_meta["switchyard/signature"])).result.isError, undefined);
  const drifted = (await go("of-yesterday")).result;
  assert.equal(drifted._meta["switchyard/error"].code, "signature_mismatch");
  assert.match(drifted.content[0].text, /list the tools again/);
});

test("a call belongs to the trace that its message names, and its job to the call", async (t) => {
  const begun: { name: string; parent: string | undefined; context: TraceContext }[] = [];
  const begin = (name: string, _facts: unknown, parent: TraceContext | undefined): OpenSpan => {
    const traceId = parent?.traceId ?? "f".repeat(32);
    const context = { traceId, spanId: String(begun.length + 1).padStart(16, "0"), isSampled: true };
    begun.push({ name, parent: parent?.spanId, context });
    return { context, add() {}, end() {} };
  };
  const tracing = { request: begin, step: begin, during: (_of: unknown, run: () => void) => run() } as unknown as Tracing;
  const door = await openDoor(t, {}, { tracing });
  door.jobs.run = () => tinyScores();
  const traceparent = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;
  await callTool(door.url, "infer_tiny", { inputs: { image } }, { params: { _meta: { traceparent } } });
  const call = begun.find(({ name }) => name === "tools/call infer_tiny")!;
  assert.deepEqual([call.context.traceId, call.parent], ["a".repeat(32), "b".repeat(16)]);
  assert.deepEqual(door.jobs.submissions[0]!.trace, call.context);
  await callTool(door.url, "infer_tiny", { inputs: { image } });
  const [request, plain] = begun.slice(-2);
  assert.deepEqual([request!.name, plain!.parent], ["POST /mcp", request!.context.spanId]);
});

test("a request whose Host header is no host is answered like any other", async (t) => {
  const door = await openDoor(t);
  const clientInfo = { name: "odd", version: "1" };
  const params = { protocolVersion: "2025-06-18", capabilities: {}, clientInfo };
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "initialize", params });
  for (const host of ["a b", "[", "a:b:c", "a/b?c", "a?b#c"]) {
    const lines = ["Content-Type: application/json", "Accept: application/json, text/event-stream", `Content-Length: ${body.length}`];
    const head = `POST /mcp HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n${lines.join("\r\n")}`;
    assert.match(await door.raw(`${head}\r\n\r\n${body}`, /"serverInfo"|error/), /^HTTP\/1\.1 200 [\s\S]*"serverInfo"/, host);
  }
});
