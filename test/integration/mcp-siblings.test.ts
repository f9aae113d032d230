/** Sessions of the protocol's earlier revisions where several coordinators share an address: a client's next request comes to any of them. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync, statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { Agent, type IncomingMessage, request } from "node:http";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { newIncarnation } from "@switchyard/protocol/redis";
import { KeyedAccess } from "../../coordinator/src/application/access.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { createHttpServer } from "../../coordinator/src/doors/http-server.ts";
import { SiblingDoors } from "../../coordinator/src/doors/sibling-doors.ts";
import { connectMcp } from "../support/mcp-client.ts";
import { firstEventId, legacyHeaders, openSession, postMessage } from "../support/mcp-sessions.ts";
import { fakeDoorParts, type OpenDoor, openDoor, tinyScores } from "../support/open-door.ts";
import { until } from "../support/until.ts";

const image = [[1, 2, 3, 4]];
const params = { name: "infer_tiny", arguments: { inputs: { image } } };

interface Siblings {
  /** Has the sessions. */
  first: OpenDoor;
  /** Is asked for them. */
  second: OpenDoor;
  /** Of `first`, for those who ask it alone. */
  socket: string;
}

async function openSiblings(t: TestContext, more: Parameters<typeof openDoor>[2] = {}): Promise<Siblings> {
  const folder = await mkdtemp(path.join(tmpdir(), "doors-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const [one, other] = [new SiblingDoors(folder, newIncarnation()), new SiblingDoors(folder, newIncarnation())];
  const first = await openDoor(t, {}, { ...more, siblings: one });
  const second = await openDoor(t, {}, { ...more, siblings: other });
  await first.server.listenAlone(await one.prepare());
  await second.server.listenAlone(await other.prepare());
  return { first, second, socket: one.of(one.me)! };
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
  const answer = await postMessage(second, { id: 7, method: "tools/call", params }, { ...session, "x-request-id": "mine" });
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
  assert.equal((await postMessage(first, { id: 8, method: "tools/list" }, session)).status, 404, "it was the session itself that ended");
});

test("a stream that broke at one coordinator is taken up at the other", async (t) => {
  const { first, second } = await openSiblings(t);
  const session = await openSession(first);
  const leave = new AbortController();
  const broken = await postMessage(second, { id: 1, method: "tools/call", params }, session, leave.signal);
  const lastEventId = await firstEventId(broken);
  await until("the job", async () => first.jobs.submissions.length === 1);
  leave.abort();
  const resumed = await until("the stream", async () => {
    const response = await fetch(`${second.url}/mcp`, { headers: { ...legacyHeaders, ...session, "last-event-id": lastEventId } });
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
  await Promise.race([stream.text(), rejectedIn(5_000)]); // it ends, and is not cut
  const answer = await postMessage(first, { id: 1, method: "tools/list" }, session);
  assert.equal(answer.status, 200);
  await answer.text();
});

const rejectedIn = (ms: number): Promise<never> =>
  new Promise((_, reject) => setTimeout(() => reject(new Error(`not within ${ms} ms`)), ms).unref());

/** Leaves a socket behind, as a process does that is killed. */
function killedAt(socket: string): void {
  const program = `require("net").createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, "SIGKILL"))`;
  assert.equal(spawnSync(process.execPath, ["-e", program]).signal, "SIGKILL");
}

test("a session whose coordinator has gone is told as one that is not known", async (t) => {
  const { first, second, socket } = await openSiblings(t);
  const session = await openSession(first);
  const isUnknown = async (id: string, why: string): Promise<void> => {
    const answer = await postMessage(second, { id: 1, method: "tools/list" }, { "mcp-session-id": id });
    assert.equal(answer.status, 404, why);
    assert.equal(((await answer.json()) as { error: { code: number } }).error.code, -32_001, why);
  };
  await rm(socket);
  await isUnknown(session["mcp-session-id"]!, "it has ended in order");
  killedAt(socket);
  await isUnknown(session["mcp-session-id"]!, "it was killed, and left its socket");
  for (const id of [`${newIncarnation()}.1`, "../../x.1", "none"]) await isUnknown(id, id);
});

test("what a sibling is asked it asks the caller's key for, as if it had been asked itself", async (t) => {
  const keys = ["a", "b"].map((id) => ({ id, tenant: id, weight: 1, scopes: new Set(["submit", "read"]) }));
  const ring = { find: (secret: string) => keys.find(({ id }) => id === secret), all: () => keys };
  const access = new KeyedAccess({ keys: ring as never, hosts: { isHost: async () => false }, clock: systemClock });
  const { first, second } = await openSiblings(t, { access });
  const session = await openSession(first, { authorization: "Bearer a" });
  const status = async (authorization: string): Promise<number> => {
    const answer = await postMessage(second, { id: 1, method: "tools/list" }, { ...session, authorization });
    await answer.text();
    return answer.status;
  };
  assert.deepEqual([await status("Bearer a"), await status("Bearer b"), await status("Bearer c")], [200, 404, 401]);
});

test("a coordinator that closes answers first what was handed on to it, and its session is there until then", async (t) => {
  const { first, second } = await openSiblings(t);
  const session = await openSession(first);
  const answer = await postMessage(second, { id: 7, method: "tools/call", params }, session);
  await until("the job", async () => first.jobs.submissions.length === 1);
  let isClosed = false;
  const closed = first.server.close().then(() => {
    isClosed = true;
  });
  await sleep(300);
  assert.equal(isClosed, false);
  const cancelled = await postMessage(second, { method: "notifications/cancelled", params: { requestId: 99 } }, session);
  assert.notEqual(cancelled.status, 404, "while it closes it can be asked");
  await cancelled.text();
  const [job] = (await first.jobs.list({ limit: 1 })).jobs;
  first.jobs.end(job!.id, "succeeded", { outputs: tinyScores() });
  assert.match(await answer.text(), /0\.125/);
  await Promise.race([closed, rejectedIn(5_000)]);
});

test("a coordinator that closes answers first the calls that are under way, by whichever of its sockets they came", async (t) => {
  const { server, jobs, ...door } = await openDoor(t);
  const session = await openSession(door);
  const calls = 48; // each on a connection of its own
  const answers = Array.from({ length: calls }, async (_, id) =>
    (await postMessage(door, { id, method: "tools/call", params }, session)).text(),
  );
  await until("the jobs", async () => jobs.submissions.length === calls);
  let isClosed = false;
  const closed = server.close().then(() => {
    isClosed = true;
  });
  await sleep(200);
  for (let more = 0; more < 40; more++) {
    const [error] = await once(connect(door.port, "127.0.0.1"), "error");
    assert.equal(error.code, "ECONNREFUSED", "nobody else comes");
  }
  for (const { id } of (await jobs.list({ limit: calls })).jobs) {
    assert.equal(isClosed, false);
    jobs.end(id, "succeeded", { outputs: tinyScores() });
    await sleep(5);
  }
  for (const answer of await Promise.all(answers)) assert.match(answer, /0\.125/);
  await Promise.race([closed, rejectedIn(5_000)]);
});

test("a coordinator that hands a call on waits for it when it closes, and then for nothing else", async (t) => {
  const { first, second } = await openSiblings(t);
  const session = await openSession(first);
  const agent = new Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  const headers = { ...legacyHeaders, ...session, "content-type": "application/json" };
  const asked = request(`${second.url}/mcp`, { method: "POST", agent, headers });
  asked.end(JSON.stringify({ jsonrpc: "2.0", id: 7, method: "tools/call", params }));
  const [answer] = (await once(asked, "response")) as [IncomingMessage];
  await until("the job", async () => first.jobs.submissions.length === 1);
  let isClosed = false;
  second.drain();
  const closed = second.server.close().then(() => {
    isClosed = true;
  });
  await sleep(300);
  assert.equal(isClosed, false);
  const [job] = (await first.jobs.list({ limit: 1 })).jobs;
  first.jobs.end(job!.id, "succeeded", { outputs: tinyScores() });
  assert.match(await text(answer), /0\.125/);
  await Promise.race([closed, rejectedIn(2_000)]);
});

test("a body that is refused is refused as by the coordinator itself, and the connection goes on", async (t) => {
  const { first, second } = await openSiblings(t);
  const session = await openSession(first);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  const send = async (id: string, bytes: number): Promise<number> => {
    const headers = { ...legacyHeaders, "mcp-session-id": id, "content-type": "application/json", "content-length": bytes };
    const asked = request(`${second.url}/mcp`, { method: "POST", agent, headers });
    asked.on("error", () => {});
    asked.end(Buffer.alloc(bytes, " "));
    const [answer] = (await Promise.race([once(asked, "response"), rejectedIn(5_000)])) as [IncomingMessage];
    await text(answer);
    return answer.statusCode!;
  };
  const itself = await postMessage(first, { id: 1, method: "tools/list", padding: " ".repeat(3_000_000) }, session);
  await itself.text();
  assert.equal(itself.status, 413);
  assert.equal(await send(session["mcp-session-id"]!, 3_000_000), 413);
  const nobody = `${newIncarnation()}.1`;
  assert.deepEqual([await send(nobody, 700_000), await send(nobody, 700_000), await send(nobody, 1)], [404, 404, 404]);
});

test("a client that goes away in the midst of a call takes its stream along, and the session goes on", async (t) => {
  const { first, second } = await openSiblings(t);
  const session = await openSession(first);
  for (let round = 0; round < 5; round++) {
    const leave = new AbortController();
    const answer = await postMessage(second, { id: round, method: "tools/call", params }, session, leave.signal);
    await until("the job", async () => first.jobs.submissions.length === round + 1);
    leave.abort();
    await assert.rejects(answer.text());
  }
  const answer = await postMessage(second, { id: 9, method: "tools/list" }, session);
  assert.match(await answer.text(), /infer_tiny/);
  assert.deepEqual(
    second.logged.filter(({ event }) => event === "request_failed"),
    [],
  );
});

test("who asks a coordinator alone before it listens for all is answered", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "doors-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const doors = new SiblingDoors(folder, newIncarnation());
  const server = createHttpServer(fakeDoorParts().parts);
  t.after(() => server.close());
  const socketPath = await doors.prepare();
  await server.listenAlone(socketPath);
  const asked = request({ socketPath, path: "/livez" }).end();
  const [answer] = (await once(asked, "response")) as [IncomingMessage];
  assert.equal(answer.statusCode, 200);
  answer.resume();
  asked.destroy();
});

test("what a client sends behind a request without a body is no request to the sibling", async (t) => {
  const { first, second } = await openSiblings(t);
  const session = await openSession(first);
  const inner = "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
  const heads = Object.entries({ host: `127.0.0.1:${second.port}`, ...legacyHeaders, ...session }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  const chunked = `transfer-encoding: chunked\r\n\r\n${inner.length.toString(16)}\r\n${inner}\r\n0\r\n\r\n`;
  const named = `connection: content-length\r\ncontent-length: ${inner.length}\r\n\r\n${inner}`;
  for (const body of [chunked, named]) await second.raw(`GET /mcp HTTP/1.1\r\n${heads.join("")}${body}`, /\r\n\r\n/);
  for (const body of [chunked, named]) await second.raw(`DELETE /mcp HTTP/1.1\r\n${heads.join("")}${body}`, /\r\n\r\n/);
  assert.doesNotMatch(await first.metricsText(), /route="\/livez"/);
  assert.match(await first.metricsText(), /route="\/mcp",method="DELETE"/);
});

test("a coordinator that leaves says so to who comes with a session of a sibling's", async (t) => {
  const { first, second } = await openSiblings(t);
  const session = await openSession(first);
  second.drain();
  second.server.endWaits();
  const answer = await fetch(`${second.url}/mcp`, { headers: { ...legacyHeaders, ...session } });
  assert.equal(answer.status, 503);
  assert.match(await answer.text(), /shutting down/);
});

test("the folder of the sockets is its user's alone, what killed coordinators left in it goes, and a path that is too long is told", async (t) => {
  const data = await mkdtemp(path.join(tmpdir(), "doors-"));
  t.after(() => rm(data, { recursive: true, force: true }));
  const left = new SiblingDoors(data, newIncarnation());
  const lives = new SiblingDoors(data, newIncarnation());
  for (const doors of [left, lives]) await doors.prepare();
  killedAt(left.of(left.me)!);
  const living = createServer().listen(lives.of(lives.me)!);
  t.after(() => living.close());
  await once(living, "listening");
  await new SiblingDoors(data, newIncarnation()).prepare();
  assert.deepEqual(readdirSync(path.join(data, "doors")), [lives.me]);
  assert.equal(statSync(path.join(data, "doors")).mode & 0o777, 0o700);
  assert.equal(SiblingDoors.mistake(data), undefined);
  assert.match(SiblingDoors.mistake(`/${"long/".repeat(20)}`)!, /too long .* choose a shorter --data/);
  await assert.rejects(new SiblingDoors(`/${"long/".repeat(20)}`, newIncarnation()).prepare(), /too long/);
});

test("a coordinator that dies in the midst of what was handed on to it breaks the client's connection, which is not told that there is no session", async (t) => {
  const { second, socket } = await openSiblings(t);
  const dies = path.join(path.dirname(socket), newIncarnation());
  for (const words of ["", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n"]) {
    const dying = createServer((asked) => void asked.once("data", () => asked.write(words, () => asked.destroy())));
    t.after(() => dying.close());
    await once(dying.listen(dies), "listening");
    const session = { "mcp-session-id": `${path.basename(dies)}.1` };
    const answer = postMessage(second, { id: 1, method: "tools/call", params }, session).then((came) => came.text());
    await assert.rejects(answer, TypeError);
    dying.close();
    assert.equal((await postMessage(second, { id: 2, method: "tools/list" }, session)).status, 404, "once it is gone");
  }
});
