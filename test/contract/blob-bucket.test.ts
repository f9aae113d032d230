/** A bucket of large values: sweeps beside puts, damage, large files in pieces, and buckets that are away, full or refuse. */

import assert from "node:assert/strict";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { Readable } from "node:stream";
import { after, test } from "node:test";
import type { SwitchyardError } from "@switchyard/protocol";
import { S3Blobs } from "../../coordinator/src/adapters/s3-blobs.ts";
import type { Clock } from "../../coordinator/src/clock.ts";
import { bucketFault, openBlobs } from "../../coordinator/src/open-blobs.ts";
import { systemClock } from "../../worker/src/clock.ts";
import { clock, codeOf, content, digestOf, keepMs, log, openBucketPlace, same, time } from "../support/blob-places.ts";
import { startGate, testS3Credentials } from "../support/s3.ts";
import { startScriptedServer } from "../support/scripted-server.ts";

const { close, place: bucketPlace, s3, skip, spool, within: inBucket } = await openBucketPlace();
after(close);

for (const [moment, isHeld, copies] of [
  ["has said that they leave, and has not deleted them", (method: string, key: string) => method === "DELETE" && key.includes("data."), 1],
  ["is about to say that they leave", (method: string, key: string) => method === "PUT" && key.includes("leaving."), 1],
] as const) {
  test(`bytes in a bucket that are put while a sweep ${moment} are there afterwards`, { skip, timeout: 30_000 }, async () => {
    const { files, open, owner } = bucketPlace!;
    const held = Promise.withResolvers<void>();
    const free = Promise.withResolvers<void>();
    const bytes = content(20_000);
    const sha256 = digestOf(bytes);
    let isFirst = true;
    await using gate = await startGate(s3.endpoint, async (method, key) => {
      if (!isFirst || !key.includes(sha256) || !isHeld(method, key)) return;
      isFirst = false;
      held.resolve();
      await free.promise;
    });
    const sweeper = inBucket({ ...s3, endpoint: gate.url }).open(clock);
    const reference = await open(clock).put(bytes, { keepMs });
    time.nowMs += 10 * keepMs;
    const sweep = sweeper.sweep(time.nowMs);
    await held.promise;
    await owner.put(bytes, { keepMs });
    free.resolve();
    await sweep;
    assert.ok(same(await owner.get(reference), bytes));
    assert.equal((await files(reference.sha256)).length, copies);
    // and it was swept in earnest: what nobody keeps goes, marks and all
    time.nowMs += 200 * 60_000;
    await owner.sweep(time.nowMs);
    await owner.sweep(time.nowMs);
    const left = await readdir(path.join(s3.folder, "some/where/blobs", reference.sha256)).catch(() => []);
    assert.deepEqual(left, []);
  });
}

function bucketAt(endpoint: string, parts: { clock?: Clock; told?: string[] } = {}): S3Blobs {
  Object.assign(process.env, testS3Credentials);
  const place = { bucket: "values", prefix: "", endpoint, region: "us-east-1", pathStyle: true };
  const warn = (_event: string, fields: { message?: unknown } = {}): void => void parts.told?.push(String(fields.message));
  return new S3Blobs({ place, folder: spool, clock: parts.clock ?? clock, log: { ...log, warn } });
}

test("a bucket that is away is an unavailable store, told once with what to do, and callers are told no address", async () => {
  const told: string[] = [];
  const away = bucketAt("http://127.0.0.1:1", { told });
  const reference = { sha256: digestOf(content(10)), sizeBytes: 10 };
  for (const use of [
    () => away.get(reference),
    () => away.put(content(10), { keepMs }),
    () => away.sweep(time.nowMs),
    () => away.open(reference.sha256),
  ]) {
    await assert.rejects(use(), (error: SwitchyardError) => codeOf("store_unavailable")(error) && !error.message.includes("127.0.0.1"));
  }
  assert.deepEqual(told, [
    "http://127.0.0.1:1 does not serve bucket values (ECONNREFUSED): start it, or correct SWITCHYARD_S3_ENDPOINT (--s3-endpoint)",
  ]);
  assert.equal((await away.check())?.isAway, true);
  assert.deepEqual(await readdir(spool), []);
});

test("a bucket that says nothing is given up by the coordinator's clock", async () => {
  await using silent = await startScriptedServer(() => {});
  const hasty = { ...clock, after: (_ms: number, run: () => void) => systemClock.after(50, run) };
  const away = bucketAt(silent.url, { clock: hasty });
  await assert.rejects(away.get({ sha256: digestOf(content(10)), sizeBytes: 10 }), codeOf("store_unavailable"));
  await assert.rejects(away.put(content(10), { keepMs }), codeOf("store_unavailable"));
});

test("downloads from a bucket that nobody reads on hold up no other request, however many they are", {
  skip,
  timeout: 60_000,
}, async () => {
  const { owner } = bucketPlace!;
  const bytes = content(4_000_000);
  const reference = await owner.put(bytes, { keepMs });
  const hasty = { ...clock, after: (_ms: number, run: () => void) => systemClock.after(30_000, run) };
  const blobs = inBucket(s3).open(hasty);
  const opened = await Promise.all(Array.from({ length: 120 }, () => blobs.open(reference.sha256)));
  try {
    const other = content();
    assert.ok(same(await blobs.get(await blobs.put(other, { keepMs })), other));
    assert.equal(opened.filter((found) => found !== undefined).length, 120);
  } finally {
    for (const found of opened) (found!.stream as Readable).destroy();
  }
});

test("a value that comes damaged from a bucket once is read again, and only what is damaged there is deleted", { skip }, async () => {
  const { files, owner } = bucketPlace!;
  const bytes = content();
  const reference = await owner.put(bytes, { keepMs });
  const [file] = await files(reference.sha256);
  let reads = 0;
  await using gate = await startGate(s3.endpoint, async (method, key) => {
    if (method === "GET" && key.includes("data.")) await writeFile(file!, reads++ === 0 ? content() : bytes);
  });
  assert.ok(
    same(
      await inBucket({ ...s3, endpoint: gate.url })
        .open(clock)
        .get(reference),
      bytes,
    ),
  );
  assert.ok(reads > 1);
  assert.equal(await owner.get({ ...reference, sizeBytes: 10 }), undefined, "a size that it never had");
  assert.ok(same(await owner.get(reference), bytes));
  await writeFile(file!, content());
  assert.equal(await owner.get(reference), undefined);
  assert.deepEqual(await files(reference.sha256), []);
});

test("a file that is sent again takes the place of what is damaged in a bucket, and is kept as long as that was", { skip }, async () => {
  const { files, owner } = bucketPlace!;
  for (const damage of [content(), content(1_000)]) {
    const bytes = content();
    const reference = await owner.put(bytes, { keepMs: 10 * keepMs });
    for (const file of await files(reference.sha256)) await writeFile(file, damage);
    assert.deepEqual(await owner.receive(Readable.from([bytes]), { keepMs }), reference);
    const left = await files(reference.sha256);
    assert.equal(left.length, 1);
    time.nowMs += 9 * keepMs;
    await owner.sweep(time.nowMs);
    assert.ok(same(await readFile(left[0]!), bytes));
    await owner.receive(Readable.from([bytes]), { keepMs });
    assert.deepEqual(await files(reference.sha256), left, "what is whole stays as it is");
  }
});

test("a file that takes hours to reach a bucket is not taken for abandoned, and is kept from when it was whole", { skip }, async () => {
  let passedMs = 0;
  const late = { ...systemClock, nowMs: () => Date.now() + passedMs };
  const sweeper = bucketPlace!.open(late);
  await using gate = await startGate(s3.endpoint, async (method, key) => {
    if (method !== "PUT" || !/partNumber=2\b/.test(key)) return;
    passedMs += 5 * 3_600_000;
    await sweeper.sweep(late.nowMs());
  });
  const bytes = content(17 << 20);
  const reference = await inBucket({ ...s3, endpoint: gate.url })
    .open(late)
    .receive(Readable.from([bytes]), { keepMs });
  assert.ok(passedMs > 0);
  await sweeper.sweep(late.nowMs());
  assert.ok(same(await sweeper.get(reference), bytes));
});

test("a large file that a sweep is about to delete is kept on, copied within the bucket piece by piece", {
  skip,
  timeout: 60_000,
}, async () => {
  const { files } = bucketPlace!;
  const bytes = new Uint8Array(150 << 20);
  for (let at = 0; at < bytes.length; at += 1 << 20) bytes[at] = at >> 20;
  const reference = { sha256: digestOf(bytes), sizeBytes: bytes.length };
  const asked: string[] = [];
  await using gate = await startGate(s3.endpoint, async (method, key) => void asked.push(`${method} ${key}`));
  const blobs = inBucket({ ...s3, endpoint: gate.url }).open(clock);
  const folder = path.join(s3.folder, "some/where/blobs", reference.sha256);
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, `data.first.${Math.ceil(time.nowMs / 60_000)}`), bytes);
  await writeFile(path.join(folder, "leaving.first"), "");
  assert.equal(await blobs.keep(reference, { keepMs }), true);
  assert.equal(asked.filter((each) => /^PUT .*partNumber=/.test(each)).length, 3);
  const [copied] = (await files(reference.sha256)).filter((file) => !file.includes("data.first"));
  assert.ok(same(await readFile(copied!), bytes));
  await rm(folder, { recursive: true });
});

test("a bucket that is full, refuses or belongs elsewhere is told for what it is", async () => {
  let [status, code] = [0, ""];
  await using scripted = await startScriptedServer((_request, response) => {
    response.writeHead(status, { "content-type": "application/xml" });
    response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>no</Message></Error>`);
  });
  const cases = [
    [507, "InsufficientStorage", "store_full", undefined],
    [403, "AccessDenied", "store_unavailable", /^allow these credentials s3:ListBucket, /],
    [403, "InvalidAccessKeyId", "store_unavailable", /^check AWS_ACCESS_KEY_ID/],
    [404, "NoSuchBucket", "store_unavailable", /^create it, or correct SWITCHYARD_BLOBS/],
    [404, "XAdminUserNotFound", "store_unavailable", /^check AWS_ACCESS_KEY_ID/],
    [400, "AuthorizationHeaderMalformed", "store_unavailable", /^correct SWITCHYARD_S3_REGION/],
  ] as const;
  for (const [each, name, refusal, fix] of cases) {
    [status, code] = [each, name];
    const bucket = bucketAt(scripted.url);
    await assert.rejects(bucket.put(content(10), { keepMs }), codeOf(refusal), name);
    const fault = await bucket.check();
    if (fix === undefined) continue;
    assert.match(fault!.fix, fix);
    assert.equal(fault!.isAway, false);
  }
});

test("a bucket is tried before it is relied on: one that is not there is refused, one that is away is waited for", { skip }, async () => {
  const { bucket, endpoint } = s3;
  const place = { bucket, prefix: "tried", endpoint, region: "us-east-1", pathStyle: true };
  const parts = { dataFolder: spool, clock, log };
  assert.equal(await bucketFault({ ...parts, blobs: place }), undefined);
  const opened = await openBlobs({ ...parts, blobs: place });
  assert.ok(await opened.blobs.get(await opened.blobs.put(content(10), { keepMs })));
  await assert.rejects(
    openBlobs({ ...parts, blobs: { ...place, bucket: "not-there" } }),
    /^Error: there is no bucket not-there at http:\S+: create it/,
  );
  const away = { ...place, endpoint: "http://127.0.0.1:1" };
  assert.equal((await bucketFault({ ...parts, blobs: away }))?.isAway, true);
  await assert.rejects((await openBlobs({ ...parts, blobs: away })).blobs.id(), codeOf("store_unavailable"));
});

test("a large file whose pieces get lost in the bucket is refused, and not taken for stored", async () => {
  const asked: string[] = [];
  await using forgetful = await startScriptedServer(({ method, url }, response) => {
    asked.push(`${method} ${/[?&](uploads|partNumber|list-type|uploadId)/.exec(url)?.[1] ?? ""}`);
    const xml = (status: number, text: string): void => void response.writeHead(status, { "content-type": "application/xml" }).end(text);
    if (method === "GET") return xml(200, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>");
    if (method === "POST") return xml(200, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>");
    if (method === "PUT") return xml(404, "<Error><Code>NoSuchUpload</Code><Message>no</Message></Error>");
    response.writeHead(204).end();
  });
  async function* stream(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < 17; at++) yield new Uint8Array(1 << 20);
  }
  await assert.rejects(bucketAt(forgetful.url).receive(stream(), { keepMs }), codeOf("store_unavailable"));
  assert.ok(asked.includes("PUT partNumber") && asked.includes("DELETE uploadId"), asked.join());
  assert.deepEqual(await readdir(spool), []);
});
