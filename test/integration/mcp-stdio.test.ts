/** `switchyard mcp` against a server that plays a coordinator's /mcp, and fails on purpose. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import type { ServerResponse } from "node:http";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { bridge } from "../../client-sdk/src/cli/mcp-bridge.ts";
import { systemClock } from "../../client-sdk/src/clock.ts";
import { type ScriptedServer, type SeenRequest, startScriptedServer } from "../support/scripted-server.ts";
import { until } from "../support/until.ts";

interface Message {
  id?: string | number | null;
  method?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
  error?: { code: number; message: string; data?: Record<string, unknown> };
}

const version = "2026-07-28";
const meta = { "io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {} };
const main = fileURLToPath(new URL("../../client-sdk/src/cli/main.ts", import.meta.url));

const modern = (id: number | string, method: string, params: Record<string, unknown> = {}) => ({
  id,
  method,
  params: { ...params, _meta: meta },
});
const initialize = (id: number | string) => ({
  id,
  method: "initialize",
  params: { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "test", version: "1" } },
});
const initialized = { method: "notifications/initialized" };

/** A bridge within this process, with a client's ends of its streams. */
function openBridge(urls: string | string[], options: { patienceMs?: number } = {}) {
  const input = new PassThrough();
  const output = new PassThrough();
  const heard: Message[] = [];
  const notes: string[] = [];
  let rest = "";
  output.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) heard.push(JSON.parse(line) as Message);
  });
  const stop = new AbortController();
  const done = bridge({
    urls: [urls].flat(),
    headers: { authorization: "Bearer secret" },
    input,
    output,
    note: (text) => notes.push(text),
    clock: systemClock,
    signal: stop.signal,
    patienceMs: options.patienceMs ?? 30_000,
  });
  return {
    heard,
    notes,
    done,
    send: (message: object) => input.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`),
    write: (text: string) => input.write(text),
    /** The answer to a request, once it came. */
    answer: (id: string | number) =>
      until(`the answer to ${id}`, async () => heard.find((message) => message.id === id && message.method === undefined)),
    said: (method: string) => until(method, async () => heard.find((message) => message.method === method)),
    end: async () => {
      input.end();
      await done;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await done;
    },
  };
}

interface Asked extends SeenRequest {
  message: Message;
}

/** Answers by method; `session` is what `initialize` hands out. */
function startCoordinator(
  script: (request: Asked, response: ServerResponse) => void,
  facts: { session?: () => string } = {},
): Promise<ScriptedServer> {
  return startScriptedServer((request, response) => {
    const message = (request.body.length > 0 ? JSON.parse(request.body.toString()) : {}) as Message;
    if (request.method === "GET" || request.method === "DELETE") script({ ...request, message }, response);
    else if (message.method === "initialize") {
      const result = { protocolVersion: "2025-11-25", capabilities: {}, serverInfo: { name: "played", version: "1" } };
      json(response, { id: message.id!, result }, { "mcp-session-id": facts.session?.() ?? "s1" });
    } else if (message.method === "notifications/initialized") response.writeHead(202).end();
    else script({ ...request, message }, response);
  });
}

function json(response: ServerResponse, message: Message, headers: Record<string, string> = {}, status = 200): void {
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify({ jsonrpc: "2.0", ...message }));
}

function openStream(response: ServerResponse): (message: Message) => void {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.flushHeaders();
  return (message) => response.write(`event: message\ndata: ${JSON.stringify({ jsonrpc: "2.0", ...message })}\n\n`);
}

const askedFor = (server: ScriptedServer, method: string): SeenRequest[] =>
  server.seen.filter(({ body }) => body.includes(`"method":"${method}"`));

test("a request of today stands for itself: its headers say what its body says, and no session is named", async () => {
  await using server = await startCoordinator(({ message }, response) => {
    if (message.method === "tools/call") {
      const say = openStream(response);
      say({ method: "notifications/progress", params: { progressToken: "p", progress: 1 } });
      say({ id: message.id!, result: { content: [] } });
      response.end();
    } else json(response, { id: message.id!, error: { code: -32601, message: "there is no such method" } }, {}, 404);
  });
  await using client = openBridge(server.url);
  client.send(modern("a", "tools/call", { name: "infer_digits", arguments: {} }));
  assert.deepEqual((await client.answer("a")).result, { content: [] });
  assert.equal((await client.said("notifications/progress")).params?.progress, 1);
  client.send(modern(2, "tasks/get", { taskId: "täsk" }));
  assert.equal((await client.answer(2)).error?.code, -32601); // as it is, though its status is 404

  const [call, task] = server.seen;
  assert.equal(call!.url, "/mcp");
  assert.equal(call!.headers["mcp-protocol-version"], version);
  assert.equal(call!.headers["mcp-method"], "tools/call");
  assert.equal(call!.headers["mcp-name"], "infer_digits");
  assert.equal(call!.headers.authorization, "Bearer secret");
  assert.equal(call!.headers["mcp-session-id"], undefined);
  assert.equal(task!.headers["mcp-name"], `=?base64?${Buffer.from("täsk").toString("base64")}?=`);
  assert.equal(server.seen.length, 2);
});

test("requests of the era before share a session, hear what the coordinator says on its own, and end it with their input", async () => {
  await using server = await startCoordinator((request, response) => {
    if (request.method === "GET") openStream(response)({ id: 7, method: "elicitation/create", params: { message: "which?" } });
    else if (request.method === "DELETE") response.writeHead(204).end();
    else if (request.message.method === undefined) response.writeHead(202).end();
    else json(response, { id: request.message.id!, result: { tools: [] } });
  });
  await using client = openBridge(server.url);
  // all at once: what needs the session waits until there is one
  for (const message of [initialize(1), initialized, { id: 2, method: "tools/list" }]) client.send(message);
  await client.answer(2);
  assert.equal((await client.said("elicitation/create")).id, 7);
  client.send({ id: 7, result: { action: "decline" } });
  await until("the client's answer", async () => server.seen.find(({ body }) => body.includes("decline")));
  await client.end();
  const [first, ...later] = server.seen;
  assert.equal(first!.headers["mcp-session-id"], undefined);
  assert.deepEqual(
    later.map(({ headers }) => [headers["mcp-session-id"], headers["mcp-protocol-version"]]),
    later.map(() => ["s1", "2025-11-25"]),
  );
  assert.equal(later.at(-1)!.method, "DELETE");
});

test("cancelling closes the stream of a request of today, and is handed on for one of the era before", async () => {
  await using server = await startCoordinator(({ message, method }, response) => {
    if (method === "GET") response.writeHead(405).end();
    else if (message.method === "notifications/cancelled") response.writeHead(202).end();
    else if (message.method === "tools/call") openStream(response);
    else json(response, { id: message.id!, result: {} });
  });
  await using client = openBridge(server.url);
  client.send(modern(1, "tools/call", { name: "slow" }));
  const today = await server.request(1);
  client.send({ method: "notifications/cancelled", params: { requestId: 1 } });
  await today.closed;

  client.send(initialize(2));
  client.send(initialized);
  client.send({ id: 3, method: "tools/call", params: { name: "slow" } });
  await until("the call", async () => askedFor(server, "tools/call")[1]);
  client.send({ method: "notifications/cancelled", params: { requestId: 3 } });
  const told = await until("the cancellation", async () => askedFor(server, "notifications/cancelled")[0]);
  assert.match(told.body.toString(), /"requestId":3/);
  await askedFor(server, "tools/call")[1]!.closed;
  client.send({ id: 4, method: "ping" });
  await client.answer(4);
  assert.deepEqual(
    client.heard.map(({ id }) => id),
    [2, 4],
  ); // what was cancelled has no answer
});

test("a subscription outlives its stream, and what may have changed meanwhile is told", async () => {
  const streams: ServerResponse[] = [];
  await using server = await startCoordinator(({ message }, response) => {
    streams.push(response);
    const mark = { "io.modelcontextprotocol/subscriptionId": message.id };
    const notifications = { toolsListChanged: true, resourceSubscriptions: ["switchyard://queues"] };
    openStream(response)({ method: "notifications/subscriptions/acknowledged", params: { notifications, _meta: mark } });
  });
  await using client = openBridge(server.url);
  client.send(modern(1, "subscriptions/listen", { notifications: { toolsListChanged: true } }));
  await client.said("notifications/subscriptions/acknowledged");
  streams[0]!.destroy();
  await client.said("notifications/resources/updated");
  assert.equal(streams.length, 2);
  assert.deepEqual(
    client.heard.map(({ method, params }) => [
      method,
      (params!._meta as Record<string, unknown>)["io.modelcontextprotocol/subscriptionId"],
    ]),
    ["notifications/subscriptions/acknowledged", "notifications/tools/list_changed", "notifications/resources/updated"].map((method) => [
      method,
      1,
    ]),
  );
  client.send({ method: "notifications/cancelled", params: { requestId: 1 } });
  await server.seen[1]!.closed;
});

test("arguments that name a header have it, also of a tool that was never listed", async () => {
  const tools = [{ name: "infer", inputSchema: { type: "object", properties: { model: { type: "string", "x-mcp-header": "Model" } } } }];
  await using server = await startCoordinator(({ message, headers }, response) => {
    if (message.method === "tools/list") json(response, { id: message.id!, result: { tools } });
    else if (headers["mcp-param-model"] === "digits") json(response, { id: message.id!, result: { content: [] } });
    else json(response, { id: message.id!, error: { code: -32020, message: "headers and body disagree" } }, {}, 400);
  });
  await using client = openBridge(server.url);
  client.send(modern(1, "tools/call", { name: "infer", arguments: { model: "digits" } }));
  assert.deepEqual((await client.answer(1)).result, { content: [] });
  client.send(modern(2, "tools/call", { name: "infer", arguments: { model: "digits" } }));
  assert.deepEqual((await client.answer(2)).result, { content: [] });
  const methods = server.seen.map(({ headers }) => headers["mcp-method"]);
  assert.deepEqual(methods, ["tools/call", "tools/list", "tools/call", "tools/call"]);
  assert.deepEqual(
    client.heard.map(({ id }) => id),
    [1, 2],
  ); // the list that it asked for itself is its own
  client.send(modern(3, "tools/call", { name: "infer", arguments: { model: "other" } }));
  assert.equal((await client.answer(3)).error?.code, -32020); // listing again helped nothing: told as it is
});

test("while no coordinator listens each request is answered with an error, and the next one is tried again", async () => {
  await using server = await startCoordinator(({ message }, response) => json(response, { id: message.id!, result: { tools: [] } }));
  await server.stop();
  await using client = openBridge(server.url, { patienceMs: 300 });
  client.send(modern(1, "tools/list"));
  client.send(initialize(2));
  for (const id of [1, 2]) {
    const { error } = await client.answer(id);
    assert.equal(error?.code, -32603);
    assert.match(error.message, /cannot reach http:\/\/127\.0\.0\.1:\d+: is it running\?/);
    assert.deepEqual(error.data, { urls: [server.url] });
  }
  await server.restart();
  client.send(modern(3, "tools/list"));
  assert.deepEqual((await client.answer(3)).result, { tools: [] });
  assert.match(client.notes.join("\n"), /trying again[\s\S]*answers again/);
});

test("a request outlasts a short absence of its coordinator", async () => {
  await using server = await startCoordinator(({ message }, response) => json(response, { id: message.id!, result: {} }));
  await server.stop();
  await using client = openBridge(server.url);
  client.send(modern(1, "tools/call", { name: "infer" }));
  await until("a note", async () => client.notes[0]);
  await server.restart();
  assert.deepEqual((await client.answer(1)).result, {});
});

test("a call whose answer was lost is not made again, but a question is", async () => {
  let cuts = 0;
  await using server = await startCoordinator(({ message }, response) => {
    if (cuts++ < 2) response.destroy();
    else json(response, { id: message.id!, result: { tools: [] } });
  });
  await using client = openBridge(server.url);
  client.send(modern(1, "tools/call", { name: "infer" }));
  const { error } = await client.answer(1);
  assert.match(error!.message, /may have been carried out/);
  client.send(modern(2, "tools/list"));
  assert.deepEqual((await client.answer(2)).result, { tools: [] });
  assert.equal(askedFor(server, "tools/call").length, 1);
});

test("a call that somebody on the way answered for its coordinator is not made again, but one that the coordinator refused is", async () => {
  let refusals = 0;
  await using server = await startCoordinator(({ message }, response) => {
    refusals++;
    const { name } = message.params ?? {};
    if (typeof name === "number") response.writeHead(name, { "content-type": "text/html" }).end("<h1>the server is away</h1>");
    else if (refusals > 1) json(response, { id: message.id!, result: { by: name } });
    else if (name === "problem") {
      const problem = { type: "urn:switchyard:problem:draining", title: "x", status: 503, code: "draining", detail: "it is shutting down" };
      response.writeHead(503, { "content-type": "application/problem+json" }).end(JSON.stringify(problem));
    } else if (name === "error")
      json(response, { id: null, error: { code: -32000, message: "away", data: { code: "draining" } } }, {}, 503);
    else response.writeHead(502).end();
  });
  await using client = openBridge(server.url);
  for (const status of [502, 503, 504]) {
    client.send(modern(status, "tools/call", { name: status }));
    const { error } = await client.answer(status);
    assert.match(error!.message, /may have been carried out/);
  }
  assert.equal(server.seen.length, 3);
  for (const name of ["problem", "error"]) {
    refusals = 0;
    client.send(modern(name, "tools/call", { name }));
    assert.deepEqual((await client.answer(name)).result, { by: name });
  }
  refusals = 0;
  client.send(modern("list", "tools/list"));
  assert.deepEqual((await client.answer("list")).result, {});
});

test("a call whose only coordinator goes away for good is answered with an error, and one that it takes up again in time with its result", async () => {
  let resumed = 0;
  await using server = await startCoordinator(({ message, method, headers }, response) => {
    const lastEventId = headers["last-event-id"];
    if (method === "GET" && lastEventId === "short") {
      resumed++;
      if (resumed === 1) response.writeHead(503).end();
      else {
        const say = openStream(response);
        setTimeout(() => say({ id: "short", result: { content: [] } }), 1_000);
      }
    } else if (method !== "POST") response.writeHead(405).end();
    else {
      openStream(response);
      response.write(`id: ${message.params?.name}\ndata: \n\n`);
      if (message.params?.name === "short") setTimeout(() => response.destroy(), 50);
    }
  });
  await using patient = openBridge(server.url);
  for (const message of [initialize(1), initialized]) patient.send(message);
  patient.send({ id: "short", method: "tools/call", params: { name: "short" } });
  assert.deepEqual((await patient.answer("short")).result, { content: [] });
  assert.equal(resumed, 2);
  await using client = openBridge(server.url, { patienceMs: 600 });
  for (const message of [initialize(1), initialized]) client.send(message);
  for (const method of ["tools/call", "tools/list"]) client.send({ id: method, method, params: { name: method } });
  await until("both", async () => askedFor(server, "tools/list").length > 0 && askedFor(server, "tools/call").length > 1);
  await server.stop();
  const { error } = await client.answer("tools/call");
  assert.match(error!.message, /broke before the answer came.*may have been carried out/);
  assert.ok((await client.answer("tools/list")).error);
  assert.equal(askedFor(server, "tools/call").length, 2);
});

test("a session that the coordinator knows no longer is begun anew, with what was set in it", async () => {
  let session = 1;
  await using server = await startCoordinator(
    (request, response) => {
      const { message, method, headers } = request;
      if (method === "DELETE") response.writeHead(204).end();
      else if (headers["mcp-session-id"] !== `s${session}`)
        json(response, { id: null, error: { code: -32001, message: "Session not found" } }, {}, 404);
      else if (method === "GET") response.writeHead(405).end();
      else json(response, { id: message.id!, result: { of: headers["mcp-session-id"] } });
    },
    { session: () => `s${session}` },
  );
  await using client = openBridge(server.url);
  for (const message of [initialize(1), initialized]) client.send(message);
  client.send({ id: 2, method: "resources/subscribe", params: { uri: "switchyard://queues" } });
  client.send({ id: 3, method: "resources/subscribe", params: { uri: "switchyard://hosts" } });
  await client.answer(3);
  client.send({ id: 4, method: "resources/unsubscribe", params: { uri: "switchyard://hosts" } });
  await client.answer(4);
  session = 2; // as after a restart
  client.send({ id: 5, method: "tools/call", params: { name: "infer" } });
  assert.deepEqual((await client.answer(5)).result, { of: "s2" });
  assert.equal(askedFor(server, "initialize").length, 2);
  const again = askedFor(server, "resources/subscribe").filter(({ headers }) => headers["mcp-session-id"] === "s2");
  assert.deepEqual(
    again.map(({ body }) => (JSON.parse(body.toString()) as Message).params?.uri),
    ["switchyard://queues"],
  );
  const changes = client.heard.filter(({ method }) => method !== undefined).map(({ method }) => method);
  assert.ok(changes.includes("notifications/tools/list_changed") && changes.includes("notifications/resources/updated"), changes.join());
  assert.deepEqual(
    client.heard.filter(({ method }) => method === undefined).map(({ id }) => id),
    [1, 2, 3, 4, 5],
  );
});

test("a session whose stream breaks is begun anew without being asked", async () => {
  let session = 1;
  const streams: ServerResponse[] = [];
  await using server = await startCoordinator(
    ({ message, method, headers }, response) => {
      if (method === "DELETE") response.writeHead(204).end();
      else if (headers["mcp-session-id"] !== `s${session}`) response.writeHead(404).end();
      else if (method === "GET") {
        streams.push(response);
        openStream(response);
      } else json(response, { id: message.id!, result: {} });
    },
    { session: () => `s${session}` },
  );
  await using client = openBridge(server.url);
  for (const message of [initialize(1), initialized]) client.send(message);
  await until("a stream", async () => streams[0]);
  session = 2;
  streams[0]!.destroy();
  await client.said("notifications/tools/list_changed");
  await until("a stream", async () => streams[1]);
  assert.equal(client.heard.filter(({ method }) => method === undefined).length, 1);
});

test("another coordinator is asked when one is away, in both eras", async () => {
  await using first = await startCoordinator(({ message, method }, response) => {
    if (method === "GET") response.writeHead(405).end();
    else json(response, { id: message.id!, result: { by: "first" } });
  });
  await using second = await startCoordinator(({ message, method }, response) => {
    if (method !== "POST") response.writeHead(405).end();
    else json(response, { id: message.id!, result: { by: "second" } });
  });
  await using client = openBridge([first.url, second.url]);
  for (const message of [initialize(1), initialized, { id: 2, method: "tools/list" }, modern(3, "tools/list")]) client.send(message);
  for (const id of [2, 3]) assert.deepEqual((await client.answer(id)).result, { by: "first" });
  await first.stop();
  client.send({ id: 4, method: "tools/list" });
  client.send(modern(5, "tools/list"));
  for (const id of [4, 5]) assert.deepEqual((await client.answer(id)).result, { by: "second" });
});

test("a message of many megabytes passes both ways", async () => {
  await using server = await startCoordinator(({ message }, response) =>
    json(response, { id: message.id!, result: { echo: message.params?.data } }),
  );
  await using client = openBridge(server.url);
  const data = "x".repeat(24 * 1024 * 1024);
  client.send(modern(1, "tools/call", { name: "infer", data }));
  assert.equal(((await client.answer(1)).result!.echo as string).length, data.length);
});

test("lines that are no message are refused, each by itself", async () => {
  await using server = await startCoordinator(({ message }, response) => {
    if (message.method !== "tools/call") json(response, { id: message.id!, result: {} });
  });
  await using client = openBridge(server.url);
  client.write("{oops\n");
  client.write('[{"jsonrpc":"2.0","id":1,"method":"ping"}]\n');
  client.write('{"jsonrpc":"1.0","id":2,"method":"ping"}\n');
  client.send(modern(3, "tools/call"));
  client.send(modern(3, "tools/list"));
  client.send(modern(4, "tools/list"));
  await client.answer(4);
  const errors = client.heard.filter(({ error }) => error !== undefined).map(({ id, error }) => [id, error!.code]);
  assert.deepEqual(errors, [
    [null, -32700],
    [null, -32600],
    [2, -32600],
    [3, -32600],
  ]);
});

test("a refusal is told in its own words", async () => {
  await using server = await startCoordinator(({ message }, response) => {
    const [status, body] =
      message.id === 1
        ? [401, { code: "unauthenticated", detail: "this key is unknown", status: 401, title: "x", type: "x" }]
        : [413, { jsonrpc: "2.0", id: null, error: { code: -32000, message: "the body is too large" } }];
    response.writeHead(status as number, { "content-type": "application/json" }).end(JSON.stringify(body));
  });
  await using client = openBridge(server.url);
  client.send(modern(1, "tools/list"));
  assert.match((await client.answer(1)).error!.message, /this key is unknown/);
  client.send(modern(2, "tools/list"));
  assert.match((await client.answer(2)).error!.message, /the body is too large/);
});

test("the command writes the protocol alone to standard output, answers what was asked and ends with its input", async () => {
  await using server = await startCoordinator(({ message }, response) => {
    setTimeout(() => json(response, { id: message.id!, result: { tools: [] } }), 300);
  });
  const env = { ...process.env, SWITCHYARD_URL: server.url, SWITCHYARD_API_KEY: "" };
  const child = spawn(process.execPath, [main, "mcp"], { env, stdio: "pipe" });
  let out = "";
  let err = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  child.stdin.end(`${JSON.stringify({ jsonrpc: "2.0", ...modern(1, "tools/list") })}\nnonsense\n`);
  const code = await new Promise((resolve) => child.once("close", resolve));
  assert.equal(code, 0, err);
  const messages = out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Message);
  assert.deepEqual(
    messages.map(({ id }) => id),
    [null, 1],
  );
  assert.match(err, /^switchyard mcp: for http/);
});
