/** What becomes of calls of tools when something fails between us and the server, or while they wait. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream } from "node:stream/web";
import { describe, type TestContext, test } from "node:test";
import { SwitchyardError } from "@switchyard/protocol";
import { localCaller } from "../../coordinator/src/application/caller.ts";
import { fixture, httpServer, toolRig } from "../support/tool-rig.ts";
import { until } from "../support/until.ts";

/** What stands before a server: passes requests on, and answers calls of a tool as it is told after the server has had them. */
async function front(t: TestContext, upstream: string, answers: Record<string, { status: number; body?: string }>) {
  const calls: string[] = [];
  const http = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString();
    const { method, params } = (text === "" ? {} : JSON.parse(text)) as { method?: string; params?: { name?: string } };
    const tool = method === "tools/call" ? (params?.name ?? "") : undefined;
    if (tool !== undefined) calls.push(tool);
    const { connection: _c, host: _h, "content-length": _l, ...headers } = request.headers as Record<string, string>;
    const init = { method: request.method!, headers, ...(text !== "" && { body: text }) };
    const leaving = new AbortController();
    response.once("close", () => leaving.abort());
    const answer = await fetch(`${upstream}/mcp`, { ...init, signal: leaving.signal }).catch(() => undefined);
    if (answer === undefined) return void response.destroy();
    const instead = tool === undefined ? undefined : answers[tool];
    if (instead) {
      await answer.text();
      return void response.writeHead(instead.status).end(instead.body);
    }
    response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "text/plain" });
    if (answer.body === null) return void response.end();
    await pipeline(Readable.fromWeb(answer.body as ReadableStream), response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    http.closeAllConnections();
    http.close();
  });
  return { calls, url: `http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp` };
}

const near = { allowPrivate: ["127.0.0.1"], trust: "full", protocolEra: "modern" };

async function failureOf(called: Promise<unknown>): Promise<SwitchyardError> {
  const error = await called.then(
    (value) => assert.fail(`it answers ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof SwitchyardError, String(error));
  return error;
}

/** The protocol of 2025 over HTTP, with a session that it can forget. */
async function sessionServer(t: TestContext) {
  const seen = { sessions: 0, called: 0, known: "" };
  const answers: Record<string, () => unknown> = {
    initialize: () => ({ protocolVersion: "2025-06-18", capabilities: { tools: {} }, serverInfo: { name: "sessions", version: "1" } }),
    "tools/list": () => ({ tools: [{ name: "count", inputSchema: { type: "object" } }] }),
    "tools/call": () => ({ content: [{ type: "text", text: String(++seen.called) }] }),
  };
  const http = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    if (request.method !== "POST") return void response.writeHead(405).end();
    const { id, method } = JSON.parse(Buffer.concat(chunks).toString()) as { id?: number; method: string };
    if (method === "initialize") seen.known = `session-${++seen.sessions}`;
    else if (request.headers["mcp-session-id"] !== seen.known) return void response.writeHead(404).end();
    if (id === undefined) return void response.writeHead(202).end();
    response.writeHead(200, { "content-type": "application/json", "mcp-session-id": seen.known });
    response.end(JSON.stringify({ jsonrpc: "2.0", id, result: answers[method]?.() ?? {} }));
  });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    http.closeAllConnections();
    http.close();
  });
  return { seen, url: `http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp` };
}

const operator = { tenant: "t", weight: 1, scopes: new Set(["operate"] as const), keyId: "ops" };

/** Beside one another: most of their time is a server's silence. Those with the longest begin. */
describe("calls of tools when something fails", { concurrency: 4 }, () => {
  test("a server is not ended for one silent call while it may be at work on another", async (t) => {
    const rig = await toolRig(t);
    rig.configure({ a: fixture({ timeoutMs: 8_000 }) });
    await rig.ready("a");
    const pid = rig.text(await rig.call("a", "pid"));
    const hanging = failureOf(rig.call("a", "hang"));
    await new Promise((resolve) => setTimeout(resolve, 7_500)); // shortly before it is given up
    const working = rig.call("a", "block", { ms: 6_000 });
    assert.equal((await hanging).code, "expired");
    assert.equal(rig.text(await working), "done");
    assert.equal(rig.text(await rig.call("a", "pid")), pid, "it is the same process");
  });

  test("calls that wait hold so many bytes and are so many, also for a server that is not reached yet, and what ends is free again", async (t) => {
    const rig = await toolRig(t, { calls: 4, serverBytes: 100_000, allBytes: 150_000 });
    rig.configure({ mute: fixture({ env: { start: "hang" } }), other: fixture({ maxConcurrency: 1 }), b: fixture() });
    await rig.ready("other", "b");
    const text = "x".repeat(40_000);
    const leaving = new AbortController();
    const waiting = Array.from({ length: 2 }, () => failureOf(rig.call("mute", "echo", { text }, { signal: leaving.signal })));
    assert.equal((await failureOf(rig.call("mute", "echo", { text }))).code, "queue_full", "by bytes");
    waiting.push(...Array.from({ length: 2 }, () => failureOf(rig.call("mute", "echo", { text: "x" }, { signal: leaving.signal }))));
    assert.equal((await failureOf(rig.call("mute", "echo", { text: "x" }))).code, "queue_full", "by number");
    const slow = rig.call("other", "slow", { ms: 1_000 }, { signal: leaving.signal });
    await until("it to run", async () => rig.servers.get("other").slots.running === 1);
    const queued = failureOf(rig.call("other", "echo", { text }, { signal: leaving.signal }));
    const refused = await failureOf(rig.call("b", "echo", { text }));
    assert.match(refused.message, /Calls of MCP servers .* at most 150000 bytes/);
    assert.equal((await rig.call("b", "echo", { text: "x" })).isError, false, "small ones pass");
    leaving.abort();
    await failureOf(slow);
    assert.deepEqual(
      (await Promise.all([...waiting, queued])).map(({ code }) => code),
      ["cancelled", "cancelled", "cancelled", "cancelled", "cancelled"],
    );
    for (let round = 0; round < 6; round++) assert.equal((await rig.call("b", "echo", { text })).isError, false);
  });

  test("a server that never answers the first question is left when it is taken out of the configuration", async (t) => {
    const rig = await toolRig(t);
    rig.configure({ mute: fixture({ env: { start: "hang" } }) });
    const mute = rig.servers.get("mute");
    await until("it to be asked", async () => mute.view().state === "connecting");
    const startMs = performance.now();
    await mute.close();
    assert.ok(performance.now() - startMs < 8_000, "it was not waited for, which would be ten seconds");
  });

  test("how long a caller waits is no reason to end a server that is at work", async (t) => {
    const rig = await toolRig(t);
    rig.configure({ a: fixture({ timeoutMs: 20_000 }) });
    await rig.ready("a");
    const pid = rig.text(await rig.call("a", "pid"));
    const working = rig.call("a", "block", { ms: 7_000 });
    await until("it to run", async () => rig.servers.get("a").slots.running === 1);
    const hasty = [50, 75, 100, 125, 150].map((timeoutMs) => failureOf(rig.call("a", "echo", { text: "x" }, { timeoutMs })));
    for (const failure of hasty) assert.equal((await failure).code, "expired");
    assert.equal(rig.text(await working), "done");
    assert.equal(rig.text(await rig.call("a", "pid")), pid, "it is the same process");
  });

  test("a call that somebody on the way refuses after passing it on is sent once, and is said to have run perhaps", async (t) => {
    const rig = await toolRig(t);
    const rows = path.join(rig.folder, "rows");
    for (const status of [429, 500, 502, 503, 400]) {
      const { calls, url } = await front(t, await httpServer(t, { FIXTURE_ROWS: rows }), { add_row: { status } });
      rig.configure({ h: { ...near, url } });
      await rig.ready("h");
      const failure = await failureOf(rig.call("h", "add_row", { job: String(status), output: 1 }));
      assert.equal(failure.code, "tool_failed", `${status}: ${failure.message}`);
      assert.equal(failure.facts.extra?.may_have_run, true, String(status));
      assert.deepEqual(calls, ["add_row"]);
    }
    const written = readFileSync(rows, "utf8").trim().split("\n");
    assert.equal(written.length, 5, "each row is written once");
  });

  test("an error of the protocol leaves open whether the tool ran, unless it says that there is no such tool or argument", async (t) => {
    const rig = await toolRig(t);
    rig.configure({ m: fixture(), l: fixture({ protocolEra: "legacy", env: { era: "legacy" } }) });
    await rig.ready("m", "l");
    for (const server of ["m", "l"]) {
      for (const [code, mayHaveRun] of [
        [-32_603, true],
        [-32_000, true],
        [-32_602, false],
        [-32_601, false],
      ] as const) {
        const failure = await failureOf(rig.call(server, "refuse", { code }));
        assert.equal(failure.code, "tool_failed");
        assert.equal(failure.facts.extra?.may_have_run, mayHaveRun, `${server} ${code}: ${failure.message}`);
      }
    }
  });

  test("an error of the protocol that comes with a status of HTTP is read, too", async (t) => {
    const rig = await toolRig(t);
    const body = JSON.stringify({ jsonrpc: "2.0", id: null, error: { code: -32_601, message: "no such method" } });
    const { url } = await front(t, await httpServer(t), { echo: { status: 404, body }, wipe: { status: 404, body: "not here" } });
    rig.configure({ h: { ...near, url } });
    await rig.ready("h");
    const known = await failureOf(rig.call("h", "echo", { text: "x" }));
    assert.deepEqual([known.code, known.facts.extra?.may_have_run], ["tool_failed", false]);
    const unknown = await failureOf(rig.call("h", "wipe"));
    assert.deepEqual([unknown.code, unknown.facts.extra?.may_have_run], ["tool_failed", true]);
  });

  test("a request over HTTP that fails costs its own call, and not those of others on that server", async (t) => {
    const rig = await toolRig(t);
    const { url } = await front(t, await httpServer(t), { echo: { status: 503 }, add_row: { status: 500 }, wipe: { status: 429 } });
    rig.configure({ h: { ...near, url } });
    await rig.ready("h");
    const server = rig.servers.get("h");
    const other = rig.call("h", "slow", { ms: 1_500 });
    await until("it to run", async () => server.slots.running === 1);
    for (let round = 0; round < 3; round++) {
      await failureOf(rig.call("h", "echo", { text: "x" }));
      await failureOf(rig.call("h", "add_row", { job: "x", output: 1 }));
      await failureOf(rig.call("h", "wipe"));
    }
    assert.equal(rig.text(await other), "done");
    assert.deepEqual([server.view().losses, rig.state("h")], [0, "ready"]);
  });

  test("a call by a session that its server has forgotten is made once, by a new one", async (t) => {
    const rig = await toolRig(t);
    const { seen, url } = await sessionServer(t);
    rig.configure({ s: { ...near, url, protocolEra: "legacy" } });
    await rig.ready("s");
    assert.equal(rig.text(await rig.call("s", "count")), "1");
    seen.known = "another";
    assert.equal(rig.text(await rig.call("s", "count")), "2");
    assert.deepEqual([seen.sessions, rig.servers.get("s").view().losses], [2, 1]);
  });

  test("a consent that is taken back stops the calls that still wait for their turn", async (t) => {
    const rig = await toolRig(t);
    const rows = path.join(rig.folder, "rows");
    rig.configure({ a: fixture({ maxConcurrency: 1, env: { rows } }) });
    await rig.ready("a");
    const server = rig.servers.get("a");
    await rig.call("a", "add_row", { job: "before", output: 1 });
    const first = rig.call("a", "slow", { ms: 2_500 });
    await until("it to run", async () => server.slots.running === 1);
    const waiting = Promise.all([1, 2].map((job) => failureOf(rig.call("a", "add_row", { job: String(job), output: 1 }))));
    await until("them to wait", async () => server.slots.waiting === 2);
    await rig.desk.decide(server, server.tools.get("add_row")!, { decision: "deny", pin: undefined, caller: operator });
    assert.equal(rig.text(await first), "done");
    assert.deepEqual(
      (await waiting).map(({ code }) => code),
      ["forbidden", "forbidden"],
    );
    assert.equal(readFileSync(rows, "utf8").trim().split("\n").length, 1);
  });

  test("a call is repeated by the definition that it was made by, and by no other", async (t) => {
    const rig = await toolRig(t);
    const mark = path.join(rig.folder, "mark");
    rig.configure({ a: fixture({ env: { mark, turns: "yes" } }) });
    await rig.ready("a");
    const before = rig.servers.get("a").tools.get("crash_once")!.pin;
    const failure = await failureOf(rig.call("a", "crash_once"));
    assert.deepEqual([failure.code, failure.facts.extra?.may_have_run], ["tool_failed", true], failure.message);
    assert.notEqual(rig.servers.get("a").tools.get("crash_once")!.pin, before);
  });

  test("what is bound is read when the call has its turn", async (t) => {
    const rig = await toolRig(t);
    rig.configure({ a: fixture({ maxConcurrency: 1 }), asked: fixture({ trust: "none" }) });
    await rig.ready("a", "asked");
    let reads = 0;
    const complete = async (): Promise<Record<string, unknown>> => {
      reads++;
      return { text: "bound" };
    };
    const call = (server: string, tool = "echo") =>
      rig.calls.callTool({ server, tool, arguments: {}, complete, via: "test" }, localCaller, new AbortController().signal);
    assert.equal((await failureOf(call("asked"))).code, "consent_required");
    const slow = rig.call("a", "slow", { ms: 2_000 });
    await until("it to run", async () => rig.servers.get("a").slots.running === 1);
    const bound = call("a");
    await until("it to wait", async () => rig.servers.get("a").slots.waiting === 1);
    assert.equal(reads, 0);
    await slow;
    assert.deepEqual((await bound).structuredContent, { text: "bound" });
    assert.equal((await failureOf(call("a", "add_row"))).code, "invalid_request", "and it is checked");
  });
});

test("calls are counted by server and outcome, in the words of the trail, and timed where they went out", async (t) => {
  const rig = await toolRig(t, { calls: 2, serverBytes: 1_000, allBytes: 1_000 });
  rig.configure({
    works: fixture({ denyTools: ["wipe"] }),
    asks: fixture({ trust: "none" }),
    bad: fixture({ env: { start: "crash" }, restart: false }),
  });
  await rig.ready("works", "asks");
  const outcome = (...[server, tool, args, how]: Parameters<typeof rig.call>): Promise<string> =>
    rig.call(server, tool, args, how).then(
      ({ isError }) => (isError ? "tool_error" : "ok"),
      (error: SwitchyardError) => error.code,
    );
  const leaves = new AbortController();
  const left = outcome("works", "slow", { ms: 60_000 }, { signal: leaves.signal });
  const late = outcome("works", "hang", {}, { timeoutMs: 300 });
  const seen = [await outcome("works", "pid"), await late];
  leaves.abort();
  seen.push(await left, await outcome("works", "slow", { ms: 300 }), await outcome("works", "echo", { text: "hello" }));
  seen.push(await outcome("works", "fail"), await outcome("works", "refuse", { code: -32_602 }), await outcome("works", "wipe"));
  seen.push(await outcome("works", "echo", { text: 7 }), await outcome("works", "nothing"), await outcome("works", "crash"));
  assert.equal(await outcome("asks", "wipe"), "forbidden");
  assert.equal(await outcome("asks", "add_row", { job: "1", output: 1 }), "consent_required");
  assert.equal(await outcome("bad", "echo", { text: "hello" }), "tool_unavailable");

  const text = await rig.metrics.text();
  const counted = (name: string, server: string): Record<string, number> =>
    Object.fromEntries(
      [...text.matchAll(new RegExp(`^${name}\\{server="${server}",outcome="(\\w+)"\\} (\\d+)$`, "gm"))]
        .map(([, word, count]) => [word!, Number(count)] as const)
        .filter(([, count]) => count > 0),
    );
  const timed = (server: string): string | undefined =>
    new RegExp(`^switchyard_mcp_tool_call_seconds_count\\{server="${server}"\\} (\\d+)$`, "m").exec(text)?.[1];
  const expected = { ok: 2, queue_full: 1, expired: 1, cancelled: 1, tool_error: 1, tool_failed: 2, forbidden: 1 };
  assert.deepEqual(counted("switchyard_mcp_tool_calls_total", "works"), { ...expected, invalid_request: 1, not_found: 1 });
  assert.deepEqual(counted("switchyard_mcp_tool_calls_total", "asks"), { forbidden: 1, consent_required: 1 });
  assert.deepEqual(counted("switchyard_mcp_tool_calls_total", "bad"), { tool_unavailable: 1 });
  assert.deepEqual([timed("works"), timed("asks"), timed("bad")], ["6", "0", "0"], "only those that may have run");
  const sum = Number(/^switchyard_mcp_tool_call_seconds_sum\{server="works"\} ([\d.]+)$/m.exec(text)?.[1]);
  assert.ok(sum > 0.7 && sum < 30, `${sum} s`);
  // the trail has those of them that were calls of a tool, in the same words
  const noted = rig.acts.filter(({ event, server }) => event === "call" && server === "works").map((act) => act.outcome);
  assert.deepEqual(noted.toSorted(), seen.filter((word) => word !== "queue_full" && word !== "not_found").toSorted());
});
