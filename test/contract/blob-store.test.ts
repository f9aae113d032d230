/** Every store of large values and every way to it, the coordinator's and the host's: the same sentences. Then what only a folder or a bucket does. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { after, test } from "node:test";
import { type BlobReference, blobFolder, SwitchyardError } from "@switchyard/protocol";
import Fastify, { type FastifyInstance } from "fastify";
import { FilesystemBlobs as OwnedFolder } from "../../coordinator/src/adapters/filesystem-blobs.ts";
import { S3Blobs } from "../../coordinator/src/adapters/s3-blobs.ts";
import { openAccess } from "../../coordinator/src/application/access.ts";
import type { Clock } from "../../coordinator/src/clock.ts";
import type { DoorContext } from "../../coordinator/src/doors/door-context.ts";
import { addGuards } from "../../coordinator/src/doors/guard.ts";
import { sendError } from "../../coordinator/src/doors/problem.ts";
import { addBlobs } from "../../coordinator/src/doors/v1-blobs.ts";
import { bucketFault, openBlobs } from "../../coordinator/src/open-blobs.ts";
import type { BlobStore } from "../../coordinator/src/ports/blob-store.ts";
import { systemClock } from "../../worker/src/clock.ts";
import type { Blobs } from "../../worker/src/runner/blobs.ts";
import { FilesystemBlobs as SharedFolder } from "../../worker/src/runner/filesystem-blobs.ts";
import { HttpBlobs } from "../../worker/src/runner/http-blobs.ts";
import { startGate, startTestS3, type TestS3, testS3Credentials } from "../support/s3.ts";
import { startScriptedServer } from "../support/scripted-server.ts";

const keepMs = 60_000;
const noToken = async (): Promise<null> => null;
const maxBodyBytes = 100_000;
let nowMs = Date.now();
const clock = { ...systemClock, nowMs: () => nowMs };

interface Place {
  /** Another one on the same bytes, by another clock. */
  open(clock: Clock): BlobStore;
  /** Where copies of the bytes lie. */
  files(sha256: string): Promise<string[]>;
  /** Files that are not finished. */
  unfinished: string;
  owner: BlobStore;
  door: FastifyInstance;
  url: string;
}

const log = { info() {}, warn() {}, error() {} };
const root = await mkdtemp(path.join(tmpdir(), "switchyard-blobs-"));
const owner = new OwnedFolder({ root, clock });

async function placed(parts: Pick<Place, "open" | "files" | "unfinished">): Promise<Place> {
  const [own, door] = [parts.open(clock), Fastify()];
  door.removeAllContentTypeParsers();
  door.addContentTypeParser("*", (_request, _payload, done) => done(null, undefined));
  door.setErrorHandler((error, request, reply) => sendError(error, request, reply, log));
  addGuards(door, openAccess);
  addBlobs(door, { config: { maxBodyBytes } } as DoorContext, own);
  return { ...parts, owner: own, door, url: await door.listen({ host: "127.0.0.1", port: 0 }) };
}

async function filesIn(folder: string, start: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => name.startsWith(start)).map((name) => path.join(folder, name));
}

const files = (sha256: string): Promise<string[]> => filesIn(path.join(root, blobFolder(sha256)), sha256);
const folderPlace = await placed({ open: (clock) => new OwnedFolder({ root, clock }), files, unfinished: path.join(root, "unfinished") });
const { url } = folderPlace;

const s3 = await startTestS3();
const spool = await mkdtemp(path.join(tmpdir(), "switchyard-spool-"));
const bucketPlace = "missing" in s3 ? undefined : await placed(inBucket(s3));

function inBucket({ bucket, endpoint, env, folder }: TestS3): Pick<Place, "open" | "files" | "unfinished"> {
  Object.assign(process.env, env);
  const place = { bucket, prefix: "some/where", endpoint, region: "us-east-1", pathStyle: true };
  return {
    open: (clock) => new S3Blobs({ place, folder: spool, clock, log }),
    files: (sha256) => filesIn(path.join(folder, "some/where/blobs", sha256), "data."),
    unfinished: spool,
  };
}

after(async () => {
  await folderPlace.door.close();
  await bucketPlace?.door.close();
  if (!("missing" in s3)) await s3.stop();
  await rm(root, { recursive: true, force: true });
  await rm(spool, { recursive: true, force: true });
});

const throughDoor = ({ url }: Place) => new HttpBlobs(url, noToken);
const ways: Record<string, { place: Place | undefined; open: (place: Place) => Blobs }> = {
  "the coordinator": { place: folderPlace, open: ({ owner }) => owner },
  "a host with the folder": { place: folderPlace, open: () => new SharedFolder({ root, clock }) },
  "a host without the folder": { place: folderPlace, open: throughDoor },
  "a coordinator with a bucket": { place: bucketPlace, open: ({ owner }) => owner },
  "a host beside a bucket": { place: bucketPlace, open: throughDoor },
};
const places: Record<string, Place | undefined> = { folder: folderPlace, bucket: bucketPlace };

function content(sizeBytes = 300_000): Uint8Array {
  return new Uint8Array(randomBytes(sizeBytes));
}

/** A failing comparison of such long arrays would take minutes to be written out. */
const same = (left: Uint8Array | undefined, right: Uint8Array): boolean => left !== undefined && Buffer.compare(left, right) === 0;
const digestOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const codeOf = (code: string) => (error: unknown) => error instanceof SwitchyardError && error.code === code;

const skip = "missing" in s3 ? s3.missing : false;

for (const [who, { open: openAt, place: found }] of Object.entries(ways)) {
  const how = { timeout: 60_000, skip: found ? false : skip };
  const place = found as Place;
  const { owner, files } = place ?? folderPlace;
  const open = (): Blobs => openAt(place);

  test(`what ${who} puts can be read by all, at an aligned address`, how, async () => {
    const bytes = content();
    const reference = await open().put(bytes, { keepMs });
    assert.deepEqual(reference, { sha256: digestOf(bytes), sizeBytes: bytes.length });
    for (const other of Object.values(ways)) {
      if (other.place !== place) continue;
      const read = await other.open(place).get(reference);
      assert.ok(read && same(read, bytes));
      assert.equal(read.byteOffset % 8, 0);
    }
  });

  test(`the same bytes put twice by ${who} lie in the place once`, how, async () => {
    const bytes = content();
    const first = await open().put(bytes, { keepMs });
    assert.deepEqual(await open().put(bytes, { keepMs }), first);
    assert.equal((await files(first.sha256)).length, 1);
  });

  test(`${who} finds nothing where there is nothing, where bytes are damaged, or where some are missing`, how, async () => {
    assert.ok((await open().get({ sha256: digestOf(content()), sizeBytes: 300_000 })) === undefined);
    for (const damage of [content(), content(1_000)]) {
      const reference = await owner.put(content(), { keepMs });
      for (const file of await files(reference.sha256)) await writeFile(file, damage);
      assert.ok((await open().get(reference)) === undefined);
    }
  });

  test(`bytes that were damaged can be put again through ${who} once that was noticed`, how, async () => {
    const bytes = content();
    const reference = await open().put(bytes, { keepMs });
    for (const file of await files(reference.sha256)) await writeFile(file, content());
    assert.ok((await owner.get(reference)) === undefined);
    await open().put(bytes, { keepMs });
    assert.ok(same(await open().get(reference), bytes));
  });

  test(`a put by ${who} prolongs a blob's life and never shortens it`, how, async () => {
    const bytes = content();
    const reference = await open().put(bytes, { keepMs: 10 * keepMs });
    await open().put(bytes, { keepMs });
    nowMs += 9 * keepMs;
    await owner.sweep();
    assert.ok(same(await open().get(reference), bytes), "shortened");
    await open().put(bytes, { keepMs: 10 * keepMs });
    nowMs += 9 * keepMs;
    await owner.sweep();
    assert.ok(same(await open().get(reference), bytes), "not prolonged");
    nowMs += 5 * keepMs;
    await owner.sweep();
    assert.ok((await open().get(reference)) === undefined);
  });

  test(`a sweep at any moment takes nothing that ${who} has just put`, how, async () => {
    const sweepers = [place.open(systemClock), place.open(systemClock)];
    let [sweeping, deleted] = [true, 0];
    const sweeps = sweepers.map(async (sweeper) => {
      while (sweeping) {
        const swept = await sweeper.sweep();
        deleted += swept.deleted;
      }
    });
    const lost: number[] = [];
    try {
      for (let turn = 0; turn < 60; turn++) {
        // long expired when it is put, so that sweeps race with the next put of the very same bytes
        const bytes = content(20_000);
        await sweepers[0]!.put(bytes, { keepMs: -300_000 });
        const reference: BlobReference = await open().put(bytes, { keepMs });
        if (!(await open().get(reference))) lost.push(turn);
      }
    } finally {
      sweeping = false;
    }
    await Promise.all(sweeps);
    assert.deepEqual(lost, []);
    // a bucket's sweeps take longer; what happens at each of their moments is tested below
    assert.ok(deleted > (place === bucketPlace ? 0 : 10), `the sweeps deleted only ${deleted} files: nothing was raced`);
  });
}

for (const [where, found] of Object.entries(places)) {
  const how = { skip: found ? false : skip };
  const { owner, files, unfinished, url } = found ?? folderPlace;

  test(`what is there can be kept on without its bytes, and what is gone cannot (${where})`, how, async () => {
    const reference = await owner.put(content(), { keepMs });
    assert.equal(await owner.keep(reference, { keepMs: 10 * keepMs }), true);
    nowMs += 5 * keepMs;
    await owner.sweep();
    assert.ok(await owner.get(reference));
    nowMs += 10 * keepMs;
    await owner.sweep();
    assert.equal(await owner.keep(reference, { keepMs }), false);
  });

  test(`what is synced is what was put by anyone, and what is gone meanwhile is no fault (${where})`, how, async () => {
    const bytes = content(20_000);
    const reference = await new HttpBlobs(url, noToken).put(bytes, { keepMs });
    await owner.sync(reference);
    assert.deepEqual(await owner.get(reference), bytes);
    await owner.sync({ sha256: digestOf(content(10)), sizeBytes: 10 });
  });

  test(`the door hands over the rest of a blob, and says so when there is none (${where})`, how, async () => {
    const bytes = content(1_000);
    await owner.put(bytes, { keepMs });
    const get = (range: string): Promise<Response> => fetch(`${url}/v1/blobs/${digestOf(bytes)}`, { headers: { range } });
    const rest = await get("bytes=600-");
    assert.deepEqual([rest.status, rest.headers.get("content-range")], [206, "bytes 600-999/1000"]);
    assert.deepEqual(await rest.bytes(), bytes.slice(600));
    assert.equal((await get("bytes=1000-")).status, 416);
    const whole = await get("bytes=0-99,200-299");
    assert.deepEqual([whole.status, (await whole.bytes()).length], [200, 1_000]);
  });

  test(`a stream is kept under its own digest, after it was looked at, or not at all (${where})`, how, async () => {
    const bytes = content(3_000_000);
    const refuse = async (): Promise<void> => {
      throw new SwitchyardError("invalid_request", "no");
    };
    await assert.rejects(owner.receive(streamOf(bytes), { keepMs, inspect: refuse }), codeOf("invalid_request"));
    assert.deepEqual(await files(digestOf(bytes)), []);
    let seen = 0;
    const kept = await owner.receive(streamOf(bytes), {
      keepMs,
      inspect: async ({ file, sha256, sizeBytes }) => {
        assert.equal(sha256, digestOf(bytes));
        assert.equal((await stat(file)).size, sizeBytes);
        seen = sizeBytes;
      },
    });
    assert.deepEqual(kept, { sha256: digestOf(bytes), sizeBytes: seen });
    assert.deepEqual(await owner.get(kept), bytes);
    assert.deepEqual(await readdir(unfinished), []);
  });
}

async function* streamOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 100_000) yield bytes.subarray(at, at + 100_000);
}

for (const [how, again] of [
  ["put", (bytes: Uint8Array) => owner.put(bytes, { keepMs })],
  ["received", (bytes: Uint8Array) => owner.receive(streamOf(bytes), { keepMs })],
] as const) {
  for (const [what, damage] of [
    ["others of that length", content()],
    ["fewer", content(1_000)],
  ] as const) {
    test(`the same bytes that are ${how} again mend a folder that has ${what}, and are kept as long as those were`, async () => {
      const bytes = content();
      const reference = await owner.put(bytes, { keepMs });
      await owner.keep(reference, { keepMs: 10 * keepMs });
      const names = await files(reference.sha256);
      assert.equal(names.length, 2);
      // two files, both damaged
      await rm(names[0]!);
      for (const name of names) await writeFile(name, damage);
      assert.deepEqual(await again(bytes), reference);
      const left = await files(reference.sha256);
      assert.equal(left.length, 1);
      assert.ok(same(await readFile(left[0]!), bytes));
      nowMs += 9 * keepMs;
      await owner.sweep();
      assert.ok(same(await owner.get(reference), bytes));
    });
  }
}

for (const [where, found] of Object.entries(places)) {
  test(`a stream that comes for longer than it is kept is kept from its end on (${where})`, { skip: found ? false : skip }, async () => {
    const { owner } = found!;
    const bytes = content(1_000);
    async function* slowly(): AsyncGenerator<Uint8Array> {
      yield bytes.subarray(0, 500);
      nowMs += 10 * keepMs;
      yield bytes.subarray(500);
    }
    const reference = await owner.receive(slowly(), { keepMs });
    await owner.sweep();
    assert.ok(same(await owner.get(reference), bytes));
  });
}

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
    await using gate = await startGate((s3 as TestS3).endpoint, async (method, key) => {
      if (!isFirst || !key.includes(sha256) || !isHeld(method, key)) return;
      isFirst = false;
      held.resolve();
      await free.promise;
    });
    const sweeper = inBucket({ ...(s3 as TestS3), endpoint: gate.url }).open(clock);
    const reference = await open(clock).put(bytes, { keepMs });
    nowMs += 10 * keepMs;
    const sweep = sweeper.sweep();
    await held.promise;
    await owner.put(bytes, { keepMs });
    free.resolve();
    await sweep;
    assert.ok(same(await owner.get(reference), bytes));
    assert.equal((await files(reference.sha256)).length, copies);
    // and it was swept in earnest: what nobody keeps goes, marks and all
    nowMs += 200 * 60_000;
    await owner.sweep();
    await owner.sweep();
    const left = await readdir(path.join((s3 as TestS3).folder, "some/where/blobs", reference.sha256)).catch(() => []);
    assert.deepEqual(left, []);
  });
}

for (const [code, outcome] of [
  ["EMLINK", "it is copied"],
  ["EPERM", "it is copied"],
  ["ENOENT", "it is gone"],
] as const) {
  test(`a blob whose name cannot be linked with ${code} is kept on as well as it can be: ${outcome}`, async (context) => {
    const reference = await owner.put(content(), { keepMs });
    const link = context.mock.method(fs.promises, "link", () => Promise.reject(Object.assign(new Error(code), { code, syscall: "link" })));
    syncBuiltinESMExports();
    context.after(() => {
      link.mock.restore();
      syncBuiltinESMExports();
    });
    assert.equal(await owner.keep(reference, { keepMs: 10 * keepMs }), outcome === "it is copied");
    assert.equal(link.mock.callCount(), 1);
    if (outcome === "it is gone") return;
    nowMs += 5 * keepMs;
    await owner.sweep();
    assert.ok(await owner.get(reference));
    assert.deepEqual(await readdir(path.join(root, "unfinished")), []);
  });
}

test("a folder on a full disk is told as a full store, and keeps no half of a file", async (context) => {
  const small = await mkdtemp(path.join(tmpdir(), "switchyard-full-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "tmpfs", small], { stdio: "ignore" });
  } catch {
    await rm(small, { recursive: true, force: true });
    context.skip("mounting a small file system is not allowed here");
    return;
  }
  try {
    for (const blobs of [new OwnedFolder({ root: small, clock }), new SharedFolder({ root: small, clock })]) {
      await assert.rejects(blobs.put(content(), { keepMs }), codeOf("store_full"));
      const bytes = content(50_000);
      assert.ok(same(await blobs.get(await blobs.put(bytes, { keepMs })), bytes));
      assert.deepEqual(await readdir(path.join(small, "unfinished")), []);
    }
  } finally {
    execFileSync("umount", [small]);
    await rm(small, { recursive: true, force: true });
  }
});

test("a folder that cannot be used is told as an unavailable store", async () => {
  const file = path.join(root, "a-file");
  await writeFile(file, "");
  for (const blobs of [new OwnedFolder({ root: file, clock }), new SharedFolder({ root: file, clock })]) {
    await assert.rejects(blobs.put(content(10), { keepMs }), codeOf("store_unavailable"));
  }
});

test("a sweep removes files that nobody finished, and folders that hold nothing", async () => {
  const reference = await owner.put(content(), { keepMs });
  const unfinished = path.join(root, "unfinished");
  await mkdir(unfinished, { recursive: true });
  const [stale, fresh] = [path.join(unfinished, "stale"), path.join(unfinished, "fresh")];
  await writeFile(stale, "x");
  await writeFile(fresh, "x");
  await utimes(stale, 0, (nowMs - 3_700_000) / 1_000);
  await utimes(fresh, 0, nowMs / 1_000);
  nowMs += keepMs + 180_000;
  await owner.sweep();
  assert.deepEqual(await readdir(unfinished), ["fresh"]);
  await assert.rejects(stat(path.join(root, blobFolder(reference.sha256))), { code: "ENOENT" });
  await rm(fresh);
});

test("all who share a folder read one id in it, and another folder has another", async () => {
  const ids = await Promise.all(Array.from({ length: 8 }, () => new OwnedFolder({ root, clock }).id()));
  assert.equal(new Set(ids).size, 1);
  assert.equal(await new SharedFolder({ root, clock }).folderId(), ids[0]);
  const other = await mkdtemp(path.join(tmpdir(), "switchyard-blobs-"));
  assert.equal(await new SharedFolder({ root: other, clock }).folderId(), undefined);
  assert.notEqual(await new OwnedFolder({ root: other, clock }).id(), ids[0]);
  await rm(other, { recursive: true, force: true });
});

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

test("a coordinator that says nothing is given up by the host's clock", async () => {
  await using silent = await startScriptedServer(() => {});
  const hasty = { ...systemClock, after: (_ms: number, run: () => void) => systemClock.after(50, run) };
  const away = new HttpBlobs(silent.url, noToken, hasty);
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
  await assert.rejects(new HttpBlobs("http://127.0.0.1:1", noToken, hasty).download(reference, other), codeOf("store_unavailable"));
  await rm(folder, { recursive: true });
});

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
    () => away.sweep(),
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
  const hasty = { ...clock, after: (_ms: number, run: () => void) => systemClock.after(5_000, run) };
  const blobs = inBucket(s3 as TestS3).open(hasty);
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
  await using gate = await startGate((s3 as TestS3).endpoint, async (method, key) => {
    if (method === "GET" && key.includes("data.")) await writeFile(file!, reads++ === 0 ? content() : bytes);
  });
  assert.ok(
    same(
      await inBucket({ ...(s3 as TestS3), endpoint: gate.url })
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
    nowMs += 9 * keepMs;
    await owner.sweep();
    assert.ok(same(await readFile(left[0]!), bytes));
    await owner.receive(Readable.from([bytes]), { keepMs });
    assert.deepEqual(await files(reference.sha256), left, "what is whole stays as it is");
  }
});

test("a file that takes hours to reach a bucket is not taken for abandoned, and is kept from when it was whole", { skip }, async () => {
  let passedMs = 0;
  const late = { ...systemClock, nowMs: () => Date.now() + passedMs };
  const sweeper = bucketPlace!.open(late);
  await using gate = await startGate((s3 as TestS3).endpoint, async (method, key) => {
    if (method !== "PUT" || !/partNumber=2\b/.test(key)) return;
    passedMs += 5 * 3_600_000;
    await sweeper.sweep();
  });
  const bytes = content(17 << 20);
  const reference = await inBucket({ ...(s3 as TestS3), endpoint: gate.url })
    .open(late)
    .receive(Readable.from([bytes]), { keepMs });
  assert.ok(passedMs > 0);
  await sweeper.sweep();
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
  await using gate = await startGate((s3 as TestS3).endpoint, async (method, key) => void asked.push(`${method} ${key}`));
  const blobs = inBucket({ ...(s3 as TestS3), endpoint: gate.url }).open(clock);
  const folder = path.join((s3 as TestS3).folder, "some/where/blobs", reference.sha256);
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, `data.first.${Math.ceil(nowMs / 60_000)}`), bytes);
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
  const { bucket, endpoint } = s3 as TestS3;
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
