/** Subscriptions of the Model Context Protocol as its own client holds them, in both revisions. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Client } from "@modelcontextprotocol/client";
import { type Caller, localCaller } from "../../coordinator/src/application/caller.ts";
import { resourceUris } from "../../coordinator/src/doors/mcp/resource-uris.ts";
import type { ModelStatus } from "../../coordinator/src/ports/model-registry.ts";
import { fakeModels } from "../support/fake-job-service.ts";
import { envelope, type McpFace, mcpFace } from "../support/mcp-resources.ts";
import { fakeDoorParts } from "../support/open-door.ts";
import { OwnedJobs } from "../support/owned-jobs.ts";
import { until } from "../support/until.ts";

const anna: Caller = { ...localCaller, tenant: "anna", keyId: "anna-1" };
const berta: Caller = { ...localCaller, tenant: "berta", keyId: "berta-1" };
const request = { inputs: [], parameters: {}, binaryDefault: false };
const submission = { model: "tiny", version: 1, request, hold: false };

const listRequest = {
  jsonrpc: "2.0",
  id: 1,
  method: "subscriptions/listen",
  params: { _meta: envelope, notifications: { toolsListChanged: true } },
};

function open(t: TestContext, streams: Parameters<typeof mcpFace>[1] = {}) {
  const { models, parts } = fakeDoorParts();
  const jobs = new OwnedJobs(models);
  const face = mcpFace({ ...parts, jobs }, streams);
  t.after(() => face.close());
  const addModel = (): void => void (models.list() as ModelStatus[]).push(...newcomer.list());
  return { addModel, face, jobs };
}

const newcomer = fakeModels([{ model: "newcomer", version: 1, signature: { inputs: [], outputs: [] } }]);

/** A place that one caller may have taken two hundred times. */
function subscribe(face: McpFace): void {
  face.changes.open({ caller: anna, isAllowed: () => true, lists: new Set(), tell() {}, end() {} });
}

function mayStill(run: () => void): boolean {
  try {
    run();
    return true;
  } catch {
    return false;
  }
}

/** What the client is told, as it comes. */
function notesOf(client: Client): string[] {
  const heard: string[] = [];
  client.setNotificationHandler("notifications/resources/updated", ({ params }) => void heard.push(params.uri));
  for (const list of ["tools", "prompts", "resources"] as const) {
    client.setNotificationHandler(`notifications/${list}/list_changed`, () => void heard.push(list));
  }
  return heard;
}

test("a stream hears of the lists that it asked for and of the jobs that are the caller's, and its acknowledgement names no other", async (t) => {
  const { addModel, face, jobs } = open(t);
  const mine = resourceUris.job((await jobs.submit(submission, anna)).record.id);
  const { record: others } = await jobs.submit(submission, berta);
  const theirs = resourceUris.job(others.id);
  const client = await face.modern(anna);
  const heard = notesOf(client);
  const stream = await client.listen({ toolsListChanged: true, resourceSubscriptions: [mine, theirs, "switchyard://nothing", mine] });
  assert.deepEqual(stream.honoredFilter, { toolsListChanged: true, resourceSubscriptions: [mine] });

  const owner = await face.modern(berta);
  const heardByOwner = notesOf(owner);
  await owner.listen({ resourceSubscriptions: [theirs] });
  jobs.start(others.id);
  await until("the owner hears", async () => heardByOwner.length > 0);
  addModel();
  jobs.start(mine.split("/").at(-1)!);
  await until("the list and the job are told", async () => heard.length >= 2);
  assert.deepEqual(heard.sort(), ["tools", mine].sort());
  assert.deepEqual(heardByOwner, [theirs]);

  await stream.close();
  assert.equal(await stream.closed, "local");
  jobs.end(mine.split("/").at(-1)!, "succeeded");
  jobs.end(others.id, "succeeded");
  await until("the owner hears again", async () => heardByOwner.length > 1);
  assert.equal(heard.length, 2);
});

test("a stream that may follow nothing of what it asked for is acknowledged so, and ends", async (t) => {
  const { face, jobs } = open(t);
  const theirs = resourceUris.job((await jobs.submit(submission, berta)).record.id);
  const client = await face.modern(anna);
  const stream = await client.listen({ resourceSubscriptions: [theirs] });
  assert.deepEqual(stream.honoredFilter, {});
  assert.equal(await stream.closed, "graceful");
});

test("a stream ends in order when its key is no longer good, and when the coordinator ends", async (t) => {
  const { face } = open(t);
  let isAllowed = true;
  const revoked = await (await face.modern(anna, () => isAllowed)).listen({ toolsListChanged: true });
  const kept = await (await face.modern(anna)).listen({ toolsListChanged: true });
  assert.deepEqual(
    [revoked, kept].map(({ honoredFilter }) => honoredFilter),
    [{ toolsListChanged: true }, { toolsListChanged: true }],
  );
  isAllowed = false;
  assert.equal(await revoked.closed, "graceful");
  face.changes.close();
  assert.equal(await kept.closed, "graceful");
});

test("a request to listen that is not well formed is refused in the protocol's words", async (t) => {
  const { face } = open(t);
  const ask = async (params: object) => {
    const answer = await face.ask({ jsonrpc: "2.0", id: 7, method: "subscriptions/listen", params: { _meta: envelope, ...params } }, anna);
    return (await answer.json()) as { id: number; error: { code: number; message: string } };
  };
  for (const params of [{}, { notifications: 1 }, { notifications: { resourceSubscriptions: "switchyard://models" } }]) {
    const { error, id } = await ask(params);
    assert.deepEqual([id, error.code], [7, -32602], JSON.stringify(params));
  }
  const many = Array.from({ length: 101 }, (_, at) => `switchyard://models/m${at}`);
  const { error } = await ask({ notifications: { resourceSubscriptions: many } });
  assert.deepEqual([error.code, error.message], [-32602, "one stream follows at most 100 resources"]);
  for (let count = 0; count < 200; count++) subscribe(face);
  const full = await ask({ notifications: { toolsListChanged: true } });
  assert.deepEqual([full.error.code, full.error.message], [-32603, "Subscription limit reached: 200 for one key"]);
});

test("a reader that reads nothing is dropped, and its subscription with it", async (t) => {
  const { face } = open(t, { keepAliveMs: 1, maxBehindBytes: 2_048 });
  const answer = await face.ask(listRequest, anna);
  assert.equal(answer.headers.get("content-type"), "text/event-stream");
  for (let count = 1; count < 200; count++) subscribe(face);
  assert.throws(() => subscribe(face), { code: "rate_limited" });
  await until("it is dropped", async () => mayStill(() => subscribe(face)));
  await assert.rejects(answer.text(), /too far behind/);
});

test("a reader that goes away leaves no subscription behind", async (t) => {
  const { face } = open(t);
  for (let count = 1; count < 200; count++) subscribe(face);
  const over = new AbortController();
  await face.ask(listRequest, anna, over.signal);
  assert.throws(() => subscribe(face), { code: "rate_limited" });
  over.abort();
  await until("its place is free", async () => mayStill(() => subscribe(face)));
});

test("a session subscribes, hears, and hears no more once it has unsubscribed", async (t) => {
  const { addModel, face, jobs } = open(t);
  const { record } = await jobs.submit(submission, anna);
  const { record: others } = await jobs.submit(submission, berta);
  const uri = resourceUris.job(record.id);
  const client = await face.legacy(anna);
  const heard = notesOf(client);
  await client.subscribeResource({ uri });
  for (const wrong of [resourceUris.job(others.id), "switchyard://nothing"]) {
    await assert.rejects(client.subscribeResource({ uri: wrong }), { code: -32602, data: { uri: wrong } });
  }
  jobs.start(record.id);
  jobs.start(others.id);
  await until("the job is told", async () => heard.length > 0);
  await client.unsubscribeResource({ uri });
  jobs.end(record.id, "succeeded");
  addModel();
  await until("the lists are told", async () => heard.length >= 3);
  assert.deepEqual(heard.toSorted(), ["resources", uri, "tools"]);
});

test("a session that is over leaves no subscription behind, and a coordinator that ends closes its sessions", async (t) => {
  const { face } = open(t);
  for (let count = 1; count < 200; count++) subscribe(face);
  const client = await face.legacy(anna);
  assert.throws(() => subscribe(face), { code: "rate_limited" });
  await client.close();
  await until("its place is free", async () => mayStill(() => subscribe(face)));
  const other = await face.legacy(berta);
  const closed = new Promise<void>((resolve) => {
    other.onclose = resolve;
  });
  face.changes.close();
  await closed;
});
