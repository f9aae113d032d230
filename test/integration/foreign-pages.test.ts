/** Pages of other sites before a server without keys: what a browser would send for them, as raw requests. The job service is a fake. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { KeyedAccess } from "../../coordinator/src/application/access.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { type OpenDoor, openDoor } from "../support/open-door.ts";

/** The status line and the rest, of a request that says which Host it means. */
async function ask(door: OpenDoor, line: string, headers: Record<string, string> = {}): Promise<{ status: number; text: string }> {
  const all = Object.entries({ Host: `127.0.0.1:${door.port}`, Connection: "close", "Content-Length": "0", ...headers });
  const text = await door.raw(`${line} HTTP/1.1\r\n${all.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`);
  return { status: Number(text.slice(9, 12)), text };
}

const cancelAll = "POST /v1/jobs:cancel?limit=200";
const crossSite = { "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors" };

test("a page of another site can change nothing and read nothing", async (t) => {
  const door = await openDoor(t);
  const refused: Record<string, string>[] = [
    { ...crossSite, Origin: "https://evil.example" },
    crossSite,
    { "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", Origin: "http://127.0.0.1:3000" },
    { "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", Origin: "https://evil.example" }, // a form
    { Origin: "https://evil.example" }, // a browser of before Sec-Fetch-Site
    { Origin: "null" },
    { Origin: `http://127.0.0.1:${door.port + 1}` },
    { Origin: "https://evil.example", Host: "evil.example" },
  ];
  for (const headers of refused) {
    const { status, text } = await ask(door, cancelAll, headers);
    assert.equal(status, 403, JSON.stringify(headers));
    assert.match(text, /"code":"forbidden"/);
    assert.match(text, /--cors-origins/);
  }
  assert.equal((await ask(door, "GET /v1/jobs", crossSite)).status, 403);
  assert.equal((await ask(door, "POST /v2/repository/models/tiny/unload", crossSite)).status, 403);
  const { text } = await ask(door, cancelAll, { ...crossSite, Origin: "https://evil.example" });
  assert.match(text, /A page of \\"https:\/\/evil\.example\\" asked/);
});

test("the server's own page, links to it and clients that are no browsers are answered", async (t) => {
  const door = await openDoor(t);
  const answered: [string, Record<string, string>][] = [
    [cancelAll, {}],
    [cancelAll, { "Sec-Fetch-Mode": "cors" }], // as Node's fetch sends it
    [cancelAll, { "Sec-Fetch-Site": "same-origin", Origin: `http://127.0.0.1:${door.port}` }],
    [cancelAll, { Origin: `http://localhost:${door.port}`, Host: `localhost:${door.port}` }],
    ["GET /v1/jobs", { "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate" }],
    ["GET /v1/jobs", { "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate" }],
  ];
  for (const [line, headers] of answered) assert.equal((await ask(door, line, headers)).status, 200, JSON.stringify(headers));
});

test("a name that somebody may have pointed here is refused, and names and addresses of this machine are not", async (t) => {
  const door = await openDoor(t);
  const statusAs = async (host: string, path = "/v1/jobs") => (await ask(door, `GET ${path}`, { Host: host })).status;
  for (const host of [
    "evil.example",
    "evil.example:8000",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example.",
    "localhost@evil.example",
  ])
    assert.equal(await statusAs(host), 403, host);
  for (const host of [
    "localhost",
    "LOCALHOST:8000",
    "a.localhost:1",
    "localhost.",
    "127.0.0.1:9",
    "[::1]:8000",
    "10.1.2.3",
    "coordinator:8000",
  ])
    assert.equal(await statusAs(host), 200, host);
  assert.equal(await statusAs("probe.example", "/readyz"), 200, "a probe tells nothing");
});

test("origins that the configuration names may ask, by their own names too", async (t) => {
  const door = await openDoor(t, { corsOrigins: ["https://console.example"] });
  const origin = { Origin: "https://console.example" };
  assert.equal((await ask(door, cancelAll, { ...origin, "Sec-Fetch-Site": "cross-site" })).status, 200);
  assert.equal((await ask(door, cancelAll, { ...origin, Host: "console.example" })).status, 200);
  assert.equal((await ask(door, cancelAll, { Origin: "https://other.example", "Sec-Fetch-Site": "cross-site" })).status, 403);
  const all = await openDoor(t, { corsOrigins: ["*"] });
  assert.equal((await ask(all, cancelAll, { ...crossSite, Origin: "https://other.example", Host: "any.example" })).status, 200);
});

test("where keys are asked for, it is the key that counts", async (t) => {
  const key = { id: "key", tenant: "red", weight: 1, scopes: new Set(["read"] as const) };
  const ring = { find: (secret: string) => (secret === "key" ? key : undefined), all: () => [key] };
  const access = new KeyedAccess({ keys: ring, hosts: { isHost: async () => false }, clock: systemClock });
  const door = await openDoor(t, {}, { access });
  const headers = { ...crossSite, Origin: "https://other.example", Host: "switchyard.example" };
  assert.equal((await ask(door, "GET /v1/jobs", { ...headers, Authorization: "Bearer key" })).status, 200);
  assert.equal((await ask(door, "GET /v1/jobs", headers)).status, 401);
});
