/** Resources, prompts and completion of the Model Context Protocol as its own client sees them, in both revisions. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Client } from "@modelcontextprotocol/client";
import { errors, SwitchyardError, type Tensor } from "@switchyard/protocol";
import { type Caller, localCaller } from "../../coordinator/src/application/caller.ts";
import { toModelView } from "../../coordinator/src/doors/cluster-views.ts";
import { toJobView } from "../../coordinator/src/doors/job-view.ts";
import { resourceUris } from "../../coordinator/src/doors/mcp/resource-uris.ts";
import { fakeModels } from "../support/fake-job-service.ts";
import { envelope, type McpFace, mcpFace } from "../support/mcp-resources.ts";
import { fakeDoorParts } from "../support/open-door.ts";
import { OwnedJobs } from "../support/owned-jobs.ts";

const anna: Caller = { ...localCaller, tenant: "anna", keyId: "anna-1", scopes: new Set(["submit", "read"]) };
const berta: Caller = { ...localCaller, tenant: "berta", keyId: "berta-1", scopes: new Set(["submit", "read"]) };

const scores: Tensor = {
  name: "scores",
  datatype: "FP32",
  shape: [1, 3],
  bytes: new Uint8Array(new Float32Array([0.125, 0.625, 0.25]).buffer),
};
const request = { inputs: [], parameters: {}, binaryDefault: false };
const submission = { model: "tiny", version: 1, request, hold: false };

function open(t: TestContext): { face: McpFace; jobs: OwnedJobs } {
  const { models, parts } = fakeDoorParts();
  const jobs = new OwnedJobs(models);
  const face = mcpFace({ ...parts, jobs });
  t.after(() => face.close());
  return { face, jobs };
}

/** The same test with a client of each revision. */
function inBothRevisions(what: string, run: (client: Client, parts: ReturnType<typeof open>) => Promise<void>, caller = localCaller): void {
  test(`${what}, in the stateless revision`, async (t) => {
    const parts = open(t);
    await run(await parts.face.modern(caller), parts);
  });
  test(`${what}, in the earlier revision`, async (t) => {
    const parts = open(t);
    await run(await parts.face.legacy(caller), parts);
  });
}

async function read(client: Client, uri: string): Promise<unknown> {
  const { contents } = await client.readResource({ uri });
  assert.equal(contents.length, 1);
  const [content] = contents;
  assert.equal(content?.uri, uri);
  assert.equal(content.mimeType, "application/json");
  return JSON.parse("text" in content ? content.text : "") as unknown;
}

const json = (value: unknown): unknown => JSON.parse(JSON.stringify(value)) as unknown;
const urisOf = ({ resources }: { resources: { uri: string }[] }): string[] => resources.map(({ uri }) => uri);

inBothRevisions(
  "resources are listed in one order: what is always there, models, hosts, the caller's last jobs",
  async (client, { jobs }) => {
    const first = await jobs.submit(submission, localCaller);
    const second = await jobs.submit(submission, localCaller);
    second.record.createdMs = first.record.createdMs + 1;
    await jobs.submit(submission, berta);
    const listed = await client.listResources();
    assert.deepEqual(urisOf(listed), [
      ...["switchyard://hosts", "switchyard://metrics", "switchyard://models", "switchyard://queues"],
      ...["switchyard://models/broken", "switchyard://models/pair", "switchyard://models/tiny", "switchyard://hosts/host-1"],
      ...[resourceUris.job(second.record.id), resourceUris.job(first.record.id)],
    ]);
    assert.equal(listed.nextCursor, undefined);
    assert.deepEqual(await client.listResources(), listed);
  },
);

inBothRevisions(
  "a key sees what its scopes and models open, and is refused the rest by name",
  async (client) => {
    const uris = ["switchyard://metrics", "switchyard://models", "switchyard://queues", "switchyard://models/tiny"];
    assert.deepEqual(urisOf(await client.listResources()), uris);
    const { items } = (await read(client, "switchyard://models")) as { items: { model: string }[] };
    assert.deepEqual(new Set(items.map(({ model }) => model)), new Set(["tiny"]));
    for (const uri of ["switchyard://hosts", "switchyard://hosts/host-1"]) {
      await assert.rejects(client.readResource({ uri }), { code: -32602, message: /lacks the scope 'operate'/ });
    }
    await assert.rejects(client.readResource({ uri: "switchyard://models/pair" }), {
      code: -32602,
      message: /may not use the model 'pair'/,
    });
    await assert.rejects(client.readResource({ uri: "switchyard://models/pair/versions/1" }), { code: -32602 });
  },
  { ...anna, models: new Set(["tiny"]) },
);

inBothRevisions("every resource says what /v1 shows of the same", async (client, { face, jobs }) => {
  const { context } = face;
  const { record } = await jobs.submit(submission, localCaller);
  jobs.start(record.id);
  const running = await jobs.get(record.id);
  const versions = (model: string) => context.models.versions(model).map((status) => toModelView(status, localCaller));
  assert.deepEqual(await read(client, "switchyard://models/tiny"), json({ items: versions("tiny"), links: {} }));
  assert.deepEqual(await read(client, "switchyard://models/tiny/versions/2"), json(versions("tiny")[0]));
  assert.deepEqual(await read(client, "switchyard://hosts"), json({ items: context.hosts.list(), links: {} }));
  assert.deepEqual(await read(client, "switchyard://hosts/host-1"), json(context.hosts.list()[0]));
  assert.deepEqual(await read(client, "switchyard://queues"), json({ items: await context.overview.queues(localCaller), links: {} }));
  assert.deepEqual(await read(client, resourceUris.job(record.id)), json(toJobView(running, localCaller)));
  const { items } = (await read(client, "switchyard://models")) as { items: Record<string, unknown>[] };
  assert.deepEqual(items, json(context.models.list().map((status) => ({ ...toModelView(status, localCaller), labels: undefined }))));
  const { at, ...figures } = (await read(client, "switchyard://metrics")) as Record<string, unknown>;
  const { series: _, slot_s: __, at: ___, ...overview } = (await context.overview.view(localCaller)).view;
  assert.deepEqual(figures, json(overview));
  assert.equal(typeof at, "string");
});

inBothRevisions("an answer is told as JSON with the likeliest classes, once the job has succeeded", async (client, { jobs }) => {
  const { record } = await jobs.submit(submission, localCaller);
  const uri = resourceUris.output(record.id);
  await assert.rejects(client.readResource({ uri }), { code: -32602, message: /the job is queued/ });
  jobs.end(record.id, "succeeded", { outputs: [scores] });
  const answer = (await read(client, uri)) as Record<string, unknown>;
  assert.deepEqual(answer.outputs, [{ name: "scores", datatype: "FP32", shape: [1, 3], data: [0.125, 0.625, 0.25] }]);
  assert.deepEqual(answer.classification, { scores: [["0.625:1:one", "0.25:2:two", "0.125:0:zero"]] });
  assert.equal(answer.model_name, "tiny");
});

test("an answer that JSON cannot say comes as bytes, one that is too large is told where to fetch it", async (t) => {
  const { face, jobs } = open(t);
  const client = await face.modern();
  const { record } = await jobs.submit({ ...submission, version: 2 }, localCaller);
  const floats = new Float32Array([Number.NaN, 1, 2]);
  jobs.end(record.id, "succeeded", { outputs: [{ ...scores, bytes: new Uint8Array(floats.buffer) }] });
  const { contents } = await client.readResource({ uri: resourceUris.output(record.id) });
  const content = contents[0] as { blob: string; mimeType: string; _meta: Record<string, number> };
  const bytes = Buffer.from(content.blob, "base64");
  const headerLength = content._meta["inference-header-content-length"]!;
  assert.equal(content.mimeType, "application/octet-stream");
  assert.equal(JSON.parse(bytes.toString("utf8", 0, headerLength)).outputs[0].parameters.binary_data_size, 12);
  assert.deepEqual(bytes.subarray(headerLength), Buffer.from(floats.buffer));

  const large = await jobs.submit({ ...submission, version: 2 }, localCaller);
  jobs.end(large.record.id, "succeeded", { outputs: [{ ...scores, shape: [1, 1_500_000], bytes: new Uint8Array(6_000_000) }] });
  const refused = { code: -32602, message: new RegExp(`ask /v1/jobs/${large.record.id}/result`) };
  await assert.rejects(client.readResource({ uri: resourceUris.output(large.record.id) }), refused);
});

inBothRevisions("what does not exist is an error with its address, another tenant's job too", async (client, { jobs }) => {
  const { record } = await jobs.submit(submission, berta);
  const missing = [
    ...["switchyard://nothing", "switchyard://models/nothing", "switchyard://models/tiny/versions/9", "switchyard://hosts/nothing"],
    ...["switchyard://jobs/aaaaaaaaaa-aaaaaaaaaaaaaaaaaaaaaaaaaa", resourceUris.job(record.id), resourceUris.output(record.id)],
  ];
  for (const uri of missing) await assert.rejects(client.readResource({ uri }), { code: -32602, data: { uri } }, uri);
});

test("lists are kept for seconds and by the caller alone, a job until it changes, what is the same for all by everybody", async (t) => {
  const { face, jobs } = open(t);
  const client = await face.modern();
  const hint = (result: object) => {
    const { cacheScope, ttlMs } = result as { cacheScope?: string; ttlMs?: number };
    return [cacheScope, ttlMs];
  };
  assert.deepEqual(hint(await client.listResources()), ["private", 5_000]);
  assert.deepEqual(hint(await client.listResourceTemplates()), ["public", 300_000]);
  assert.deepEqual(hint(await client.listPrompts()), ["public", 300_000]);
  const { record } = await jobs.submit(submission, localCaller);
  assert.deepEqual(hint(await client.readResource({ uri: resourceUris.job(record.id) })), ["private", 0]);
  jobs.end(record.id, "succeeded", { outputs: [scores] });
  assert.deepEqual(hint(await client.readResource({ uri: resourceUris.job(record.id) })), ["private", 60_000]);
  const earlier = await face.legacy();
  assert.deepEqual(Object.keys(await earlier.readResource({ uri: resourceUris.job(record.id) })), ["contents"]);
});

test("a long list comes in pages that leave nothing out, and their cursors are good for nobody and nothing else", async (t) => {
  const image = { name: "image", datatype: "FP32" as const, shape: [-1, 4] };
  const names = Array.from({ length: 250 }, (_, at) => `model-${String(at).padStart(3, "0")}`);
  const models = fakeModels(names.map((model) => ({ model, version: 1, signature: { inputs: [image], outputs: [image] } })));
  const { parts } = fakeDoorParts();
  const face = mcpFace({ ...parts, models, jobs: new OwnedJobs(models) });
  t.after(() => face.close());
  const list = async (caller: Caller, cursor?: string) => {
    const params = { _meta: envelope, ...(cursor !== undefined && { cursor }) };
    const answer = (await (await face.ask({ jsonrpc: "2.0", id: 1, method: "resources/list", params }, caller)).json()) as {
      result?: { resources: { uri: string }[]; nextCursor?: string };
      error?: { code: number; message: string };
    };
    return answer;
  };
  const found: string[] = [];
  const sizes: number[] = [];
  let cursor: string | undefined;
  let second: string | undefined;
  do {
    const { result } = await list(anna, cursor);
    found.push(...urisOf(result!));
    sizes.push(result!.resources.length);
    cursor = result!.nextCursor;
    second ??= cursor;
  } while (cursor !== undefined);
  assert.deepEqual(sizes, [100, 100, 53]);
  assert.equal(new Set(found).size, 253);
  assert.deepEqual(
    found.slice(3),
    names.map((model) => resourceUris.model(model)),
  );
  const changed = `${second!.slice(0, 4)}${second![4] === "A" ? "B" : "A"}${second!.slice(5)}`;
  for (const [caller, given] of [
    [anna, changed],
    [berta, second],
    [anna, "no cursor"],
    [anna, ""],
  ] as const) {
    assert.equal((await list(caller, given)).error?.code, -32602, given);
  }
  const { error } = (await (
    await face.ask({ jsonrpc: "2.0", id: 1, method: "resources/templates/list", params: { _meta: envelope, cursor: second } }, anna)
  ).json()) as { error: { code: number; data: { code: string } } };
  assert.deepEqual([error.code, error.data.code], [-32602, "invalid_request"]);
});

test("a list that would be too long ends early and says how many it left out", async (t) => {
  const input = { name: "x".repeat(5_000), datatype: "FP32" as const, shape: [-1, 4] };
  const names = Array.from({ length: 250 }, (_, at) => `model-${at}`);
  const models = fakeModels(names.map((model) => ({ model, version: 1, signature: { inputs: [input], outputs: [] } })));
  const { parts } = fakeDoorParts({}, { models, jobs: new OwnedJobs(models) });
  const face = mcpFace(parts);
  t.after(() => face.close());
  const { contents } = await (await face.modern()).readResource({ uri: "switchyard://models" });
  const text = "text" in contents[0]! ? contents[0].text : "";
  const { items, left_out: leftOut } = JSON.parse(text) as { items: unknown[]; left_out: number };
  assert.ok(text.length <= 1_048_576 + 100 && items.length > 150);
  assert.equal(items.length + leftOut, 250);
});

test("a store that is away is told as a passing failure, a bug without its inner text", async (t) => {
  const { face, jobs } = open(t);
  const client = await face.modern();
  jobs.failure = new SwitchyardError("store_unavailable", "the store does not answer", { retryAfterMs: 700 });
  const id = "aaaaaaaaaa-aaaaaaaaaaaaaaaaaaaaaaaaaa";
  const about = { code: "store_unavailable", retryable: errors.store_unavailable.retryable, retry_after_ms: 700 };
  await assert.rejects(client.readResource({ uri: resourceUris.job(id) }), { code: -32603, data: about });
  jobs.failure = new Error("the secret inside");
  await assert.rejects(client.readResource({ uri: resourceUris.job(id) }), (error: Error & { code: number; data: object }) => {
    assert.equal(error.code, -32603);
    assert.doesNotMatch(JSON.stringify([error.message, error.data]), /secret/);
    return true;
  });
});

inBothRevisions("prompts are filled with the cluster as it is", async (client, { jobs }) => {
  const named = (await client.listPrompts()).prompts.map(({ arguments: given, name }) => [name, given?.map((one) => one.name)]);
  assert.deepEqual(named, [
    ["choose_model", ["task", "input", "max_latency_ms"]],
    ["explain_failed_job", ["job_id"]],
    ["plan_capacity", ["model", "items_per_second", "target_ms"]],
  ]);
  const chosen = await prompt(client, "choose_model", { task: "find the second of three: two", max_latency_ms: "20" });
  assert.match(chosen.text, /find the second of three.*\nOne answer may take 20 ms at most\./s);
  const { models } = chosen.facts as { models: { model: string; version: number; classes?: object }[] };
  // the served version of tiny has no class names, and the broken model is no choice
  assert.deepEqual(
    models.map(({ model, version }) => `${model}@${version}`),
    ["pair@1", "tiny@2"],
  );

  const { record } = await jobs.submit(submission, localCaller);
  jobs.end(record.id, "failed", { error: { code: "run_failed", detail: "the graph divides by zero", retryable: true } });
  const explained = await prompt(client, "explain_failed_job", { job_id: record.id });
  assert.match(explained.text, new RegExp(`The job ${record.id} is failed\\.`));
  const about = explained.facts as {
    job: object;
    timeline: { events: { event: string }[] };
    error_means: object;
    model: { model: string };
  };
  assert.deepEqual(about.job, json(toJobView(await jobs.get(record.id), localCaller)));
  assert.deepEqual(
    about.timeline.events.map(({ event }) => event),
    ["admitted", "failed"],
  );
  assert.deepEqual(about.error_means, { title: "The model run failed", retryable: true });
  assert.equal(about.model.model, "tiny");

  const planned = await prompt(client, "plan_capacity", { model: "tiny", items_per_second: "500", target_ms: "" });
  assert.match(planned.text, /The plan is for the model tiny\.\nThe load to come: 500 items a second\.\nJudge/);
  assert.deepEqual(Object.keys(planned.facts as object), ["metrics", "queues", "estimates", "needs"]);
});

async function prompt(client: Client, name: string, given: Record<string, string>): Promise<{ text: string; facts: unknown }> {
  const { messages } = await client.getPrompt({ name, arguments: given });
  const [told, facts] = messages.map(({ content }) => content);
  assert.ok(told?.type === "text" && facts?.type === "resource" && "text" in facts.resource);
  return { text: told.text, facts: JSON.parse(facts.resource.text) as unknown };
}

inBothRevisions("a prompt that is not well asked for says which argument is wrong", async (client, { jobs }) => {
  const { record } = await jobs.submit(submission, berta);
  const wrong: [string, Record<string, string>, RegExp][] = [
    ["nothing", {}, /name: expected one of the prompts choose_model, explain_failed_job, plan_capacity; got nothing/],
    ["choose_model", {}, /arguments\/task: expected What is to be found out/],
    ["choose_model", { task: " " }, /arguments\/task/],
    ["choose_model", { task: "x".repeat(5_000) }, /at most 4096 characters/],
    ["choose_model", { task: "x", latency: "1" }, /expected one of the arguments task, input, max_latency_ms; got latency/],
    ["choose_model", { task: "x", max_latency_ms: "soon" }, /arguments\/max_latency_ms: expected a number above 0; got soon/],
    ["explain_failed_job", { job_id: "nothing" }, /no job nothing/],
    ["explain_failed_job", { job_id: record.id }, /no job/],
    ["plan_capacity", { model: "nothing" }, /no model 'nothing'/],
  ];
  for (const [name, given, message] of wrong) await assert.rejects(client.getPrompt({ name, arguments: given }), { code: -32602, message });
});

inBothRevisions("completion offers what begins like that, of what the caller may see", async (client, { jobs }) => {
  const offered = async (ref: Ref, name: string, value: string, given?: Record<string, string>) =>
    (await client.complete({ ref, argument: { name, value }, ...(given && { context: { arguments: given } }) })).completion;
  type Ref = Parameters<Client["complete"]>[0]["ref"];
  const template = (uri: string): Ref => ({ type: "ref/resource", uri });
  const model = template("switchyard://models/{model}");
  const version = template("switchyard://models/{model}/versions/{version}");
  assert.deepEqual(await offered(model, "model", ""), { values: ["broken", "pair", "tiny"], total: 3, hasMore: false });
  assert.deepEqual(await offered(model, "model", "ti"), { values: ["tiny"], total: 1, hasMore: false });
  assert.deepEqual((await offered(version, "version", "", { model: "tiny" })).values, ["2", "1"]);
  assert.deepEqual((await offered(version, "version", "", { model: "pair" })).values, ["1"]);
  assert.deepEqual((await offered(version, "version", "")).values, []);
  assert.deepEqual((await offered(template("switchyard://hosts/{id}"), "id", "h")).values, ["host-1"]);

  const mine = await jobs.submit(submission, localCaller);
  const failed = await jobs.submit(submission, localCaller);
  await jobs.submit(submission, berta);
  jobs.end(failed.record.id, "expired");
  const job = template("switchyard://jobs/{id}");
  assert.deepEqual(new Set((await offered(job, "id", "")).values), new Set([mine.record.id, failed.record.id]));
  const explain: Ref = { type: "ref/prompt", name: "explain_failed_job" };
  assert.deepEqual(await offered(explain, "job_id", ""), { values: [failed.record.id], total: 1, hasMore: false });
  assert.deepEqual((await offered({ type: "ref/prompt", name: "choose_model" }, "task", "a")).values, []);

  await assert.rejects(offered(template("switchyard://models/{x}"), "x", ""), { code: -32602, message: /ref\/uri: expected one of/ });
  await assert.rejects(offered(explain, "id", ""), { code: -32602, message: /argument\/name/ });
  await assert.rejects(offered({ type: "ref/prompt", name: "nothing" }, "x", ""), { code: -32602 });
});

inBothRevisions(
  "completion offers a key nothing that it may not use",
  async (client) => {
    const offered = async (uri: string, name: string, given?: Record<string, string>) => {
      const asked = { ref: { type: "ref/resource" as const, uri }, argument: { name, value: "" } };
      return (await client.complete({ ...asked, ...(given && { context: { arguments: given } }) })).completion.values;
    };
    assert.deepEqual(await offered("switchyard://models/{model}", "model"), ["tiny"]);
    assert.deepEqual(await offered("switchyard://models/{model}/versions/{version}", "version", { model: "pair" }), []);
    assert.deepEqual(await offered("switchyard://hosts/{id}", "id"), []);
    assert.deepEqual(await offered("switchyard://jobs/{id}", "id"), []);
  },
  { ...anna, scopes: new Set(["submit"]), models: new Set(["tiny"]) },
);

test("more than a hundred values are cut, with how many there are", async (t) => {
  const { models, parts } = fakeDoorParts();
  const jobs = new OwnedJobs(models);
  const face = mcpFace({ ...parts, jobs });
  t.after(() => face.close());
  for (let count = 0; count < 150; count++) await jobs.submit(submission, anna);
  const client = await face.modern(anna);
  const ref = { type: "ref/resource" as const, uri: "switchyard://jobs/{id}" };
  const { completion } = await client.complete({ ref, argument: { name: "id", value: "" } });
  assert.deepEqual([completion.values.length, completion.total, completion.hasMore], [100, 150, true]);
});
