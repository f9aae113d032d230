/** Sessions of the protocol's earlier revisions, as a client without a library has them: streams that break, readers that are slow, limits. */

import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { resourceUris } from "../../coordinator/src/doors/mcp/resource-uris.ts";
import { send } from "../support/mcp-client.ts";
import { firstEventId, initialize, legacyHeaders, openSession, postMessage } from "../support/mcp-sessions.ts";
import { openDoor, tinyScores } from "../support/open-door.ts";
import { until } from "../support/until.ts";

const image = [[1, 2, 3, 4]];

test("a call whose stream broke is taken up where it was, while it goes on", async (t) => {
  const door = await openDoor(t);
  const session = await openSession(door);
  const leave = new AbortController();
  const params = { name: "infer_tiny", arguments: { inputs: { image } } };
  const broken = await postMessage(door, { id: 1, method: "tools/call", params }, session, leave.signal);
  const lastEventId = await firstEventId(broken);
  await until("the job", async () => door.jobs.submissions.length === 1);
  leave.abort();
  const startedMs = performance.now();
  const resume = () => fetch(`${door.url}/mcp`, { headers: { ...legacyHeaders, ...session, "last-event-id": lastEventId } });
  const statuses: number[] = [];
  const resumed = await until(
    "the stream",
    async () => {
      const response = await resume();
      statuses.push(response.status);
      return response.status === 200 && response;
    },
    { withinMs: 10_000, show: () => String(statuses) },
  );
  assert.ok(performance.now() - startedMs < 10_000, "its headers come before anything else");
  assert.deepEqual(door.jobs.cancelled, [], "in this era only a cancellation cancels");
  const [job] = (await door.jobs.list({ limit: 1 })).jobs;
  door.jobs.end(job!.id, "succeeded", { outputs: tinyScores() });
  const text = await resumed.text();
  assert.match(text, /"id":1/);
  assert.match(text, /0\.125/);
});

test("what a reader leaves unread is bounded, and a reader that is too slow is dropped", async (t) => {
  const door = await openDoor(t);
  const { record } = await door.jobs.submit({ model: "tiny", request: { inputs: [], parameters: {}, binaryDefault: false }, hold: false });
  const values = 60_000;
  const outputs = [{ name: "scores", datatype: "FP32" as const, shape: [values / 3, 3], bytes: new Uint8Array(values * 4).fill(0x3e) }];
  door.jobs.end(record.id, "succeeded", { outputs });
  let answered = 0;
  const { outputs: outputsOf } = door.jobs;
  door.jobs.outputs = (of) => {
    answered++;
    return outputsOf.call(door.jobs, of);
  };
  const session = await openSession(door);
  const many = 100; // some 40 MB
  const params = { uri: resourceUris.output(record.id) };
  const body = JSON.stringify(Array.from({ length: many }, (_, id) => ({ jsonrpc: "2.0", id, method: "resources/read", params })));
  const headers = Object.entries({
    ...legacyHeaders,
    ...session,
    "mcp-protocol-version": "2025-03-26",
    "content-type": "application/json",
  });
  const socket = connect(door.port, "127.0.0.1");
  t.after(() => socket.destroy());
  const lines = [...headers.map((header) => header.join(": ")), "host: 127.0.0.1", `content-length: ${body.length}`];
  socket.write(`POST /mcp HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n${body}`);
  socket.pause();
  await until("all answers", async () => answered >= many, { withinMs: 60_000 });
  await sleep(500); // the last of them is being made
  let chars = 0;
  socket.on("data", (chunk: Buffer) => {
    chars += chunk.length;
  });
  socket.on("error", () => {}); // that it is dropped
  socket.resume();
  await until("all, or the end", async () => socket.closed || chars > many * values * 5, { withinMs: 60_000 });
  assert.ok(chars < many * values * 3, `${chars} bytes came`);
  const next = await postMessage(door, { id: "next", method: "ping" }, session);
  assert.match(await next.text(), /"result":\{\}/, "its session goes on");
});

test("where a key has too many subscriptions a session is refused as such, and no failure is logged", async (t) => {
  const door = await openDoor(t);
  const over = new AbortController();
  t.after(() => over.abort());
  const streams: Response[] = []; // one that is forgotten is ended when its memory is collected
  for (let count = 0; count < 200; count++) {
    const listen = { method: "subscriptions/listen", params: { notifications: { toolsListChanged: true } }, signal: over.signal };
    streams.push(await send(door.url, listen));
  }
  assert.ok(streams.every(({ status }) => status === 200));
  const refused = await initialize(door);
  assert.equal(refused.status, 429, `with ${streams.length} streams`);
  const { error } = await refused.json();
  assert.deepEqual([refused.status, error.data.code], [429, "rate_limited"]);
  assert.match(error.message, /200 for one key/);
  assert.ok(Number(refused.headers.get("retry-after")) >= 1);
  assert.deepEqual(door.logged, []);
});
