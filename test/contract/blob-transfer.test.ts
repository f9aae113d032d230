/** Large values on their way between hosts and coordinators: what the door takes and refuses, and downloads that break off. */

import assert from "node:assert/strict";
import fs from "node:fs";
import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { systemClock } from "../../worker/src/clock.ts";
import { HttpBlobs } from "../../worker/src/runner/http-blobs.ts";
import { codeOf, content, digestOf, keepMs, maxBodyBytes, noToken, openFolderPlace } from "../support/blob-places.ts";
import { startScriptedServer } from "../support/scripted-server.ts";

const folderPlace = await openFolderPlace();
const { files, root, url } = folderPlace;
after(() => folderPlace.close());

test("the door keeps only what bears its own digest, and refuses what is malformed or too large", async () => {
  const bytes = content(1_000);
  const put = (sha256: string, query: string, body: BodyInit = bytes as Uint8Array<ArrayBuffer>): Promise<Response> =>
    fetch(`${url}/v1/blobs/${sha256}${query}`, { method: "PUT", body, headers: { "content-type": "application/octet-stream" } });
  const wrong = digestOf(content());
  const refusals: [Response, number, string][] = [
    [await put(wrong, "?keep_ms=1000"), 400, "invalid_request"],
    [await put("ABC", "?keep_ms=1000"), 400, "invalid_request"],
    [await put(digestOf(bytes), ""), 400, "invalid_request"],
    [await put(digestOf(bytes), "?keep_ms=-5"), 400, "invalid_request"],
    [await put(wrong, "?keep_ms=1000", content(16 * maxBodyBytes + 1) as Uint8Array<ArrayBuffer>), 413, "payload_too_large"],
    [await fetch(`${url}/v1/blobs/${wrong}`), 404, "not_found"],
    [await fetch(`${url}/v1/blobs/..%2F..%2Ffolder-id`), 400, "invalid_request"],
  ];
  for (const [answer, status, code] of refusals) {
    assert.equal(answer.status, status);
    assert.equal(((await answer.json()) as { code: string }).code, code);
  }
  assert.deepEqual(await files(wrong), []);
  assert.deepEqual(await readdir(path.join(root, "unfinished")), []);
  assert.equal((await put(digestOf(bytes), "?keep_ms=1000")).status, 201);
  const head = await fetch(`${url}/v1/blobs/${digestOf(bytes)}`, { method: "HEAD" });
  assert.equal(head.headers.get("content-length"), "1000");
});

test("a coordinator that is gone or turns a host away is an unavailable store, not a lost value", async () => {
  const reference = { sha256: digestOf(content()), sizeBytes: 10 };
  const away = new HttpBlobs("http://127.0.0.1:1", noToken);
  await assert.rejects(away.get(reference), codeOf("store_unavailable"));
  await assert.rejects(away.put(content(10), { keepMs }), codeOf("store_unavailable"));
  await assert.rejects(new HttpBlobs(url, noToken).put(content(10), { keepMs: 0 }), codeOf("store_unavailable"));
});

test("what goes wrong between a host and a coordinator is told without the coordinator's address, which the log has", async () => {
  await using broken = await startScriptedServer((_request, response) => {
    response.writeHead(503).end("the disk at /data/blobs is full");
  });
  await using lying = await startScriptedServer((_request, response) => void response.end(content(9)));
  const reference = { sha256: digestOf(content()), sizeBytes: 10 };
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-download-"));
  const file = path.join(folder, "file");
  for (const [at, act, detail, whole] of [
    ["http://127.0.0.1:2", "get", "a coordinator does not hand over large values: ECONNREFUSED", /127\.0\.0\.1:2 .*ECONNREFUSED/],
    ["http://nobody.invalid:80", "put", /^a coordinator does not hand over large values: (ENOTFOUND|EAI_AGAIN)$/, /nobody\.invalid/],
    ["no address", "get", "a coordinator does not hand over large values: ERR_INVALID_URL", /no address/],
    [broken.url, "get", "a coordinator answered 503 for a large value", /127\.0\.0\.1.*503.*\/data\/blobs/],
    [broken.url, "put", "a coordinator answered 503 for a large value", /127\.0\.0\.1.*503.*\/data\/blobs/],
    [lying.url, "download", /^a coordinator handed over other bytes than those of [0-9a-f]{64}$/, /127\.0\.0\.1.*other bytes/],
  ] as const) {
    const logged: string[] = [];
    const blobs = new HttpBlobs(at, noToken, { trouble: (message) => logged.push(message) });
    const acts = {
      get: () => blobs.get(reference),
      put: () => blobs.put(content(10), { keepMs }),
      download: () => blobs.download({ sha256: digestOf(content()), sizeBytes: 9 }, file),
    };
    await assert.rejects(acts[act](), { code: "store_unavailable", message: detail });
    assert.match(logged.join("\n"), whole);
  }
  await rm(folder, { recursive: true });
});

test("a coordinator that says nothing is given up by the host's clock", async () => {
  await using silent = await startScriptedServer(() => {});
  const hasty = { ...systemClock, after: (_ms: number, run: () => void) => systemClock.after(50, run) };
  const away = new HttpBlobs(silent.url, noToken, { clock: hasty });
  await assert.rejects(away.get({ sha256: digestOf(content()), sizeBytes: 10 }), codeOf("store_unavailable"));
});

test("a download that is cut off again and again goes on where it stopped, and only what is whole and right stays", async () => {
  const bytes = content(1_000_000);
  const reference = { sha256: digestOf(bytes), sizeBytes: bytes.length };
  const asked: (string | undefined)[] = [];
  await using cutting = await startScriptedServer((request, response, count) => {
    asked.push(request.headers.range);
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    response.writeHead(from > 0 ? 206 : 200, { "content-length": bytes.length - from });
    if (count > 4) return void response.end(bytes.subarray(from));
    response.write(bytes.subarray(from, from + 200_000), () => setImmediate(() => response.destroy()));
  });
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-download-"));
  const file = path.join(folder, "file");
  await new HttpBlobs(cutting.url, noToken).download(reference, file);
  assert.deepEqual(new Uint8Array(await readFile(file)), bytes);
  assert.equal(asked.length, 5);
  assert.equal(asked[0], undefined);
  const starts = asked.slice(1).map((range) => Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1]));
  assert.ok(
    starts.every((start, at) => start > 0 && start >= (starts[at - 1] ?? 0)),
    starts.join(),
  );

  await using lying = await startScriptedServer((_request, response) => void response.end(content(bytes.length)));
  const other = path.join(folder, "other");
  await assert.rejects(new HttpBlobs(lying.url, noToken).download(reference, other), codeOf("store_unavailable"));
  assert.ok(!(await readdir(folder)).includes("other"));
  const hasty = { ...systemClock, sleep: async () => {} };
  await assert.rejects(
    new HttpBlobs("http://127.0.0.1:1", noToken, { clock: hasty }).download(reference, other),
    codeOf("store_unavailable"),
  );
  await rm(folder, { recursive: true });
});

const pages: [what: string, page: { bytes: (count: number) => number; isTold: boolean }][] = [
  ["pages that are too short", { bytes: () => 20, isTold: true }],
  ["pages that end too early, without their size", { bytes: () => 20, isTold: false }],
  ["empty pages", { bytes: () => 0, isTold: false }],
  ["a long and a short page in turn", { bytes: (count: number) => 20 + (count % 2), isTold: false }],
  ["pages that are too long", { bytes: () => 200, isTold: true }],
];
for (const [what, page] of pages) {
  test(`a download for which a server answers with ${what} is given up after some pauses, and what was there stays`, async (t) => {
    const bytes = content(100);
    await using server = await startScriptedServer((_request, response, count) => {
      if (page.isTold) response.writeHead(200, { "content-length": page.bytes(count) });
      response.write("");
      response.end("x".repeat(page.bytes(count)));
    });
    const folder = await mkdtemp(path.join(tmpdir(), "switchyard-download-"));
    t.after(() => rm(folder, { recursive: true }));
    const file = path.join(folder, "file");
    if (page.isTold) await writeFile(file, bytes.subarray(0, 60));
    const slept: number[] = [];
    const sleep = async (ms: number): Promise<void> => {
      slept.push(ms);
      if (slept.length > 20) throw new Error("it is asked for ever");
    };
    const blobs = new HttpBlobs(server.url, noToken, { clock: { ...systemClock, sleep } });
    await assert.rejects(blobs.download({ sha256: digestOf(bytes), sizeBytes: bytes.length }, file), {
      code: "store_unavailable",
      message: /sent another size than 100 bytes/,
    });
    assert.equal(server.seen.length, slept.length + 1);
    assert.deepEqual(slept.slice(-3), [200, 400, 800]);
    if (page.isTold) assert.deepEqual(new Uint8Array(await readFile(file)), bytes.subarray(0, 60));
  });
}

test("a download that a full disk cuts off is told as that, at once, and as no fault of the coordinator", {
  skip: fs.existsSync("/dev/full") ? false : "this system has no /dev/full",
}, async () => {
  let asked = 0;
  await using server = await startScriptedServer((_request, response) => {
    asked++;
    response.end(content(100_000));
  });
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-download-"));
  const file = path.join(folder, "file");
  await symlink("/dev/full", file);
  const download = new HttpBlobs(server.url, noToken).download({ sha256: digestOf(content(10)), sizeBytes: 100_000 }, file);
  await assert.rejects(download, (error: NodeJS.ErrnoException) => error.code === "ENOSPC");
  assert.equal(asked, 1);
  await rm(folder, { recursive: true });
});
