/** What a console asks, at a door with a fake job service: who asks, the overview and its stream, timelines, inputs, bulk, drains, the page itself. */

import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";
import type { BulkView, InputsView, JobLogView, OverviewView, SizesView, TimelineView } from "@switchyard/protocol";
import { memoryDrains } from "../support/memory-figures.ts";
import { openDoor, tinyRequest, tinyScores } from "../support/open-door.ts";
import { until } from "../support/until.ts";

const json = { "content-type": "application/json" };

async function submitted(url: string): Promise<string> {
  const answer = await fetch(`${url}/v1/jobs`, { method: "POST", headers: json, body: JSON.stringify(tinyRequest({ model: "tiny" })) });
  assert.equal(answer.status, 202);
  return ((await answer.json()) as { id: string }).id;
}

async function read<T>(url: string, init?: RequestInit): Promise<T> {
  const answer = await fetch(url, init);
  assert.ok(answer.status < 300, `${url}: ${answer.status} ${await answer.clone().text()}`);
  return (await answer.json()) as T;
}

test("without keys everybody is one tenant that may do all", async (t) => {
  const { url } = await openDoor(t);
  assert.deepEqual(await read(`${url}/v1/caller`), { tenant: "default", scopes: ["submit", "read", "operate", "admin"] });
});

test("the overview is a page and a stream, which goes on where its reader was and ends when the server drains", async (t) => {
  const door = await openDoor(t);
  const page = await read<OverviewView>(`${door.url}/v1/overview`);
  assert.deepEqual([page.series.length, page.recent.offered, page.now.hosts], [150, 0, { ready: 1, draining: 0, lost: 0 }]);
  const answer = await fetch(`${door.url}/v1/overview/events`);
  assert.equal(answer.headers.get("content-type"), "text/event-stream");
  assert.equal(answer.headers.get("cache-control"), "no-store");
  let text = "";
  const decoder = new TextDecoder();
  const ended = (async () => {
    for await (const part of answer.body as AsyncIterable<Uint8Array>) text += decoder.decode(part, { stream: true });
  })();
  const events = () =>
    [...text.matchAll(/id: (\d+)\nevent: overview\ndata: (.+)\n\n/g)].map(([, id, data]) => ({ id, view: JSON.parse(data!) }));
  await until("a second slot", async () => new Set(events().map(({ id }) => id)).size > 1);
  const [first, ...later] = events();
  assert.equal(first?.view.series.length, 150);
  for (const { view } of later) assert.ok(view.series.length <= 20, "what was sent is not sent again"); // a slot is two seconds
  const resumed = await fetch(`${door.url}/v1/overview/events`, { headers: { "last-event-id": String(later.at(-1)?.id) } });
  const { value } = await (resumed.body as ReadableStream<Uint8Array>).getReader().read();
  assert.ok(decoder.decode(value).length < 5_000, "a reader that comes back is told what is new only");
  door.drain();
  door.server.endWaits();
  await ended;
});

test("a job's timeline is there while it waits and after its end; an unknown job has none", async (t) => {
  const door = await openDoor(t);
  const id = await submitted(door.url);
  const waiting = await read<TimelineView>(`${door.url}/v1/jobs/${id}/timeline`);
  assert.deepEqual([waiting.state, waiting.events.map(({ event }) => event)], ["queued", ["admitted"]]);
  door.jobs.end(id, "cancelled");
  const ended = await read<TimelineView>(`${door.url}/v1/jobs/${id}/timeline`);
  assert.deepEqual(
    ended.events.map(({ event }) => event),
    ["admitted", "cancelled"],
  );
  assert.equal((await fetch(`${door.url}/v1/jobs/none/timeline`)).status, 404);
});

test("a job's earlier attempts are in its timeline, and in its log, which says who said what", async (t) => {
  const door = await openDoor(t);
  const id = await submitted(door.url);
  const error = { code: "run_failed", detail: "no memory", retryable: true };
  const [startedMs, endedMs] = [Date.now(), Date.now() + 5];
  door.jobs.tried(id, [{ fence: 1, attempt: 1, hostId: "host-9", startedMs, endedMs, end: "failed", runMs: 3, batchItems: 2, error }]);
  const { events } = await read<TimelineView>(`${door.url}/v1/jobs/${id}/timeline`);
  assert.deepEqual(
    events.map(({ error: why, event, host }) => [event, host, why?.code]),
    [
      ["admitted", undefined, undefined],
      ["started", "host-9", undefined],
      ["ran", undefined, undefined],
      ["attempt_failed", "host-9", "run_failed"],
    ],
  );
  const answer = await fetch(`${door.url}/v1/jobs/${id}/log`);
  assert.equal(answer.headers.get("cache-control"), "no-store");
  const { lines } = (await answer.json()) as JobLogView;
  assert.deepEqual(
    lines.map(({ event, level, source }) => `${source} ${level} ${event}`),
    ["coordinator info job_queued", "host info job_running", "host warn attempt_ended"],
  );
  assert.deepEqual(lines[2]?.fields, { attempt: 1, end: "retried", run_ms: 3, batch_items: 2, code: "run_failed", detail: "no memory" });
  assert.equal((await fetch(`${door.url}/v1/jobs/none/log`)).status, 404);
});

test("a job's inputs come with their values, or without where they are large", async (t) => {
  const door = await openDoor(t, { maxBodyBytes: 8_000_000 });
  const id = await submitted(door.url);
  const small = await read<InputsView>(`${door.url}/v1/jobs/${id}/inputs`);
  assert.deepEqual(small.inputs[0]?.data, [1, 2, 3, 4]);
  assert.deepEqual([small.id, small.inputs[0]?.name, small.inputs[0]?.size_bytes], [id, "image", 16]);
  const data = Array.from({ length: 400_000 }, () => 1);
  const body = JSON.stringify({ model: "tiny", inputs: [{ name: "image", datatype: "FP32", shape: [100_000, 4], data }] });
  const large = await read<{ id: string }>(`${door.url}/v1/jobs`, { method: "POST", headers: json, body });
  const { inputs } = await read<InputsView>(`${door.url}/v1/jobs/${large.id}/inputs`);
  assert.deepEqual([inputs[0]?.data, inputs[0]?.shape, inputs[0]?.size_bytes], [undefined, [100_000, 4], 1_600_000]);
});

test("how large a job's values are is answered before anybody asks for them", async (t) => {
  const door = await openDoor(t);
  const id = await submitted(door.url);
  const sizes = () => read<SizesView>(`${door.url}/v1/jobs/${id}/sizes`);
  const waiting = await sizes();
  assert.ok(waiting.inputs_bytes! >= 16 && waiting.inputs_bytes! < 500);
  assert.equal(waiting.outputs_bytes, undefined);
  door.jobs.end(id, "succeeded", { outputs: tinyScores() });
  assert.ok((await sizes()).outputs_bytes! >= 12);
  assert.equal((await fetch(`${door.url}/v1/jobs/none/sizes`)).status, 404);
});

test("so many streams of the overview are open and no more; one that ends makes room", async (t) => {
  const { url } = await openDoor(t, { streams: { ofCaller: 2, inAll: 5 } });
  const open = async () => {
    const stop = new AbortController();
    return { stop, answer: await fetch(`${url}/v1/overview/events`, { signal: stop.signal }) };
  };
  const [first, second, third] = [await open(), await open(), await open()];
  assert.deepEqual([first.answer.status, second.answer.status, third.answer.status], [200, 200, 429]);
  assert.match(third.answer.headers.get("retry-after") ?? "", /^\d+$/);
  const { code, detail } = (await third.answer.json()) as { code: string; detail: string };
  assert.deepEqual([code, detail], ["rate_limited", "2 such streams without a key are open, as many as may"]);
  assert.equal((await fetch(`${url}/v1/overview`)).status, 200, "the page is there all the same");
  first.stop.abort();
  const next = await until("room for another", async () => {
    const again = await open();
    return again.answer.status === 200 && again;
  });
  for (const { stop } of [second, next]) stop.abort();
});

test("a bulk cancellation is counted first, changes what the filter names, and page by page all of it", async (t) => {
  const door = await openDoor(t);
  for (let at = 0; at < 5; at++) await submitted(door.url);
  const post = { method: "POST" };
  const counted = await read<BulkView>(`${door.url}/v1/jobs:cancel?state=queued&dry_run=true`, post);
  assert.deepEqual([counted.dry_run, counted.matched, counted.changed, door.jobs.cancelled.length], [true, 5, 0, 0]);
  const first = await read<BulkView>(`${door.url}/v1/jobs:cancel?limit=3`, post);
  assert.deepEqual([first.dry_run, first.changed, door.jobs.cancelled.length], [false, 3, 3]);
  assert.match(first.links.next ?? "", /^\/v1\/jobs:cancel\?limit=3&cursor=/);
  const second = await read<BulkView>(door.url + first.links.next, post);
  assert.deepEqual([second.changed, second.links], [2, {}]);
  for (const query of ["dry_run=maybe", "state=done", "nonsense=1"]) {
    const refused = await fetch(`${door.url}/v1/jobs:cancel?${query}`, post);
    assert.deepEqual([refused.status, ((await refused.json()) as { code: string }).code], [400, "invalid_request"], query);
  }
});

test("a drain is asked for and lifted; a host that nobody knows is told apart", async (t) => {
  const asked = new Set<string>();
  const door = await openDoor(t, {}, { drains: memoryDrains(asked) });
  const drain = (id: string, method: string) => fetch(`${door.url}/v1/hosts/${id}/drain`, { method });
  const answer = await drain("host-1", "POST");
  assert.deepEqual([answer.status, ((await answer.json()) as { id: string }).id, [...asked]], [202, "host-1", ["host-1"]]);
  assert.equal((await drain("host-1", "DELETE")).status, 202);
  assert.deepEqual([...asked], []);
  assert.equal((await drain("nobody", "POST")).status, 404);
  assert.equal((await drain("nobody", "DELETE")).status, 404);
  asked.add("gone");
  assert.equal((await drain("gone", "DELETE")).status, 202, "it would come back and take no jobs");
  assert.equal((await drain("host-1", "GET")).status, 405);
  assert.deepEqual(
    door.logged.filter(({ event }) => event.startsWith("drain")).map(({ event, fields }) => [event, fields?.host]),
    [
      ["drain_asked", "host-1"],
      ["drain_lifted", "host-1"],
      ["drain_lifted", "nobody"],
      ["drain_lifted", "gone"],
    ],
  );
});

const scriptText = "export const answer = 42;\n".repeat(100);

async function consoleFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-console-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await mkdir(path.join(folder, "assets"));
  await writeFile(path.join(folder, "index.html"), "<!doctype html><title>Switchyard</title>");
  await writeFile(path.join(folder, "assets/index-abc.js"), scriptText);
  await writeFile(path.join(folder, "assets/index-abc.js.gz"), gzipSync(scriptText));
  await writeFile(path.join(folder, "secret.txt"), "not to be served");
  return folder;
}

test("the console is served under a policy that allows nothing foreign, its assets compressed and for ever", async (t) => {
  const { raw, url } = await openDoor(t, {}, { consoleFolder: await consoleFolder(t) });
  const page = await fetch(`${url}/`);
  assert.deepEqual([page.status, page.headers.get("cache-control")], [200, "no-cache"]);
  assert.match(page.headers.get("content-type") ?? "", /^text\/html/);
  const policy = page.headers.get("content-security-policy") ?? "";
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe|\*|https?:/);
  assert.equal(page.headers.get("x-content-type-options"), "nosniff");
  const script = await raw("GET /assets/index-abc.js HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n");
  assert.match(script, /^HTTP\/1.1 200/);
  assert.match(script, /content-encoding: gzip/i);
  assert.match(script, /cache-control: public, max-age=31536000, immutable/i);
  assert.match(script, /content-security-policy/i);
  const plain = await fetch(`${url}/assets/index-abc.js`, { headers: { "accept-encoding": "identity" } });
  assert.equal((await plain.text()).length, scriptText.length);
  for (const name of ["/assets/none.js", "/assets/../secret.txt", "/assets/%2e%2e/secret.txt", "/assets/..%2fsecret.txt", "/secret.txt"]) {
    const answer = await raw(`GET ${name} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    assert.match(answer, /^HTTP\/1.1 40[0-9]/, name);
    assert.doesNotMatch(answer, /not to be served/, name);
  }
  assert.equal((await fetch(`${url}/`, { method: "HEAD" })).status, 200);
  assert.equal((await fetch(`${url}/`, { method: "POST" })).status, 405);
});

test("where no console was built there is none", async (t) => {
  const { url } = await openDoor(t);
  assert.equal((await fetch(`${url}/`)).status, 404);
});
