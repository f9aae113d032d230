/** Files of uploaded versions on a host's disk: damaged, cut short, half fetched by a process that was killed, and more than the disk may hold. */

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, unlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { type ModelFileReference, type ModelVersion, SwitchyardError } from "@switchyard/protocol";
import { GraphBuilder, readGraph } from "@switchyard/protocol/onnx";
import { FilesystemBlobs as OwnedFolder } from "../../coordinator/src/adapters/filesystem-blobs.ts";
import { systemClock } from "../../worker/src/clock.ts";
import type { RedisWire } from "../../worker/src/redis-connection.ts";
import { FilesystemBlobs as SharedFolder } from "../../worker/src/runner/filesystem-blobs.ts";
import { HttpBlobs } from "../../worker/src/runner/http-blobs.ts";
import { ModelFileSource } from "../../worker/src/runner/model-file-source.ts";
import { FetchedModels, type FileSource } from "../../worker/src/runtime/fetched-models.ts";
import { ModelCache } from "../../worker/src/runtime/model-cache.ts";
import { startScriptedServer } from "../support/scripted-server.ts";
import { until } from "../support/until.ts";

const digestOf = (...pieces: Uint8Array[]): string => {
  const hash = createHash("sha256");
  for (const piece of pieces) hash.update(piece);
  return hash.digest("hex");
};

/** y = -x, and a second file that the version has as its weights. */
function uploaded(name: string): { version: ModelVersion; contents: Map<string, Uint8Array> } {
  const graph = new GraphBuilder({ name });
  graph.input("x", "FP32", [4]);
  graph.output("y", "FP32", [4]);
  graph.node("Neg", ["x"], {}, "y");
  const contents = new Map<string, Uint8Array>([
    ["model.onnx", graph.toBytes()],
    ["part/weights.bin", new Uint8Array(randomBytes(300_000))],
  ]);
  const files: ModelFileReference[] = [...contents].map(([file, bytes]) => ({
    name: file,
    sha256: digestOf(bytes),
    sizeBytes: bytes.length,
  }));
  const { signature } = readGraph(contents.get("model.onnx")!);
  const sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  const digest = digestOf(...contents.values());
  return { version: { model: name, version: 1, digest, tag: name, sizeBytes, path: "", signature, config: {}, files }, contents };
}

interface Wishes {
  maxBytes?: number;
  freeBytes?: () => Promise<number>;
  /** What writing a file comes to grief of, if it does. */
  refuses?: (folder: string) => Error | undefined;
  source?: FileSource;
}

async function rig(context: { after(run: () => Promise<void>): void }, { maxBytes = 1e12, refuses, ...disk }: Wishes = {}) {
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-fetched-"));
  context.after(() => rm(folder, { recursive: true, force: true }));
  const known = new Map<string, Uint8Array>();
  const time = { nowMs: Date.now() };
  const fetches: string[] = [];
  const source = {
    async fetch({ name, sha256 }: ModelFileReference, file: string) {
      const bytes = known.get(sha256);
      if (!bytes) throw new SwitchyardError("store_unavailable", "nobody has it");
      fetches.push(name);
      const refusal = refuses?.(folder);
      if (refusal) await writeFile(file, bytes.subarray(0, 10)).then(() => Promise.reject(refusal));
      await writeFile(file, bytes);
    },
  };
  const fetched = new FetchedModels({ folder, hostId: "here", maxBytes, source, clock: { nowMs: () => time.nowMs }, ...disk });
  const failures: string[] = [];
  const cache = new ModelCache({
    ...{ root: folder, clock: systemClock, maxBytes: 1e12, maxModels: 100, threads: 1, providers: ["cpu"], fetched },
    onFailed: (_version, reason) => failures.push(reason),
  });
  context.after(() => cache.clear());
  const add = (name: string): ModelVersion => {
    const { contents, version } = uploaded(name);
    for (const bytes of contents.values()) known.set(digestOf(bytes), bytes);
    return version;
  };
  return { add, cache, failures, fetched, fetches, folder, known, time };
}

const damages: Record<string, (folder: string) => Promise<void>> = {
  "an ONNX file that is noise": (folder) => writeFile(path.join(folder, "model.onnx"), randomBytes(500)),
  "an ONNX file that is cut off": (folder) => truncate(path.join(folder, "model.onnx"), 20),
  "an empty ONNX file": (folder) => writeFile(path.join(folder, "model.onnx"), ""),
  "no ONNX file": (folder) => unlink(path.join(folder, "model.onnx")),
  "weights that are cut off": (folder) => truncate(path.join(folder, "part/weights.bin"), 1_000),
  "no weights": (folder) => rm(path.join(folder, "part"), { recursive: true }),
  "a folder in the place of a file": async (folder) => {
    await unlink(path.join(folder, "model.onnx"));
    await mkdir(path.join(folder, "model.onnx"));
  },
};

for (const [what, damage] of Object.entries(damages)) {
  test(`a version whose fetched files have ${what} is fetched anew and loads, at the first try`, async (context) => {
    const { add, cache, failures, fetches, folder } = await rig(context);
    const version = add("damaged");
    await cache.ensure(version);
    await cache.clear();
    await damage(path.join(folder, version.digest));
    await cache.ensure(version);
    assert.deepEqual(failures, []);
    assert.equal(fetches.length, 4);
    assert.deepEqual(await readdir(folder), [version.digest]);
  });
}

test("files that are damaged wherever they come from are fetched twice, and not for ever", async (context) => {
  const { add, cache, failures, fetches, known } = await rig(context);
  const version = add("damaged");
  const [onnx] = version.files!;
  known.set(onnx!.sha256, randomBytes(200));
  await assert.rejects(cache.ensure(version), /has changed: its SHA-256 is/);
  assert.equal(fetches.length, 4);
  assert.equal(failures.length, 1);
});

test("a version whose files are whole and that still does not load keeps its files", async (context) => {
  const { add, cache, fetches } = await rig(context);
  const version = add("liar");
  const lying = { ...version, config: { max_delay_ms: 1 }, signature: { ...version.signature, outputs: [] } };
  await assert.rejects(cache.ensure(lying), /does not keep its signature/);
  await cache.ensure(version);
  assert.equal(fetches.length, 2);
});

test("files that are damaged in the coordinators' folder are not taken, and are once the same bytes have been sent again", async (context) => {
  const root = await mkdtemp(path.join(tmpdir(), "switchyard-blobs-"));
  context.after(() => rm(root, { recursive: true, force: true }));
  const blobs = new OwnedFolder({ root, clock: systemClock });
  const { contents, version } = uploaded("shared");
  for (const bytes of contents.values()) await blobs.put(bytes, { keepMs: 600_000 });
  const id = await blobs.id();
  const redis = { get: async () => id } as unknown as RedisWire;
  const source = new ModelFileSource({ redis, folder: new SharedFolder({ root, clock: systemClock }), remote: undefined });
  const { cache, folder } = await rig(context, { source });
  await cache.ensure(version);
  await cache.clear();
  // what the host has is another name of the same file
  const [, weights] = version.files!;
  await writeFile(path.join(folder, version.digest, weights!.name), randomBytes(weights!.sizeBytes));
  const damaged = /part\/weights\.bin is damaged in the coordinators' folder; upload the version again, its weights too/;
  await assert.rejects(cache.ensure(version), damaged);
  assert.ok(!(await readdir(folder)).includes(version.digest));
  await blobs.put(contents.get(weights!.name)!, { keepMs: 1_000 });
  await until("its back-off to end", () => cache.ensure(version).catch(() => undefined));
});

test("a load that fails for a reason of its own has its files read no second time, and none is fetched again", async (context) => {
  const { add, fetched, fetches, folder } = await rig(context);
  const version = add("refused");
  const reasons: string[] = [];
  const cache = new ModelCache({
    ...{ root: folder, clock: systemClock, maxBytes: 1e12, maxModels: 100, threads: 1, providers: ["cpu"], fetched },
    async load(_version, home) {
      // whoever reads them now finds them changed
      await writeFile(path.join(home!, "model.onnx"), "other bytes");
      throw new SwitchyardError("model_not_ready", "the runtime does not take it");
    },
    onFailed: (_version, reason) => reasons.push(reason),
  });
  await assert.rejects(cache.ensure(version), /the runtime does not take it/);
  assert.deepEqual([fetches.length, reasons.length], [2, 1]);
});

test("a fetch that was killed half-way is no version, and the next one goes on where it stopped", async (context) => {
  const { folder } = await rig(context);
  const { contents, version } = uploaded("killed");
  const byDigest = new Map([...contents.values()].map((bytes) => [digestOf(bytes), bytes]));
  const ranges: string[] = [];
  let isSlow = true;
  await using server = await startScriptedServer((request, response) => {
    const bytes = byDigest.get(path.basename(request.url!))!;
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    if (from > 0) ranges.push(request.headers.range!);
    response.writeHead(from > 0 ? 206 : 200, { "content-length": bytes.length - from });
    if (isSlow && bytes.length > 200_000) response.write(bytes.subarray(from, 200_000));
    else response.end(bytes.subarray(from));
  });
  const program = fileURLToPath(new URL("../support/fetch-once.ts", import.meta.url));
  const child = spawn(process.execPath, [program, JSON.stringify({ folder, hostId: "here", url: server.url, version })], {
    stdio: "inherit",
  });
  context.after(async () => void child.kill("SIGKILL"));
  const weights = path.join(folder, `${version.digest}.here`, "part/weights.bin");
  await until("half of it to have come", async () => (await stat(weights).catch(() => undefined))?.size === 200_000);
  child.kill("SIGKILL");
  await once(child, "exit");
  assert.deepEqual(await readdir(folder), [`${version.digest}.here`]);
  isSlow = false;
  const blobs = new HttpBlobs(server.url, async () => null);
  const parts = { folder, hostId: "here", maxBytes: 1e12, source: { fetch: blobs.download.bind(blobs) }, clock: systemClock };
  const whole = await new FetchedModels(parts).folderOf(version);
  for (const [name, bytes] of contents) assert.equal(Buffer.compare(await readFile(path.join(whole, name)), bytes), 0);
  assert.deepEqual(ranges, ["bytes=200000-"]);
  assert.deepEqual(await readdir(folder), [version.digest]);
});

test("what dead hosts and interrupted removals have left goes with the next fetch, and what another host is fetching stays", async (context) => {
  const { add, fetched, folder, time } = await rig(context);
  const left = { "gone.0123": 0, [`${"a".repeat(64)}.dead`]: 2 * 3_600_000, [`${"b".repeat(64)}.busy`]: 0 };
  for (const [name, agoMs] of Object.entries(left)) {
    await mkdir(path.join(folder, name));
    await writeFile(path.join(folder, name, "model.onnx"), "half");
    const at = new Date(time.nowMs - agoMs);
    for (const place of [path.join(folder, name, "model.onnx"), path.join(folder, name)]) await utimes(place, at, at);
  }
  const version = add("next");
  await fetched.folderOf(version);
  assert.deepEqual((await readdir(folder)).sort(), [version.digest, `${"b".repeat(64)}.busy`].sort());
});

test("when the room that is lent is needed, versions that are not loaded go, the one used longest ago first", async (context) => {
  const sizeBytes = uploaded("one").version.sizeBytes;
  const { add, cache, failures, fetched, folder, time } = await rig(context, { maxBytes: 3 * sizeBytes + 1_000 });
  const [oldest, loaded, recent, next] = ["one", "two", "few", "new"].map(add) as [ModelVersion, ModelVersion, ModelVersion, ModelVersion];
  await cache.ensure(loaded);
  for (const version of [oldest, recent]) {
    time.nowMs += 1_000;
    await fetched.folderOf(version);
  }
  time.nowMs += 1_000;
  await fetched.folderOf(next);
  assert.deepEqual((await readdir(folder)).sort(), [loaded, recent, next].map(({ digest }) => digest).sort());
  for (const version of [recent, next]) await cache.ensure(version);
  await assert.rejects(cache.ensure(oldest), /\d+ of \d+ are free: the others are loaded or being fetched; raise SWITCHYARD_FETCHED_MB/);
  assert.equal(failures.length, 1);
  assert.equal((await readdir(folder)).length, 3);
});

for (const code of ["ENOSPC", "EDQUOT"]) {
  test(`a disk that is full before the limit is reached (${code}) gets room from what is not loaded, and no half version stays on it`, async (context) => {
    let most = 3;
    const refuses = (folder: string): Error | undefined => {
      const whole = readdirSync(folder).filter((name) => !name.includes("."));
      return whole.length < most ? undefined : Object.assign(new Error(`${code}: no room, write`), { code, syscall: "write" });
    };
    const { add, cache, fetched, folder, time } = await rig(context, { refuses });
    const [loaded, old, older, next] = ["one", "two", "few", "new"].map(add) as [ModelVersion, ModelVersion, ModelVersion, ModelVersion];
    await cache.ensure(loaded);
    for (const version of [older, old]) {
      time.nowMs += 1_000;
      await fetched.folderOf(version);
    }
    await fetched.folderOf(next);
    assert.deepEqual((await readdir(folder)).sort(), [loaded, old, next].map(({ digest }) => digest).sort());
    most = 1;
    await assert.rejects(fetched.folderOf(older), /has no room for their \d+ bytes, and what else is there is loaded or being fetched/);
    assert.deepEqual(await readdir(folder), [loaded.digest]);
  });
}

test("room is made before a fetch when the disk has less left than it takes, and a fetch is tried even when that is not enough", async (context) => {
  let free = 0;
  const { add, cache, fetched, folder, time } = await rig(context, { freeBytes: async () => free });
  const [loaded, old, older, next] = ["one", "two", "few", "new"].map(add) as [ModelVersion, ModelVersion, ModelVersion, ModelVersion];
  free = next.sizeBytes;
  await cache.ensure(loaded);
  for (const version of [older, old]) {
    time.nowMs += 1_000;
    await fetched.folderOf(version);
  }
  assert.equal((await readdir(folder)).length, 3);
  free = next.sizeBytes - 1;
  await fetched.folderOf(next);
  assert.deepEqual((await readdir(folder)).sort(), [loaded, next].map(({ digest }) => digest).sort());
});

for (const [how, disk] of [
  ["as the system tells it", {}],
  ["as writing finds it", { freeBytes: async () => 1e12 }],
] as const) {
  test(`a small disk holds what fits on it, one version after the other (its room ${how})`, async (context) => {
    const { add, cache, fetched, folder, time } = await rig(context, disk);
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=800k", "tmpfs", folder], { stdio: "ignore" });
    } catch {
      return context.skip("mounting a small file system is not allowed here");
    }
    try {
      const [loaded, ...others] = ["one", "two", "few", "new"].map(add) as [ModelVersion, ...ModelVersion[]];
      await cache.ensure(loaded);
      for (const version of others) {
        time.nowMs += 1_000;
        await fetched.folderOf(version);
      }
      assert.deepEqual((await readdir(folder)).sort(), [loaded, others.at(-1)!].map(({ digest }) => digest).sort());
    } finally {
      execFileSync("umount", [folder]);
    }
  });
}

test("what a load has begun to read stays, also when it began while room is being made for another version", async (context) => {
  const sizeBytes = uploaded("one").version.sizeBytes;
  const { add, fetched, folder, time } = await rig(context, { maxBytes: 3 * sizeBytes + 1_000 });
  const [first, second, third, next] = ["one", "two", "few", "new"].map(add) as [ModelVersion, ModelVersion, ModelVersion, ModelVersion];
  for (const version of [first, second, third]) {
    time.nowMs += 1_000;
    await fetched.folderOf(version);
  }
  // asked a first time, it says that nothing is loaded; by the second time all loads have begun
  let asked = 0;
  fetched.keep(() => new Set(asked++ === 0 ? [] : [first, second, third].map(({ digest }) => digest)));
  const large = { ...next, files: [...next.files!, { ...next.files![1]!, name: "more.bin" }] };
  await assert.rejects(fetched.folderOf(large), /are free: the others are loaded or being fetched/);
  assert.deepEqual((await readdir(folder)).sort(), [second, third].map(({ digest }) => digest).sort());
});

test("of two loads that read the same files, the end of the first does not take them from the second", async (context) => {
  const { add, fetched, folder } = await rig(context);
  const version = add("shared");
  const reading = new Map(["one", "two"].map((name) => [name, Promise.withResolvers<void>()]));
  let protectedOnes: () => ReadonlySet<string> = () => new Set();
  const watched = {
    folderOf: (of: ModelVersion) => fetched.folderOf(of),
    discard: (of: ModelVersion) => fetched.discard(of),
    keep: (loaded: () => ReadonlySet<string>) => {
      protectedOnes = loaded;
    },
  };
  const cache = new ModelCache({
    ...{ root: folder, clock: systemClock, maxBytes: 1e12, maxModels: 100, threads: 1, providers: ["cpu"], fetched: watched },
    async load({ model }) {
      await reading.get(model)!.promise;
      throw new SwitchyardError("model_not_ready", "refused");
    },
  });
  const loads = ["one", "two"].map((model) => cache.ensure({ ...version, model, tag: model }));
  assert.ok(protectedOnes().has(version.digest), "from before its files are looked for");
  reading.get("one")!.resolve();
  await assert.rejects(loads[0]!, /refused/);
  assert.ok(protectedOnes().has(version.digest));
  reading.get("two")!.resolve();
  await assert.rejects(loads[1]!, /refused/);
  assert.ok(!protectedOnes().has(version.digest));
});

test("a version that is larger than the room that is lent says so, and takes nothing from others", async (context) => {
  const { add, cache, fetched, fetches, folder } = await rig(context, { maxBytes: 400_000 });
  const version = add("fits");
  await fetched.folderOf(version);
  const large = add("large");
  large.files = [...large.files!, { name: "more.bin", sha256: "0".repeat(64), sizeBytes: 400_000 }];
  await assert.rejects(
    cache.ensure(large),
    /they have \d+ bytes, and this host keeps at most 400000 of fetched files; raise SWITCHYARD_FETCHED_MB/,
  );
  assert.equal(fetches.length, 2);
  assert.deepEqual(await readdir(folder), [version.digest]);
});
