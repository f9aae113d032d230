/**
 * Inputs as files: Redis holds a reference, hosts on the same machine read the file, and it lives no longer than the job's inputs in Redis, whatever
 * happens. Files move into Redis when a host comes that does not see them.
 */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import { chmod, cp, mkdir, mkdtemp, readdir, rm, stat, statfs, symlink, truncate, utimes, writeFile } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, before, type TestContext, test } from "node:test";
import { type InputFileReference, inputFileThresholdBytes, isLocalDisk, joinParts, SwitchyardError } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { Redis } from "ioredis";
import { FilesystemBlobs } from "../../coordinator/src/adapters/filesystem-blobs.ts";
import { InputFileKeeper } from "../../coordinator/src/adapters/input-file-keeper.ts";
import { type DiskState, LocalInputFiles } from "../../coordinator/src/adapters/local-input-files.ts";
import { RedisConnection } from "../../coordinator/src/adapters/redis-connection.ts";
import type { RedisJobStore } from "../../coordinator/src/adapters/redis-job-store.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import type { InputFileUse } from "../../coordinator/src/ports/input-files.ts";
import type { NewJob } from "../../coordinator/src/ports/job-store.ts";
import { systemClock as hostClock } from "../../worker/src/clock.ts";
import { SeenFolder } from "../../worker/src/presence/seen-folder.ts";
import { wireConnection } from "../../worker/src/redis-connection.ts";
import { FilesystemBlobs as SharedFolder } from "../../worker/src/runner/filesystem-blobs.ts";
import { FrameMemory, InputFiles } from "../../worker/src/runner/input-files.ts";
import { LargeValues } from "../../worker/src/runner/large-values.ts";
import { content, same } from "../support/blob-places.ts";
import { redisRigs } from "../support/file-rigs.ts";
import { eventually, type JobRig, roomyQueue, succeeded } from "../support/job-rig.ts";
import { mocked } from "../support/mocked-fs.ts";

const rigs = await redisRigs();
const dayMs = 86_400_000;

/** What files are aged by; only their age is told by it. */
let laterMs = 0;
/** The time that measures durations; it stands within a turn of the event loop: on a busy machine a write takes long now and then, and no file is written after one that did. */
let turnMs: number | undefined;
function monotonicMs(): number {
  if (turnMs === undefined) setImmediate(() => (turnMs = undefined));
  turnMs ??= systemClock.monotonicMs();
  return turnMs;
}
const clock = { ...systemClock, nowMs: () => Date.now() + laterMs, monotonicMs };
const told: object[] = [];
const tell = (_event: string, fields?: object): void => void told.push({ ...fields });
const log = { info: tell, warn: tell, error: tell };

let root: string;
/** How hosts see the folder that do. */
let sight: string;
let seen: ReadonlySet<string | undefined>;
let connection: RedisConnection;
let store: RedisJobStore;
let files: LocalInputFiles;
let keeper: InputFileKeeper;
let wire: Redis;

/** Whatever disk the tests have. */
class DiskFiles extends LocalInputFiles {
  override async disk(): Promise<DiskState> {
    return { ...(await super.disk()), isLocal: true };
  }
}

interface Wishes {
  blobsFolder: string;
  Files: typeof LocalInputFiles;
  use: InputFileUse;
  isRedisHere: boolean;
}

/** A coordinator's files and their keeper, as compose.ts has them. */
function openFiles({ blobsFolder = root, Files = DiskFiles, ...how }: Partial<Wishes> = {}): {
  files: LocalInputFiles;
  keeper: InputFileKeeper;
} {
  const opened = new Files({ blobsFolder, clock });
  const parts = { redis: connection, files: opened, sight: () => opened.sight(), hostSights: () => seen, clock, log };
  return { files: opened, keeper: new InputFileKeeper({ ...parts, use: "auto", isRedisHere: true, ...how }) };
}

/** How a folder is seen, which gets an id if it has none. */
async function sightIn(folder: string): Promise<string> {
  await new FilesystemBlobs({ root: folder, clock }).id();
  return new LocalInputFiles({ blobsFolder: folder, clock }).sight();
}

before(async () => {
  root = await mkdtemp(path.join(tmpdir(), "switchyard-inputs-"));
  sight = await sightIn(root);
  seen = new Set([sight]);
  await rigs.redis.set(keys.blobFolder, await new FilesystemBlobs({ root, clock }).id());
  connection = new RedisConnection(rigs.url, "keeper", systemClock);
  await connection.open();
  ({ files, keeper } = openFiles());
  store = await rigs.coordinator("with-files", undefined, files);
  await store.onNotice(() => {});
  await keeper.round();
  wire = wireConnection(rigs.url, "reader") as Redis;
  await once(wire, "ready");
});
after(async () => {
  wire?.disconnect();
  await connection?.close();
  await rm(root, { recursive: true, force: true });
});
afterEach(() => {
  seen = new Set([sight]);
  laterMs = 0;
});

const large = (wishes: Partial<NewJob> = {}): Partial<NewJob> => ({
  inputs: [content(100), content(inputFileThresholdBytes)],
  wait: true,
  ...wishes,
});

async function filesOf(rig: JobRig, folder = root): Promise<string[]> {
  const names = await readdir(path.join(folder, "inputs"), { recursive: true }).catch(() => []);
  return names.filter((name) => path.basename(name).startsWith(rig.tag)).map((name) => path.join(folder, "inputs", name));
}

const storedFor = (id: string): Promise<Buffer | null> => rigs.redis.getBuffer(keys.input(id.slice(0, 10), id));

/** Rounds until the next one that sweeps is over. */
async function sweeps(of = keeper): Promise<void> {
  for (let round = 0; round < 60; round++) await of.round();
}

/** Files of jobs that are over stay for a while; that while is over now. */
async function goes(rig: JobRig): Promise<void> {
  await eventually("the files to go with their jobs", async () => {
    files.letAllGo();
    return (await filesOf(rig)).length === 0;
  });
}

/** Of a host whose folder is `blobsFolder`. */
const valuesOf = (blobsFolder = root, trouble: (message: string) => void = () => {}): LargeValues =>
  new LargeValues({
    trouble,
    redis: wire,
    files: new InputFiles(blobsFolder),
    folder: new SharedFolder({ root: blobsFolder, clock: hostClock }),
  });

/** What a host gets that had been told `stored` for a job. */
function fetched(id: string, stored: Buffer | null, { blobsFolder = root } = {}) {
  return valuesOf(blobsFolder)
    .fetched([id], [stored], { again: async () => [await storedFor(id)], memory: new FrameMemory() })
    .then(([frame]) => frame);
}

async function runAll(rig: JobRig, outcome: "succeeded" | "retry" | "failed" = "succeeded"): Promise<void> {
  const { host, ticket } = await rig.hostWithTicket();
  const error = { code: "run_failed", detail: "the run threw", retryable: true };
  const jobs = await host.batch(ticket);
  await host.commit(
    ticket,
    jobs.map((job) => (outcome === "succeeded" ? succeeded(job) : { id: job.id, fence: job.fence, outcome, error, retryDelayMs: 1 })),
  );
}

test("an input of 64 KiB and more is a file while its job is open, and Redis holds a reference to it; a host reads what came", async () => {
  const rig = rigs.rig(store);
  const job = rig.job(large());
  const { id } = await rig.admitted(job);
  const [file, ...others] = await filesOf(rig);
  assert.deepEqual(others, []);
  assert.equal(path.basename(file!), id);
  assert.equal((await stat(file!)).mode & 0o777, 0o600);
  const stored = await storedFor(id);
  assert.ok(stored!.length < 64, `${stored!.length} bytes`);
  const frame = joinParts(job.inputs);
  assert.ok(same((await fetched(id, stored)) as Uint8Array, frame));
  assert.ok(same(await store.inputs(id), frame));
  assert.ok(same(await store.inputsBeginning(id, 1_000), frame.subarray(0, 1_000)));
  assert.equal((await store.sizes(id, 0)).inputs, frame.length);
  await runAll(rig);
  await goes(rig);
});

test("a file that a host cannot read is told without its path, which the log has", async () => {
  const rig = rigs.rig(store);
  const { id } = await rig.admitted(rig.job(large()));
  const stored = await storedFor(id);
  const [file] = await filesOf(rig);
  const other = await mkdtemp(path.join(tmpdir(), "switchyard-input-"));
  await cp(root, other, { recursive: true });
  const copy = path.join(other, path.relative(root, file!));
  await rm(copy);
  await symlink(copy, copy);
  const logged: string[] = [];
  const values = valuesOf(other, (message) => logged.push(message));
  const [frame] = await values.fetched([id], [stored], { again: async () => [], memory: new FrameMemory() });
  assert.ok(frame instanceof SwitchyardError);
  assert.deepEqual([frame.code, frame.message], ["store_unavailable", "large values cannot be reached: ELOOP at open"]);
  assert.match(logged.join(), new RegExp(`ELOOP.*${copy}`));
  await rm(other, { recursive: true });
  await runAll(rig);
  await goes(rig);
});

test("smaller inputs, and those of jobs that are to outlive the machine, pass Redis", async () => {
  const rig = rigs.rig(store);
  const small = rig.job({ inputs: [content(inputFileThresholdBytes - 1)] });
  const synced = rig.job(large({ durability: "fsync" }));
  for (const job of [small, synced]) {
    await rig.admitted(job);
    assert.ok(same((await storedFor(job.id)) ?? undefined, joinParts(job.inputs)));
  }
  assert.deepEqual(await filesOf(rig), []);
});

test("a job that is cancelled, or whose time is over, takes its file with it, and one that is refused leaves none", async () => {
  const rig = rigs.rig(store);
  await store.cancel(await rig.admit(large()));
  const queue = { ...roomyQueue, mostWaiting: 0 };
  assert.equal((await store.admit(rig.job(large()), queue)).answer, "full");
  const late = await rig.admitted(rig.job(large({ timeoutMs: 50, latestStartMs: 40 })));
  await eventually("its time to be over", () => store.nowMs() > late.deadlineMs + 2);
  await store.expire([late.id]);
  await goes(rig);
});

test("a job that comes again while it waits keeps its input", async () => {
  const rig = rigs.rig(store);
  const job = rig.job(large());
  await rig.admitted(job);
  assert.equal((await store.admit(job, roomyQueue)).answer, "existing");
  assert.ok(same((await fetched(job.id, await storedFor(job.id))) as Uint8Array, joinParts(job.inputs)));
  await runAll(rig);
});

test("a held job that failed leaves neither a dead letter nor a file", async () => {
  const rig = rigs.rig(store);
  await rig.admit(large({ maxAttempts: 1, held: true }));
  await runAll(rig, "retry");
  await goes(rig);
});

test("a dead letter keeps its file; discarded, it is swept, and not before a second look", async () => {
  const rig = rigs.rig(store);
  const job = rig.job(large({ maxAttempts: 1 }));
  await rig.admitted(job);
  await runAll(rig, "retry");
  await eventually("the dead letter", async () => (await rig.audit()).dead.length === 1);
  laterMs = 600_000;
  await sweeps();
  await sweeps();
  assert.ok(same(await store.inputs(job.id), joinParts(job.inputs)));
  await store.discard(job.id);
  await sweeps();
  assert.equal((await filesOf(rig)).length, 1);
  await sweeps();
  assert.deepEqual(await filesOf(rig), []);
});

test("what a coordinator that died has left is swept once its job is over, whoever sees to it", async () => {
  const dying = openFiles();
  await dying.keeper.round();
  const rig = rigs.rig(await rigs.coordinator("died", undefined, dying.files)); // and hears of nothing
  const [over, open] = [await rig.admit(large()), await rig.admit(large())];
  await rig.store.cancel(over);
  await sweeps();
  await sweeps();
  assert.equal((await filesOf(rig)).length, 2, "too young to be looked at");
  laterMs = 600_000;
  await sweeps();
  await sweeps();
  assert.deepEqual(
    (await filesOf(rig)).map((file) => path.basename(file)),
    [open],
  );
});

test("when a host has come that does not see the folder, inputs of open jobs are in Redis, too, and new ones only there; then as before", async () => {
  const rig = rigs.rig(store);
  const dead = await rig.admit(large({ maxAttempts: 1 }));
  await runAll(rig, "retry");
  const job = rig.job(large());
  await rig.admitted(job);
  const before = await storedFor(job.id);
  const livesMs = await rigs.redis.pttl(keys.input(rig.tag, job.id));
  const elsewhere = await mkdtemp(path.join(tmpdir(), "switchyard-elsewhere-"));
  await cp(path.join(root, "folder-id"), path.join(elsewhere, "folder-id")); // a copy of the folder is another one
  const blind = { blobsFolder: elsewhere };
  await assert.rejects(fetched(job.id, before, blind), /SWITCHYARD_BLOBS/, "it asks again until they are there");
  const broken = await rig.admit(large());
  const file = (await filesOf(rig)).find((name) => name.endsWith(broken))!;
  await rm(file);
  await symlink(file, file); // whoever follows it goes round in a circle
  seen = new Set([sight, undefined]);
  await assert.rejects(keeper.round(), { code: "ELOOP" });
  await rm(file);
  assert.deepEqual(told.at(-1), { used: false, why: "a host does not see the folder" });
  const frame = joinParts(job.inputs);
  assert.ok(same((await storedFor(job.id)) ?? undefined, frame), "one file that cannot be read keeps no other");
  const leftMs = await rigs.redis.pttl(keys.input(rig.tag, job.id));
  assert.ok(leftMs > 0 && leftMs <= livesMs, `${leftMs} of ${livesMs} ms`);
  for (const blobsFolder of [root, elsewhere])
    assert.ok(same((await fetched(job.id, before, { blobsFolder })) as Uint8Array, frame), "by a host that was told before");
  assert.ok(same(await store.inputs(job.id), frame));
  assert.ok((await storedFor(dead))!.length < 64, "no host asks for the inputs of a dead letter");
  const other = await rig.admit(large());
  assert.ok((await storedFor(other))!.length > inputFileThresholdBytes);
  seen = new Set([sight]);
  await keeper.round();
  assert.deepEqual(told.at(-1), { used: true });
  assert.ok((await storedFor(await rig.admit(large())))!.length < 64);
  await rm(elsewhere, { recursive: true });
});

test("nothing is brought to a store that is nearly full", async (context) => {
  const rig = rigs.rig(store);
  const id = await rig.admit(large());
  context.mock.method(connection, "filled", () => 0.71);
  seen = new Set([undefined]);
  await keeper.round();
  assert.ok((await storedFor(id))!.length < 64);
  seen = new Set([sight]);
  await keeper.round();
});

test("who says no to files gets none, and has those that are there in Redis", async () => {
  const rig = rigs.rig(store);
  const id = await rig.admit(large());
  const off = openFiles({ use: "no" });
  await off.keeper.round();
  assert.ok((await storedFor(id))!.length > inputFileThresholdBytes);
  assert.equal(off.files.write({ id: "other", held: true }, [content()]), undefined);
});

for (const [isRedisHere, use, isUsed] of [
  [true, "auto", true],
  [false, "auto", false],
  [false, "yes", true],
] as const) {
  test(`files are ${isUsed ? "" : "not "}used with ${use} where Redis is ${isRedisHere ? "on this machine" : "elsewhere"}`, async () => {
    const opened = openFiles({ isRedisHere, use });
    await opened.keeper.round();
    const reference = opened.files.write({ id: "aaaaaaaaaa-used", held: true }, [content()]);
    assert.equal(reference !== undefined, isUsed);
    opened.files.refused("aaaaaaaaaa-used");
    opened.files.letAllGo();
  });
}

test("a copy of the folder is not taken for it, and nobody waits for a look that does not end", async () => {
  const isLocal = isLocalDisk((await statfs(root)).type);
  /** Undefined at once where it sees nothing, ever. */
  const hostSees = async (folder: string): Promise<string | undefined> => {
    const host = new SeenFolder(folder);
    host.look();
    if (isLocal) await eventually("the folder to be seen", () => host.told().blobFolder !== undefined);
    return host.told().blobFolder;
  };
  const copy = await mkdtemp(path.join(tmpdir(), "switchyard-copy-"));
  await cp(root, copy, { recursive: true, verbatimSymlinks: true });
  if (isLocal) assert.equal(await hostSees(root), sight);
  assert.notEqual(await hostSees(copy), sight);
  await rm(path.join(copy, "folder-id"));
  execFileSync("mkfifo", [path.join(copy, "folder-id")]); // reading it does not end before somebody writes
  const host = new SeenFolder(copy);
  for (let beat = 0; beat < 4; beat++) host.look();
  assert.deepEqual(host.told(), {});
  if (isLocal) await writeFile(path.join(copy, "folder-id"), "over");
  await rm(copy, { recursive: true });
});

test("a job that comes again when it is over leaves no file, nor does one that failed for good or found no room", async () => {
  const rig = rigs.rig(store);
  const [over, failed] = [rig.job(large()), rig.job(large())];
  await rig.admitted(over);
  await runAll(rig);
  await goes(rig);
  assert.equal((await store.admit(over, roomyQueue)).answer, "existing");
  await rig.admitted(failed);
  await runAll(rig, "failed");
  await rigs.redis.config("SET", "maxmemory", "1mb");
  try {
    await assert.rejects(store.admit(rig.job(large()), roomyQueue), { code: "store_full" });
  } finally {
    await rigs.redis.config("SET", "maxmemory", "0");
  }
  assert.equal((await filesOf(rig)).length, 3);
  await eventually("all to be seen to", async () => {
    await keeper.round();
    files.letAllGo();
    return (await filesOf(rig)).length === 0;
  });
});

test("a repeat that is refused takes no file from the admission before it", async () => {
  const rig = rigs.rig(store);
  const job = rig.job(large());
  files.write(job, job.inputs); // an admission that is still on its way
  assert.equal((await store.admit(job, { ...roomyQueue, mostWaiting: 0 })).answer, "full");
  assert.equal((await filesOf(rig)).length, 1);
  files.refused(job.id);
});

test("a file stays for a while when its job is over, for a store that forgets the end", async () => {
  const own = openFiles();
  await own.keeper.round();
  const its = await rigs.coordinator("lingers", undefined, own.files);
  await its.onNotice(() => {});
  const rig = rigs.rig(its);
  await rig.admit(large());
  await runAll(rig);
  await eventually("its end to be told", () => own.files.isIdle());
  own.keeper.letGo();
  assert.equal((await filesOf(rig)).length, 1);
  await eventually("the while to be over", async () => {
    own.keeper.letGo();
    return (await filesOf(rig)).length === 0;
  });
});

/** Writes one input of that many bytes. */
function written(jobId: string, sizeBytes: number): { reference: InputFileReference; frame: Uint8Array } {
  const frame = content(sizeBytes);
  return { frame, reference: files.write({ id: jobId, held: true }, [frame]) ?? assert.fail("it was not written") };
}

const placeOf = (jobId: string, { folder }: InputFileReference): string => path.join(root, "inputs", folder, jobId);

/** Also those of open jobs, of other tests, too. */
const hiddenNames = async ({ folder }: InputFileReference): Promise<string[]> =>
  (await readdir(path.join(root, "inputs", folder))).filter((name) => name.startsWith("hidden-"));

test("where a file can have one name only inputs pass Redis", async (context) => {
  mocked(context, "linkSync", () => () => {
    throw Object.assign(new Error("one name is enough"), { code: "EPERM" });
  });
  const own = openFiles();
  await own.keeper.round();
  assert.equal(own.files.write({ id: "aaaaaaaaaa-one", held: true }, [content(100_000)]), undefined);
  await own.keeper.round();
  assert.deepEqual(told.at(-1), { used: false, why: "one name is enough" });
  own.files.letAllGo();
});

test("hidden names that a process has left are swept, not those of files that are written now", async () => {
  const lives = `aaaaaaaaaa-${"l".repeat(26)}`;
  const { reference } = written(lives, 100_000);
  await writeFile(placeOf("hidden-left", reference), "x");
  const isThere = async (): Promise<boolean> => (await hiddenNames(reference)).includes("hidden-left");
  laterMs = 200_000;
  await sweeps();
  assert.ok(await isThere());
  laterMs = 400_000;
  const soon = Date.now() / 1_000 + 400;
  await utimes(placeOf(lives, reference), soon, soon);
  await sweeps();
  assert.ok(!(await isThere()));
  const { ino } = await stat(placeOf(lives, reference));
  files.refused(lives);
  written("aaaaaaaaaa-next", 100_000);
  assert.equal((await stat(placeOf("aaaaaaaaaa-next", reference))).ino, ino, "it could be written again");
  files.refused("aaaaaaaaaa-next");
  files.letAllGo();
});

test("what a coordinator that died wrote and did not sync is synced by another one, if its job is open, and written since the machine started", async () => {
  const dying = openFiles();
  await dying.keeper.round();
  const rig = rigs.rig(await rigs.coordinator("died-unsynced", undefined, dying.files));
  const [id, earlier] = [await rig.admit(large()), await rig.admit(large())];
  const [file, other] = [id, earlier].map((jobId) => async () => (await filesOf(rig)).find((name) => name.endsWith(jobId))!);
  const mode = async (of: () => Promise<string>): Promise<number> => (await stat(await of())).mode & 0o777;
  const told = (await storedFor(earlier))!;
  await rigs.redis.set(keys.input(rig.tag, earlier), Buffer.concat([told.subarray(0, 32), Buffer.from("aaaa")]), "KEEPTTL");
  await sweeps();
  assert.equal(await mode(file!), 0o600, "its writer may do so yet");
  laterMs = 31_000;
  await sweeps();
  assert.equal(await mode(file!), 0o400);
  assert.equal(await mode(other!), 0o600);
});

/** Files that this process opens as promises fail so, as long as the answered object says. */
function failing(context: TestContext, what: "datasync" | "chmod", of: string): { fails: boolean } {
  const state = { fails: true };
  const { open } = fs.promises;
  const mock = context.mock.method(fs.promises, "open", async (...args: Parameters<typeof open>) => {
    const handle = await open(...args);
    const real = handle[what] as (...args: never[]) => Promise<void>;
    if (String(args[0]).endsWith(of) && state.fails)
      handle[what] = () => (state.fails ? Promise.reject(Object.assign(new Error("the disk fails"), { code: "EIO" })) : real.call(handle));
    return handle;
  });
  syncBuiltinESMExports();
  context.after(() => {
    mock.mock.restore();
    syncBuiltinESMExports();
  });
  return state;
}

test("a file that the disk did not take is read by nobody any more, and not said to be whole by a later sync", async (context) => {
  const own = openFiles();
  await own.keeper.round();
  const rig = rigs.rig(await rigs.coordinator("bad-disk", undefined, own.files));
  const [bad, good] = [rig.job(large()), rig.job(large())];
  for (const job of [bad, good]) await rig.admitted(job);
  const disk = failing(context, "datasync", bad.id);
  await assert.rejects(own.files.sync({ all: true }), { code: "EIO" });
  disk.fails = false; // the system says it once
  await own.files.sync({ all: true });
  const modes = new Map(
    await Promise.all((await filesOf(rig)).map(async (name) => [path.basename(name), (await stat(name)).mode & 0o777] as const)),
  );
  assert.deepEqual([modes.get(bad.id), modes.get(good.id)], [0o700, 0o400]);
  laterMs = 31_000;
  await sweeps();
  assert.equal((await stat((await filesOf(rig)).find((name) => name.endsWith(bad.id))!)).mode & 0o777, 0o700);
  assert.equal(await fetched(bad.id, await storedFor(bad.id)), null);
  assert.ok((await rig.store.inputs(bad.id)) === undefined);
  assert.ok(same((await fetched(good.id, await storedFor(good.id))) as Uint8Array, joinParts(good.inputs)));
});

test("what may go well the next time is tried again, and alone", async (context) => {
  const own = openFiles();
  await own.keeper.round();
  const rig = rigs.rig(await rigs.coordinator("slow-disk", undefined, own.files));
  const [one, other] = [await rig.admit(large()), await rig.admit(large())];
  const disk = failing(context, "chmod", one);
  await assert.rejects(own.files.sync({ all: true }), { code: "EIO" });
  const mode = async (id: string): Promise<number> => (await stat((await filesOf(rig)).find((name) => name.endsWith(id))!)).mode & 0o777;
  assert.deepEqual([await mode(one), await mode(other)], [0o600, 0o400]);
  await chmod((await filesOf(rig)).find((name) => name.endsWith(other))!, 0o600); // to see that it is left alone
  disk.fails = false;
  await own.files.sync({ all: true });
  assert.deepEqual([await mode(one), await mode(other)], [0o400, 0o600]);
});

test("one file that cannot be synced keeps the sweep from nothing", async (context) => {
  const dying = openFiles();
  await dying.keeper.round();
  const rig = rigs.rig(await rigs.coordinator("died-badly", undefined, dying.files));
  const [over, open] = [await rig.admit(large()), await rig.admit(large())];
  await rig.store.cancel(over);
  failing(context, "datasync", open);
  laterMs = 600_000;
  await assert.rejects(sweeps(), { code: "EIO" });
  await sweeps().catch(() => {});
  await sweeps();
  assert.deepEqual(
    (await filesOf(rig)).map((name) => path.basename(name)),
    [open],
  );
});

test("at its end a coordinator syncs what is still open", async () => {
  const own = openFiles();
  await own.keeper.round();
  const rig = rigs.rig(await rigs.coordinator("ends", undefined, own.files));
  await rig.admit(large());
  await own.files.sync({ all: true });
  const [file] = await filesOf(rig);
  assert.equal((await stat(file!)).mode & 0o777, 0o400);
});

test("after the machine has started again only what is known to be on the disk is taken for whole", async () => {
  const rig = rigs.rig(store);
  const jobs = [rig.job(large()), rig.job(large())];
  for (const job of jobs) await rig.admitted(job);
  const [id, other] = jobs.map((job) => job.id) as [string, string];
  const place = (jobId: string): string => path.join(root, "inputs", keysOf(stored[jobId === id ? 0 : 1]!), jobId);
  const stored = [(await storedFor(id))!, (await storedFor(other))!];
  const keysOf = (reference: Buffer): string => reference.subarray(16, 26).toString();
  await eventually("the first to be synced", async () => {
    await files.sync();
    return ((await stat(place(id))).mode & 0o777) === 0o400;
  });
  await chmod(place(other), 0o600); // as if the power had gone before that
  /** As a coordinator wrote it that saw the folder so. */
  const as = (reference: Buffer, mark: string): Buffer => Buffer.concat([reference.subarray(0, 26), Buffer.from(mark)]);
  const marks = stored.map((reference) => reference.subarray(26).toString());
  const earlier = stored.map((reference, at) => as(reference, `${marks[at]!.slice(0, 6)}aaaa`));
  const memory = new FrameMemory();
  const [first, lost] = await valuesOf().fetched([id, other], earlier, { again: async () => assert.fail("it is not elsewhere"), memory });
  assert.ok(same(first as Uint8Array, joinParts(jobs[0]!.inputs)));
  assert.equal(lost, null);
  const elsewhere = as(stored[1]!, `aaaaaa${marks[1]!.slice(6)}`);
  await assert.rejects(
    valuesOf().fetched([other], [elsewhere], { again: async () => [elsewhere], memory }),
    /SWITCHYARD_BLOBS/,
    "of another folder it asks again: it may be a copy",
  );
  await rigs.redis.set(keys.input(rig.tag, other), earlier[1]!, "KEEPTTL");
  assert.ok((await store.inputs(other)) === undefined);
  await rigs.redis.set(keys.input(rig.tag, id), earlier[0]!, "KEEPTTL");
  assert.ok(same(await store.inputs(id), joinParts(jobs[0]!.inputs)));
});

test("a store that was away, and has forgotten that jobs are over, finds their files; others go", async (context) => {
  const own = openFiles();
  await own.keeper.round();
  const its = await rigs.coordinator("outage", undefined, own.files);
  await its.onNotice(() => {});
  const rig = rigs.rig(its);
  const [over, forgotten] = [await rig.admit(large()), await rig.admit(large())];
  const stored = await storedFor(forgotten);
  await its.cancel(over);
  await its.cancel(forgotten);
  await eventually("their ends to be told", () => own.files.isIdle());
  const health = context.mock.method(connection, "health", () => ({ answering: false, sinceMs: 5_000 }));
  await new Promise((resolve) => setTimeout(resolve, 2_600));
  own.keeper.letGo();
  assert.equal((await filesOf(rig)).length, 2, "nothing is known of a store that is away");
  await rigs.redis.set(keys.input(rig.tag, forgotten), stored!); // as if it had not heard of the end
  health.mock.mockImplementation(() => ({ answering: true, sinceMs: 100 }));
  own.keeper.letGo();
  await own.keeper.round();
  assert.deepEqual(
    (await filesOf(rig)).map((file) => path.basename(file)),
    [forgotten],
  );
  assert.equal(own.files.isIdle(), false, "its end will be told again");
  own.files.ended(forgotten, "cancelled");
  await rigs.redis.del(keys.input(rig.tag, forgotten));
  own.files.letAllGo();
  assert.deepEqual(await filesOf(rig), []);
});

test("a coordinator forgets files that others have removed", async () => {
  const deaf = openFiles();
  await deaf.keeper.round();
  const rig = rigs.rig(await rigs.coordinator("deaf", undefined, deaf.files));
  const id = await rig.admit(large());
  await rig.store.cancel(id);
  await rm((await filesOf(rig))[0]!);
  assert.equal(deaf.files.isIdle(), false);
  await sweeps(deaf.keeper);
  assert.equal(deaf.files.isIdle(), true);
});

test("while no host is there files stay where they are, and new inputs pass Redis", async () => {
  const rig = rigs.rig(store);
  await rig.admit(large());
  seen = new Set();
  await keeper.round();
  await rig.admit(large());
  assert.equal((await filesOf(rig)).length, 1);
  seen = new Set([sight]);
  await keeper.round();
});

test("frames of a batch lie apart and aligned, whatever their sizes, and so do those of the next", async () => {
  const rig = rigs.rig(store);
  const values = valuesOf();
  const memory = new FrameMemory();
  for (const sizes of [
    [70_001, 200_003, 66_000],
    [300_000, 70_007],
    [66_001, 66_003, 66_005, 66_007],
  ]) {
    const jobs = sizes.map((size) => rig.job(large({ inputs: [content(size)] })));
    for (const job of jobs) await rig.admitted(job);
    const stored = await Promise.all(jobs.map(({ id }) => storedFor(id)));
    const ids = jobs.map(({ id }) => id);
    const frames = (await values.fetched(ids, stored, { again: async () => [], memory })) as Uint8Array[];
    for (const [at, frame] of frames.entries()) {
      assert.ok(same(frame, jobs[at]!.inputs[0]!), `frame ${at} of ${sizes}`);
      assert.equal(frame.byteOffset % 8, 0);
    }
  }
});

for (const [what, damage] of [
  ["gone", (file: string) => rm(file)],
  ["cut off", (file: string) => truncate(file, 1_000)],
] as const) {
  test(`a file that is ${what} is told as lost, and nothing else is`, async () => {
    const rig = rigs.rig(store);
    const [id, other] = [await rig.admit(large()), rig.job(large())];
    const [file] = await filesOf(rig);
    await rig.admitted(other);
    await damage(file!);
    const stored = [await storedFor(id), await storedFor(other.id)];
    const frames = await valuesOf().fetched([id, other.id], stored, { again: async () => [stored[0]!], memory: new FrameMemory() });
    assert.equal(frames[0], null);
    assert.ok(same(frames[1] as Uint8Array, joinParts(other.inputs)));
    assert.equal(await store.inputs(id), undefined);
  });
}

test("a folder that is gone costs no job: inputs pass Redis until it can be used again", async () => {
  const rig = rigs.rig(store);
  await rm(path.join(root, "inputs"), { recursive: true });
  const job = rig.job(large());
  await rig.admitted(job);
  assert.ok(same((await storedFor(job.id)) ?? undefined, joinParts(job.inputs)));
  await keeper.round();
  assert.match(String((told.at(-1) as { why: string }).why), /ENOENT/);
  await sweeps();
  await sweeps();
  assert.deepEqual(told.at(-1), { used: true });
  await rig.admit(large());
  assert.equal((await filesOf(rig)).length, 1);
});

test("a full disk costs no job, and keeps no half of a file", async (context) => {
  const small = await mkdtemp(path.join(tmpdir(), "switchyard-full-"));
  context.after(() => rm(small, { recursive: true }));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "tmpfs", small], { stdio: "ignore" });
  } catch {
    context.skip("mounting a small file system is not allowed here");
    return;
  }
  try {
    seen = new Set([await sightIn(small)]);
    const full = openFiles({ blobsFolder: small });
    await full.keeper.round();
    const rig = rigs.rig(await rigs.coordinator("full", undefined, full.files));
    const job = rig.job({ inputs: [content(200_000), content(200_000)] });
    await rig.admitted(job);
    assert.deepEqual(await filesOf(rig, small), []);
    assert.ok(same((await storedFor(job.id)) ?? undefined, joinParts(job.inputs)));
    await writeFile(path.join(small, "other"), content(250_000));
    const next = openFiles({ blobsFolder: small });
    await next.keeper.round();
    assert.deepEqual(told.at(-1), { used: false, why: "the disk is nearly full" });
  } finally {
    execFileSync("umount", [small]);
  }
});

test("a disk across a network is not written to in a coordinator's turn", async (context) => {
  mocked(context, "statfs", (real) => async (where: never) => ({ ...(await (real(where) as Promise<object>)), type: 0x6969 }));
  const remote = openFiles({ Files: LocalInputFiles });
  await remote.keeper.round();
  assert.deepEqual(told.at(-1), { used: false, why: "it is no local disk of a known kind" });
  const rig = rigs.rig(await rigs.coordinator("remote", undefined, remote.files));
  await rig.admit(large());
  assert.deepEqual(await filesOf(rig), []);
});

test("a host that cannot read a file, though it may be there, says so: the job may be tried again", async () => {
  const rig = rigs.rig(store);
  const id = await rig.admit(large());
  const [file] = await filesOf(rig);
  await rm(file!);
  await symlink(file!, file!); // whoever follows it goes round in a circle
  const failure = (await fetched(id, await storedFor(id))) as SwitchyardError;
  assert.deepEqual([failure.code, failure.retryable], ["store_unavailable", true]);
  await rm(file!);
});

test("files of clusters that are no more go after eight days, those of others stay", async () => {
  const oldOne = `aaaaaaaaaa-${"o".repeat(26)}`;
  const folders = ["aaaaaaaaaa", "bbbbbbbbbb"].map((name) => path.join(root, "inputs", name));
  for (const folder of folders) {
    await mkdir(folder);
    await writeFile(path.join(folder, oldOne), "x");
  }
  const longAgo = new Date(Date.now() - 9 * dayMs);
  await utimes(path.join(folders[0]!, oldOne), longAgo, longAgo);
  await utimes(folders[0]!, longAgo, longAgo);
  await openFiles().keeper.round(); // the first of each looks at others' folders
  assert.deepEqual(await readdir(folders[0]!), []);
  assert.deepEqual(await readdir(folders[1]!), [oldOne]);
  await utimes(folders[0]!, longAgo, longAgo);
  await openFiles().keeper.round();
  await assert.rejects(stat(folders[0]!), { code: "ENOENT" });
});

test("what is still there after half a second is brought to the disk, and says that it is whole after that", async (context) => {
  const done: string[] = [];
  const { open } = fs.promises;
  const mock = context.mock.method(fs.promises, "open", async (...args: Parameters<typeof open>) => {
    const handle = await open(...args);
    const name = path.basename(String(args[0]));
    const { chmod, datasync, sync } = handle;
    const folder = (await handle.stat()).isDirectory();
    handle.datasync = () => datasync.call(handle).then(() => void done.push(`${name} data`));
    handle.chmod = (mode) => chmod.call(handle, mode).then(() => void done.push(`${name} whole`));
    handle.sync = () => sync.call(handle).then(() => void done.push(folder ? "folder" : `${name} all`));
    return handle;
  });
  syncBuiltinESMExports();
  context.after(() => {
    mock.mock.restore();
    syncBuiltinESMExports();
  });
  const rig = rigs.rig(store);
  const [over, waits] = [await rig.admit(large()), await rig.admit(large())];
  await store.cancel(over);
  await eventually("its end to be told", async () => {
    files.letAllGo();
    return (await filesOf(rig)).length === 1;
  });
  await eventually("the other's to be synced", async () => {
    await files.sync();
    return done.includes(`${waits} all`);
  });
  assert.ok(!done.some((what) => what.startsWith(over)));
  const its = done.slice(done.indexOf(`${waits} data`)).filter((what) => what.startsWith(waits) || what === "folder");
  assert.deepEqual(its, [`${waits} data`, "folder", "folder", `${waits} whole`, `${waits} all`]);
});
