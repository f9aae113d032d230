/** Sessions of the protocol's earlier revisions where several coordinators share an address: a client's next request comes to any of them. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { newIncarnation } from "@switchyard/protocol/redis";
import { KeyedAccess } from "../../coordinator/src/application/access.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { connectMcp } from "../support/mcp-client.ts";
import { type OpenDoor, openDoor, tinyScores } from "../support/open-door.ts";
import { until } from "../support/until.ts";

type Place = { host: string; port: number };
const image = [[1, 2, 3, 4]];
const params = { name: "infer_tiny", arguments: { inputs: { image } } };
const legacyHeaders = { accept: "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25" };

interface Siblings {
  /** Has the sessions. */
  first: OpenDoor;
  /** Is asked for them. */
  second: OpenDoor;
  places: Map<string, Place>;
  /** Of `first`. */
  name: string;
}

async function openSiblings(t: TestContext, more: Parameters<typeof openDoor>[2] = {}): Promise<Siblings> {
  const places = new Map<string, Place>();
  const placeOf = async (name: string): Promise<Place | undefined> => places.get(name);
  const [name, other] = [newIncarnation(), newIncarnation()];
  const first = await openDoor(t, {}, { ...more, siblings: { me: name, placeOf } });
  const second = await openDoor(t, {}, { ...more, siblings: { me: other, placeOf } });
  places.set(name, await first.server.listenAlone());
  places.set(other, await second.server.listenAlone());
  return { first, second, places, name };
}

function post(door: OpenDoor, message: object, headers: Record<string, string> = {}, signal?: AbortSignal): Promise<Response> {
  return fetch(`${door.url}/mcp`, {
    method: "POST",
    headers: { ...legacyHeaders, "content-type": "application/json", ...headers },
    body: JSON.stringify({ jsonrpc: "2.0", ...message }),
    ...(signal && { signal }),
  });
}

async function openSession(door: OpenDoor, headers: Record<string, string> = {}): Promise<Record<string, string>> {
  const params = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "test", version: "1" } };
  const response = await post(door, { id: "initialize", method: "initialize", params }, headers);
  await response.text();
  assert.equal(response.status, 200);
  return { ...headers, "mcp-session-id": response.headers.get("mcp-session-id")! };
}

/** Each request to the other door than the last one. */
function inTurns({ first, second }: Siblings): typeof fetch {
  let count = 0;
  return (url, init) => fetch(String(url).replace(first.url, [first, second][count++ % 2]!.url), init);
}

test("a client whose requests come to two coordinators in turn notices nothing", async (t) => {
  const siblings = await openSiblings(t);
  const { first } = siblings;
  const client = await connectMcp(t, first.url, { era: "legacy", fetch: inTurns(siblings) });
  for (let round = 0; round < 4; round++) {
    const { tools } = await client.listTools();
    assert.ok(tools.some(({ name }) => name === "infer_tiny"));
  }
  assert.equal(siblings.second.logged.filter(({ event }) => event === "request_failed").length, 0);
});

test("an answer comes through a sibling as it is, with the id of the request and as a stream", async (t) => {
  const { first, second } = await openSiblings(t);
  const session = await openSession(first);
  const answer = await post(second, { id: 7, method: "tools/call", params }, { ...session, "x-request-id": "mine" });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get("content-type"), "text/event-stream");
  assert.equal(answer.headers.get("x-request-id"), "mine");
  await until("the job", async () => first.jobs.submissions.length === 1);
  assert.equal(second.jobs.submissions.length, 0);
  const [job] = (await first.jobs.list({ limit: 1 })).jobs;
  first.jobs.end(job!.id, "succeeded", { outputs: tinyScores() });
  assert.match(await answer.text(), /"id":7/);

  const ended = await fetch(`${second.url}/mcp`, { method: "DELETE", headers: { ...legacyHeaders, ...session } });
  assert.equal(ended.status, 200);
  assert.equal((await post(first, { id: 8, method: "tools/list" }, session)).status, 404, "it was the session itself that ended");
});

test("a stream that broke at one coordinator is taken up at the other", async (t) => {
  const { first, second } = await openSiblings(t);
  const session = await openSession(first);
  const leave = new AbortController();
  const broken = await post(second, { id: 1, method: "tools/call", params }, session, leave.signal);
  const reader = broken.body!.pipeThrough(new TextDecoderStream()).getReader();
  let begun = "";
  while (!/^id: \S+\n/m.test(begun)) begun += (await reader.read()).value;
  const [, lastEventId] = /^id: (\S+)$/m.exec(begun)!;
  await until("the job", async () => first.jobs.submissions.length === 1);
  leave.abort();
  const resumed = await until("the stream", async () => {
    const response = await fetch(`${second.url}/mcp`, { headers: { ...legacyHeaders, ...session, "last-event-id": lastEventId! } });
    return response.status === 200 && response;
  });
  const [job] = (await first.jobs.list({ limit: 1 })).jobs;
  first.jobs.end(job!.id, "succeeded", { outputs: tinyScores() });
  const text = await resumed.text();
  assert.match(text, /"id":1/);
  assert.match(text, /0\.125/);
});

test("a stream without end ends when the coordinator that hands it on leaves, and the session goes on", async (t) => {
  const { first, second } = await openSiblings(t);
  const session = await openSession(first);
  const stream = await fetch(`${second.url}/mcp`, { headers: { ...legacyHeaders, ...session } });
  assert.equal(stream.status, 200);
  second.server.endWaits();
  await assert.doesNotReject(Promise.race([stream.text().catch(() => {}), rejectedIn(5_000)]));
  const answer = await post(first, { id: 1, method: "tools/list" }, session);
  assert.equal(answer.status, 200);
  await answer.text();
});

const rejectedIn = (ms: number): Promise<never> =>
  new Promise((_, reject) => setTimeout(() => reject(new Error(`not within ${ms} ms`)), ms).unref());

test("a session whose coordinator has gone is told as one that is not known", async (t) => {
  const { first, places, name, second } = await openSiblings(t);
  const session = await openSession(first);
  const isUnknown = async (why: string): Promise<void> => {
    const answer = await post(second, { id: 1, method: "tools/list" }, session);
    assert.equal(answer.status, 404, why);
    assert.equal(((await answer.json()) as { error: { code: number } }).error.code, -32_001, why);
  };
  places.set(name, { host: "127.0.0.1", port: 1 });
  await isUnknown("nobody listens there any more");
  places.delete(name);
  await isUnknown("nobody says where it is");
});

test("what a sibling is asked it asks the caller's key for, as if it had been asked itself", async (t) => {
  const keys = ["a", "b"].map((id) => ({ id, tenant: id, weight: 1, scopes: new Set(["submit", "read"]) }));
  const ring = { find: (secret: string) => keys.find(({ id }) => id === secret), all: () => keys };
  const access = new KeyedAccess({ keys: ring as never, hosts: { isHost: async () => false }, clock: systemClock });
  const { first, second } = await openSiblings(t, { access });
  const session = await openSession(first, { authorization: "Bearer a" });
  const status = async (authorization: string): Promise<number> => {
    const answer = await post(second, { id: 1, method: "tools/list" }, { ...session, authorization });
    await answer.text();
    return answer.status;
  };
  assert.deepEqual([await status("Bearer a"), await status("Bearer b"), await status("Bearer c")], [200, 404, 401]);
});
