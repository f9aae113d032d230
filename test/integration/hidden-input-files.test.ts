/** Files of inputs are written again for the next job: what a reader may see of that, and when it is not done. */

import assert from "node:assert/strict";
import fs from "node:fs";
import { chmod, mkdtemp, open, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { type InputFileReference, joinParts } from "@switchyard/protocol";
import { FilesystemBlobs } from "../../coordinator/src/adapters/filesystem-blobs.ts";
import { LocalInputFiles } from "../../coordinator/src/adapters/local-input-files.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { FrameMemory, InputFiles } from "../../worker/src/runner/input-files.ts";
import { content, same } from "../support/blob-places.ts";
import { eventually } from "../support/job-rig.ts";
import { mocked } from "../support/mocked-fs.ts";

/** Stands unless a test lets it pass: where a machine is busy a write of many bytes takes long, and no file is written after one that took so long. */
let timeMs: number;
const clock = { ...systemClock, monotonicMs: () => timeMs };
let root: string;
let files: LocalInputFiles;

beforeEach(async () => {
  timeMs = 1_000;
  root = await mkdtemp(path.join(tmpdir(), "switchyard-hidden-"));
  await new FilesystemBlobs({ root, clock }).id();
  files = new LocalInputFiles({ blobsFolder: root, clock });
  await files.use({ folder: "aaaaaaaaaa", sight: await files.sight() });
});
afterEach(() => rm(root, { recursive: true }));

/** What a host reads. */
const readAs = (jobId: string, reference: InputFileReference): Promise<Uint8Array | undefined> =>
  new InputFiles(root).read(jobId, reference, new FrameMemory()).then((frame) => frame ?? undefined);

/** Writes one input of that many bytes. */
function written(jobId: string, sizeBytes: number): { reference: InputFileReference; frame: Uint8Array } {
  const frame = content(sizeBytes);
  return { frame, reference: files.write({ id: jobId, held: true }, [frame]) ?? assert.fail("it was not written") };
}

const placeOf = (jobId: string, { folder }: InputFileReference): string => path.join(root, "inputs", folder, jobId);

/** Of open jobs' files and of spare ones. */
const hiddenNames = async ({ folder }: InputFileReference): Promise<string[]> =>
  (await readdir(path.join(root, "inputs", folder))).filter((name) => name.startsWith("hidden-"));

test("what ends beside 64 MiB of files that stay is written again at once", async () => {
  const sizes = [40_000_000, 30_000_000, 20_000_000];
  const jobs = sizes.map((size, at) => ({ id: `aaaaaaaaaa-much${at}`, ...written(`aaaaaaaaaa-much${at}`, size) }));
  const ino = (await stat(placeOf(jobs[1]!.id, jobs[1]!.reference))).ino;
  for (const { id } of jobs) files.ended(id, "succeeded");
  const next = written("aaaaaaaaaa-next", 30_000_000);
  assert.equal((await stat(placeOf("aaaaaaaaaa-next", next.reference))).ino, ino);
  assert.ok(same(await readAs("aaaaaaaaaa-next", next.reference), next.frame));
  const read = await Promise.all(jobs.map(({ id, reference }) => readAs(id, reference)));
  assert.deepEqual(
    read.map((frame, at) => frame !== undefined && same(frame, jobs[at]!.frame)),
    [true, false, true],
  );
  files.refused("aaaaaaaaaa-next");
  files.letAllGo();
});

test("a file that is written again holds the next job's input alone, whatever its size, under its name alone", async () => {
  const first = written("aaaaaaaaaa-first", 200_000).reference;
  const { ino } = await stat(placeOf("aaaaaaaaaa-first", first));
  let before = "aaaaaaaaaa-first";
  for (const size of [200_000, 70_000, 300_000]) {
    const jobId = `aaaaaaaaaa-${size}`;
    files.refused(before);
    const { frame, reference } = written(jobId, size);
    assert.equal((await stat(placeOf(jobId, reference))).ino, ino, "the same file");
    assert.ok(same(await readAs(jobId, reference), frame));
    await assert.rejects(stat(placeOf(before, reference)), { code: "ENOENT" });
    before = jobId;
  }
  files.refused(before);
  files.letAllGo();
});

test("while a file is written no job's name leads to it, neither the last one's nor the next one's", async (context) => {
  const { reference } = written("aaaaaaaaaa-last", 100_000);
  files.refused("aaaaaaaaaa-last");
  let writes = 0;
  mocked(context, "writevSync", (real) => (...args: never[]) => {
    writes += 1;
    for (const jobId of ["aaaaaaaaaa-last", "aaaaaaaaaa-next"]) assert.equal(fs.existsSync(placeOf(jobId, reference)), false, jobId);
    return real(...args);
  });
  written("aaaaaaaaaa-next", 100_000);
  assert.equal(writes, 1);
  assert.ok(fs.existsSync(placeOf("aaaaaaaaaa-next", reference)));
  files.refused("aaaaaaaaaa-next");
  files.letAllGo();
});

for (const [what, jobIds] of [
  ["another job", ["aaaaaaaaaa-other"]],
  ["another job and then the same again", ["aaaaaaaaaa-other", "aaaaaaaaaa-slow"]],
] as const)
  test(`of a file that is written for ${what} while a host reads it nothing is told`, async (context) => {
    const { reference } = written("aaaaaaaaaa-slow", 100_000);
    const { ino } = await stat(placeOf("aaaaaaaaaa-slow", reference));
    mocked(context, "readSync", (real) => (...args: never[]) => {
      const count = real(...args);
      let open = "aaaaaaaaaa-slow";
      for (const jobId of jobIds) {
        files.refused(open); // as if it were over, and the store had forgotten that
        files.write({ id: jobId, held: true }, [content(100_000)]);
        open = jobId;
      }
      return count;
    });
    assert.ok((await readAs("aaaaaaaaaa-slow", reference)) === undefined);
    assert.equal((await stat(placeOf(jobIds.at(-1)!, reference))).ino, ino, "it was the same file");
    files.refused(jobIds.at(-1)!);
    files.letAllGo();
  });

test("a job that has a file gets no other one, and what was written for it is spare", async () => {
  const { frame, reference } = written("aaaaaaaaaa-twice", 100_000);
  assert.equal(files.write({ id: "aaaaaaaaaa-twice", held: true }, [content(100_000)]), undefined);
  assert.ok(same(await readAs("aaaaaaaaaa-twice", reference), frame));
  const next = written("aaaaaaaaaa-after", 100_000);
  assert.ok(same(await readAs("aaaaaaaaaa-after", next.reference), next.frame));
  for (const jobId of ["aaaaaaaaaa-twice", "aaaaaaaaaa-after"]) files.refused(jobId);
  assert.equal((await hiddenNames(reference)).length, 2);
  files.letAllGo();
  assert.equal((await hiddenNames(reference)).length, 0);
});

test("where a spare file is gone, was taken for one left behind, or cannot be written, a new one is made, and no descriptor is lost", async (context) => {
  const descriptors = (): number => fs.readdirSync("/proc/self/fd").length;
  const before = descriptors();
  for (const trouble of ["gone", "whole", "cut"]) {
    const { reference } = written("aaaaaaaaaa-spare", 200_000);
    files.refused("aaaaaaaaaa-spare");
    const [hidden] = await hiddenNames(reference);
    if (trouble === "gone") await rm(placeOf(hidden!, reference));
    else if (trouble === "whole") await chmod(placeOf(hidden!, reference), 0o400);
    else mocked(context, "ftruncateSync", () => () => assert.fail("no space left"));
    const next = written("aaaaaaaaaa-new", 100_000);
    assert.ok(same(await readAs("aaaaaaaaaa-new", next.reference), next.frame));
    assert.equal((await stat(placeOf("aaaaaaaaaa-new", reference))).mode & 0o777, 0o600);
    files.refused("aaaaaaaaaa-new");
    files.letAllGo();
    assert.equal((await hiddenNames(reference)).length, 0);
  }
  assert.equal(descriptors(), before);
});

test("a file whose name cannot be taken away is not written again", async (context) => {
  const { frame, reference } = written("aaaaaaaaaa-stays", 100_000);
  mocked(context, "unlinkSync", (real) => (name: never) => {
    if (String(name).endsWith("-stays")) throw Object.assign(new Error("not now"), { code: "EIO" });
    return real(name);
  });
  files.refused("aaaaaaaaaa-stays");
  const next = written("aaaaaaaaaa-next", 100_000);
  assert.ok(same(await readAs("aaaaaaaaaa-stays", reference), frame));
  assert.ok(same(await readAs("aaaaaaaaaa-next", next.reference), next.frame));
  files.refused("aaaaaaaaaa-next");
  await rm(placeOf("aaaaaaaaaa-stays", reference));
  files.letAllGo();
});

test("no more than 64 MiB are spare, and none that is as old as to be written to the disk soon", async () => {
  const sizes = [40_000_000, 30_000_000, 20_000_000];
  const references = sizes.map((size) => written(`aaaaaaaaaa-${size}`, size).reference);
  for (const size of sizes) files.refused(`aaaaaaaaaa-${size}`);
  assert.equal((await hiddenNames(references[0]!)).length, 2, "the first one had no room beside the others");
  files.letAllGo();
  written("aaaaaaaaaa-old", 100_000);
  timeMs += 21_000;
  files.refused("aaaaaaaaaa-old");
  assert.equal((await hiddenNames(references[0]!)).length, 0);
});

test("a file that is known to be whole is not written again", async () => {
  const { reference } = written("aaaaaaaaaa-whole", 100_000);
  const file = placeOf("aaaaaaaaaa-whole", reference);
  timeMs += 600;
  await eventually("it to be synced", async () => {
    await files.sync();
    return ((await stat(file)).mode & 0o777) === 0o400;
  });
  const whole = await open(file); // so that no other file gets its number
  files.refused("aaaaaaaaaa-whole");
  await assert.rejects(stat(file), { code: "ENOENT" });
  written("aaaaaaaaaa-next", 100_000);
  assert.notEqual((await stat(placeOf("aaaaaaaaaa-next", reference))).ino, (await whole.stat()).ino);
  await whole.close();
  files.refused("aaaaaaaaaa-next");
  files.letAllGo();
});

test("after a file that took the disk long none is written until that was looked into", async (context) => {
  const { folder } = written("aaaaaaaaaa-quick", 100).reference;
  const takesMs = [200, 201];
  mocked(context, "writevSync", (real) => (...args: never[]) => {
    timeMs += takesMs.shift() ?? 0;
    return real(...args);
  });
  written("aaaaaaaaaa-steady", 100);
  assert.equal(files.takeFailure(), undefined);
  const { frame, reference } = written("aaaaaaaaaa-slow", 100);
  assert.ok(same(await readAs("aaaaaaaaaa-slow", reference), frame), "it is there all the same");
  assert.equal(files.write({ id: "aaaaaaaaaa-next", held: true }, [content(100)]), undefined);
  assert.match(String(files.takeFailure()), /to write a file took 201 ms/);
  await files.use({ folder, sight: await files.sight() });
  written("aaaaaaaaaa-next", 100);
  for (const jobId of ["quick", "steady", "slow", "next"]) files.refused(`aaaaaaaaaa-${jobId}`);
  files.letAllGo();
});

test("a disk that takes less at a time than it is given gets all of it", async (context) => {
  mocked(context, "writevSync", (real) => (handle: never, parts: Uint8Array[]) => real(handle, [parts[0]!.subarray(0, 30_000)] as never));
  const parts = [content(10), new Uint8Array(), content(70_000), content(100)];
  const reference = files.write({ id: "aaaaaaaaaa-pieces", held: true }, parts) as InputFileReference;
  assert.equal(reference.sizeBytes, 70_110);
  assert.ok(same(await readAs("aaaaaaaaaa-pieces", reference), joinParts(parts)));
  files.refused("aaaaaaaaaa-pieces");
});
