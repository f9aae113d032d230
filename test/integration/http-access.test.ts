/** Who may ask what over HTTP: the table of routes, keys of every kind, and what the refused are told. The job service is a fake. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { type Scope, scopes } from "@switchyard/protocol/api-keys";
import { KeyedAccess } from "../../coordinator/src/application/access.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { accessOf, routeAccess } from "../../coordinator/src/doors/route-access.ts";
import type { ApiKey } from "../../coordinator/src/ports/key-ring.ts";
import { type OpenDoor, openDoor, tinyRequest, tinyScores } from "../support/open-door.ts";

const everything = new Set<Scope>(scopes);

/** A door whose keys are their own secrets. `keys` may be changed while it is open. */
async function guardedDoor(t: TestContext, keys: ApiKey[], nowMs = () => Date.now()): Promise<OpenDoor> {
  const ring = { find: (secret: string) => keys.find(({ id }) => id === secret), all: () => keys };
  const hosts = { isHost: async (token: string) => token === "host-token" };
  const blobs = { open: async () => undefined, receive: async () => ({ sha256: "", sizeBytes: 0 }) } as never;
  const access = new KeyedAccess({ keys: ring, hosts, clock: { ...systemClock, nowMs } });
  return openDoor(t, { corsOrigins: ["https://console.example"] }, { access, blobs, consoleFolder: await somePage(t) });
}

/** One page, and one asset. */
async function somePage(t: TestContext): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-access-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await mkdir(path.join(folder, "assets"));
  for (const name of ["index.html", "assets/x"]) await writeFile(path.join(folder, name), name);
  return folder;
}

function key(id: string, wishes: Partial<ApiKey> = {}): ApiKey {
  return { id, tenant: "red", weight: 1, scopes: everything, ...wishes };
}

const bearer = (secret: string): Record<string, string> => ({ authorization: `Bearer ${secret}` });
const digest = "0".repeat(64);

/** Every row of the table as a request that would be understood. */
function asked(row: string): { method: string; path: string } {
  const [method, url] = row.split(" ") as [string, string];
  const path = url
    .replace("::", ":")
    .replace(":sha256", digest)
    .replace(":version", "1")
    .replace(":model", "tiny")
    .replace(":repository", "main")
    .replace("*", "x")
    .replace(":id", "some-id");
  return { method: method === "*" ? "POST" : method, path };
}

test("each route asks for what the table says, and the table names no route that is not there", async (t) => {
  const door = await guardedDoor(t, [...scopes.map((scope) => key(scope, { scopes: new Set([scope]) }))]);
  const rows = Object.entries(routeAccess);
  assert.ok(rows.length > 40);
  for (const [row, access] of rows) {
    const { method, path: at } = asked(row);
    const send = (headers: Record<string, string>) => fetch(door.url + at, { method, headers, ...(method === "POST" && { body: "{}" }) });
    const without = await send({});
    const statusOf = async (secret: string): Promise<number> => (await send(bearer(secret))).status;
    if (access === "open") {
      assert.ok(without.status < 400, `${row}: ${without.status}`);
      continue;
    }
    assert.equal(without.status, 401, row);
    assert.equal(await statusOf("nobody"), 401, row);
    if (access === "hosts") {
      for (const scope of scopes) assert.equal(await statusOf(scope), 403, `${row} with ${scope}`);
      assert.equal(await statusOf("host-token"), method === "PUT" ? 400 : 404, row);
      continue;
    }
    for (const scope of scopes) {
      const status = await statusOf(scope);
      const isRefused = status === 401 || status === 403;
      assert.equal(isRefused, !access.includes(scope), `${row} with ${scope}: ${status}`);
      assert.ok(status !== 404 || /:id|:sha256|:server/.test(row), `${row} is no route`);
      assert.notEqual(status, 405, `${row} is no route`);
    }
  }
});

test("a load with much in it is read only from those who may send files", async (t) => {
  const door = await guardedDoor(t, [key("operator", { scopes: new Set<Scope>(["operate"]) }), key("admin")]);
  const body = JSON.stringify({ parameters: { config: "{}", "file:1/model.onnx": "A".repeat(100_000) } });
  const load = (secret: string) => fetch(`${door.url}/v2/repository/models/tiny/load`, { method: "POST", headers: bearer(secret), body });
  const refused = await load("operator");
  assert.equal(refused.status, 413);
  assert.match(await refused.text(), /65536 bytes.*'admin'/);
  assert.match(await (await load("admin")).text(), /loads no models by request/);
});

test("a route that the table does not name cannot be made, and none is made past the table", () => {
  assert.throws(() => accessOf("GET", "/v1/secrets"), /GET \/v1\/secrets: no word in route-access\.ts/);
  const folder = new URL("../../coordinator/src/doors/", import.meta.url);
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
  assert.ok(files.length > 15);
  const past = files.filter((file) =>
    /\bapp\s*\.(route|get|post|put|patch|delete|all)\(/.test(readFileSync(new URL(file, folder), "utf8")),
  );
  assert.deepEqual(past.sort(), ["metrics-server.ts", "routes.ts"], "the metrics server has an address of its own");
});

test("who shows no key, or a wrong or expired one, hears what to send, on /v1 and on /v2 in its own form", async (t) => {
  let nowMs = Date.UTC(2030, 0, 1);
  const door = await guardedDoor(t, [key("brief", { expiresMs: nowMs + 1 })], () => nowMs);
  const get = (path: string, headers: Record<string, string> = {}) => fetch(door.url + path, { headers });
  const none = await get("/v1/jobs");
  assert.deepEqual([none.status, none.headers.get("www-authenticate")], [401, 'Bearer realm="switchyard"']);
  assert.equal(none.headers.get("content-type"), "application/problem+json");
  const problem = await none.json();
  assert.deepEqual([problem.code, problem.retryable], ["unauthenticated", false]);
  assert.match(problem.detail, /Authorization: Bearer <key>/);
  const wrong = await get("/v2/models/tiny", bearer("nobody"));
  assert.deepEqual([wrong.status, wrong.headers.get("www-authenticate")], [401, 'Bearer realm="switchyard", error="invalid_token"']);
  assert.deepEqual([wrong.headers.get("content-type"), wrong.headers.get("x-switchyard-error")], ["application/json", "unauthenticated"]);
  assert.deepEqual(Object.keys(await wrong.json()), ["error"]);
  for (const authorization of ["Basic YTpi", "Bearer", "Bearer a b", "brief", ""]) {
    assert.equal((await get("/v1/jobs", { authorization })).status, 401, authorization);
  }
  assert.equal((await get("/v1/jobs", { authorization: "bearer   brief " })).status, 200);
  nowMs += 1;
  const late = await get("/v1/jobs", bearer("brief"));
  assert.equal(late.status, 401);
  assert.match((await late.json()).detail, /brief expired at 2030-01-01T00:00:00\.001Z/);
});

test("a key that lacks the scope is told which one", async (t) => {
  const door = await guardedDoor(t, [key("reader", { scopes: new Set(["read"]) })]);
  const answer = await fetch(`${door.url}/v1/tenants`, { headers: bearer("reader") });
  assert.equal(answer.status, 403);
  assert.equal(answer.headers.get("www-authenticate"), 'Bearer realm="switchyard", error="insufficient_scope", scope="operate admin"');
  const problem = await answer.json();
  assert.deepEqual([problem.code, problem.missing], ["forbidden", ["operate", "admin"]]);
  assert.match(problem.detail, /The API key reader lacks the scope 'operate' or 'admin'/);
  const infer = await fetch(`${door.url}/v2/models/tiny/infer`, { method: "POST", headers: bearer("reader"), body: "{}" });
  assert.equal(infer.status, 403);
  assert.match((await infer.json()).error, /lacks the scope 'submit'/);
});

test("the body of a request without a key is not read", async (t) => {
  const door = await guardedDoor(t, []);
  const head = "POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n";
  const answer = await door.raw(head, /\r\n\r\n.*\}$/s);
  assert.match(answer, /^HTTP\/1\.1 401 /);
  assert.equal(door.jobs.submissions.length, 0);
});

test("models that a key may not use are refused by name, known or not, and are in no list", async (t) => {
  const door = await guardedDoor(t, [key("narrow", { models: new Set(["tiny", "later"]) }), key("wide")]);
  const get = async (path: string, secret = "narrow", body?: string) => {
    const answer = await fetch(door.url + path, { headers: bearer(secret), ...(body !== undefined && { method: "POST", body }) });
    return { status: answer.status, json: await answer.json() };
  };
  for (const model of ["pair", "nothing"]) {
    for (const path of [`/v1/models/${model}`, `/v1/models/${model}/versions/1`, `/v2/models/${model}`, `/v2/models/${model}/ready`]) {
      assert.equal((await get(path)).status, 403, path);
    }
    const infer = await get(`/v2/models/${model}/infer`, "narrow", "{}");
    assert.equal(infer.status, 403);
    assert.match(infer.json.error, new RegExp(`The API key narrow may not use the model '${model}'`));
  }
  assert.equal((await get("/v1/models/later")).status, 404);
  assert.equal((await get("/v2/models/tiny")).status, 200);
  const named = (items: { model: string }[]) => [...new Set(items.map(({ model }) => model))];
  assert.deepEqual(named((await get("/v1/models")).json.items), ["tiny"]);
  assert.deepEqual(named((await get("/v1/models", "wide")).json.items), ["tiny", "pair", "broken"]);
  const index = (await get("/v2/repository/index", "narrow", "{}")).json as { name: string }[];
  assert.deepEqual([...new Set(index.map(({ name }) => name))], ["tiny"]);
});

test("the host that ran a job is shown to operators only", async (t) => {
  const door = await guardedDoor(t, [key("reader", { scopes: new Set(["read", "submit"]) }), key("operator")]);
  const body = JSON.stringify({ model: "tiny", ...tinyRequest() });
  const made = await fetch(`${door.url}/v1/jobs`, {
    method: "POST",
    headers: { ...bearer("reader"), "content-type": "application/json" },
    body,
  });
  const { id } = await made.json();
  door.jobs.start(id);
  door.jobs.end(id, "succeeded", { outputs: tinyScores() });
  const view = async (secret: string) => (await fetch(`${door.url}/v1/jobs/${id}`, { headers: bearer(secret) })).json();
  assert.equal((await view("reader")).host, undefined);
  assert.equal((await view("operator")).host, "host-1");
});

test("a stream of events ends when its key is revoked", async (t) => {
  const keys = [key("reader")];
  const door = await guardedDoor(t, keys);
  const body = JSON.stringify({ model: "tiny", ...tinyRequest() });
  const { id } = await (
    await fetch(`${door.url}/v1/jobs`, { method: "POST", headers: { ...bearer("reader"), "content-type": "application/json" }, body })
  ).json();
  const stream = await fetch(`${door.url}/v1/jobs/${id}/events`, { headers: bearer("reader") });
  const text = stream.text();
  keys.pop();
  door.jobs.start(id);
  assert.match(await text, /event: queued/);
  assert.doesNotMatch(await text, /event: running/);
});

test("browsers may ask beforehand without a key, and read why they were refused", async (t) => {
  const door = await guardedDoor(t, []);
  const origin = "https://console.example";
  const asks = { origin, "access-control-request-method": "GET", "access-control-request-headers": "authorization" };
  const preflight = await fetch(`${door.url}/v1/jobs`, { method: "OPTIONS", headers: asks });
  assert.deepEqual([preflight.status, preflight.headers.get("access-control-allow-headers")], [204, "authorization"]);
  const refused = await fetch(`${door.url}/v1/jobs`, { headers: { origin } });
  assert.deepEqual([refused.status, refused.headers.get("access-control-allow-origin")], [401, origin]);
  assert.match(refused.headers.get("access-control-expose-headers") ?? "", /WWW-Authenticate/);
});

test("tenants are listed with their weights and the ids of their keys, by name", async (t) => {
  const door = await guardedDoor(t, [key("red-1", { weight: 2 }), key("blue-1", { tenant: "blue" }), key("red-2", { weight: 2 })]);
  const listed = await (await fetch(`${door.url}/v1/tenants`, { headers: bearer("red-1") })).json();
  const recent = { jobs: 0, device_ms: 0, device_share: 0, queue_ms: { p50: null, p95: null, p99: null } };
  assert.deepEqual(listed.items, [
    { tenant: "blue", weight: 1, keys: ["blue-1"], waiting: [], recent },
    { tenant: "red", weight: 2, keys: ["red-1", "red-2"], waiting: [], recent },
  ]);
  const alone = await openDoor(t);
  const { items } = await (await fetch(`${alone.url}/v1/tenants`)).json();
  assert.deepEqual(items, [{ tenant: "default", weight: 1, keys: [], waiting: [], recent }]);
});

test("the description for tools says which scopes open each operation", async (t) => {
  const door = await guardedDoor(t, []);
  const described = await (await fetch(`${door.url}/openapi.json`)).json();
  assert.deepEqual(
    [described.components.securitySchemes.apiKey.type, described.components.securitySchemes.apiKey.scheme],
    ["http", "bearer"],
  );
  for (const [path, operations] of Object.entries(described.paths as Record<string, Record<string, { security: object[] }>>)) {
    for (const [method, { security }] of Object.entries(operations)) assert.ok(security.length > 0, `${method} ${path}`);
  }
  assert.deepEqual(described.paths["/v1/tenants"].get.security, [{ apiKey: ["operate"] }, { apiKey: ["admin"] }]);
  assert.deepEqual(described.paths["/v1/jobs/{id}"].delete.security, [{ apiKey: ["submit"] }]);
});

test("which hosts hold a model is shown to operators only", async (t) => {
  const door = await guardedDoor(t, [
    key("operator", { scopes: new Set(["operate"]) }),
    key("user", { scopes: new Set(["submit", "read"]) }),
  ]);
  for (const path of ["/v1/models", "/v1/models/tiny", "/v1/models/tiny/versions/1"]) {
    const shown = async (secret: string): Promise<unknown> => {
      const told = (await (await fetch(door.url + path, { headers: bearer(secret) })).json()) as Record<string, unknown>;
      return ((told.items as Record<string, unknown>[] | undefined)?.[0] ?? told).warm_on;
    };
    assert.deepEqual([await shown("operator"), await shown("user")], [["host-1"], undefined], path);
  }
});

test("a Content-Type that is no media type is refused where a body may come, and only to those who may ask", async (t) => {
  const door = await guardedDoor(t, [key("good")]);
  const ask = (method: string, url: string, headers: Record<string, string>) =>
    fetch(`${door.url}${url}`, { method, headers, redirect: "error" });
  for (const type of ["garbage", "application/", "a b/c", ";", "application/json garbage", "application /json"]) {
    const origin = "https://console.example";
    const answer = await ask("POST", "/v2/models/tiny/infer", { ...bearer("good"), origin, "content-type": type });
    assert.deepEqual([answer.status, answer.headers.get("x-switchyard-error")], [415, "unsupported_media_type"], type);
    assert.equal(answer.headers.get("access-control-allow-origin"), origin);
    assert.match(await answer.text(), /Content-Type header is not a media type/);
    assert.equal((await ask("DELETE", "/v1/jobs/x", { ...bearer("good"), "content-type": type })).status, 415);
    assert.equal((await ask("POST", "/v2/models/tiny/infer", { "content-type": type })).status, 401);
    assert.equal((await ask("GET", "/v2", { ...bearer("good"), "content-type": type })).status, 200);
  }
  assert.equal(door.jobs.submissions.length, 0);
  for (const type of ["application/x-any+thing; charset=utf-8", "  text/plain ;a", ""]) {
    const answer = await ask("POST", "/v2/models/tiny/infer", { ...bearer("good"), "content-type": type });
    assert.notEqual(answer.status, 415, type);
  }
});
