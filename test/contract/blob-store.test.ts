/** Stores of large values, a folder and a bucket, as coordinators and hosts use them: the same sentences for each way to one. */

import assert from "node:assert/strict";
import { readdir, stat, writeFile } from "node:fs/promises";
import { after, test } from "node:test";
import { type BlobReference, SwitchyardError } from "@switchyard/protocol";
import { systemClock } from "../../worker/src/clock.ts";
import type { Blobs } from "../../worker/src/runner/blobs.ts";
import { FilesystemBlobs as SharedFolder } from "../../worker/src/runner/filesystem-blobs.ts";
import { HttpBlobs } from "../../worker/src/runner/http-blobs.ts";
import {
  clock,
  codeOf,
  content,
  digestOf,
  keepMs,
  noToken,
  openBucketPlace,
  openFolderPlace,
  type Place,
  same,
  streamOf,
  time,
} from "../support/blob-places.ts";

const folderPlace = await openFolderPlace();
const { root } = folderPlace;
const { close, place: bucketPlace, skip } = await openBucketPlace();

after(async () => {
  await folderPlace.close();
  await close();
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
    time.nowMs += 9 * keepMs;
    await owner.sweep(time.nowMs);
    assert.ok(same(await open().get(reference), bytes), "shortened");
    await open().put(bytes, { keepMs: 10 * keepMs });
    time.nowMs += 9 * keepMs;
    await owner.sweep(time.nowMs);
    assert.ok(same(await open().get(reference), bytes), "not prolonged");
    time.nowMs += 5 * keepMs;
    await owner.sweep(time.nowMs);
    assert.ok((await open().get(reference)) === undefined);
  });

  test(`a sweep at any moment takes nothing that ${who} has just put`, how, async () => {
    // a bucket's sweeps take longer; what happens at each of their moments is tested below
    const [leastTurns, leastDeleted] = place === bucketPlace ? [12, 1] : [25, 11];
    const mostTurns = 60;
    const sweepers = [place.open(systemClock), place.open(systemClock)];
    let [sweeping, deleted] = [true, 0];
    const sweeps = sweepers.map(async (sweeper) => {
      while (sweeping) {
        const swept = await sweeper.sweep(Date.now());
        deleted += swept.deleted;
      }
    });
    const lost: number[] = [];
    try {
      for (let turn = 0; turn < leastTurns || (deleted < leastDeleted && turn < mostTurns); turn++) {
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
    assert.ok(deleted >= leastDeleted, `the sweeps deleted only ${deleted} files: nothing was raced`);
  });
}

for (const [where, found] of Object.entries(places)) {
  const how = { skip: found ? false : skip };
  const { owner, files, unfinished, url } = found ?? folderPlace;

  test(`what is there can be kept on without its bytes, and what is gone cannot (${where})`, how, async () => {
    const reference = await owner.put(content(), { keepMs });
    assert.equal(await owner.keep(reference, { keepMs: 10 * keepMs }), true);
    time.nowMs += 5 * keepMs;
    await owner.sweep(time.nowMs);
    assert.ok(await owner.get(reference));
    time.nowMs += 10 * keepMs;
    await owner.sweep(time.nowMs);
    assert.equal(await owner.keep(reference, { keepMs }), false);
  });

  test(
    `what is kept on from a time on outlives a sweep of that time, also where the clock has not heard of it (${where})`,
    how,
    async () => {
      const leapMs = time.nowMs + 100 * keepMs;
      const [told, untold] = [await owner.put(content(), { keepMs }), await owner.put(content(), { keepMs })];
      assert.equal(await owner.keep(told, { keepMs, fromMs: leapMs }), true);
      assert.equal(await owner.keep(untold, { keepMs }), true);
      await owner.sweep(leapMs);
      assert.ok(await owner.get(told));
      assert.equal(await owner.get(untold), undefined);
    },
  );

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

for (const [where, found] of Object.entries(places)) {
  test(`a sweep goes by the time that it is told, not by its machine's (${where})`, { skip: found ? false : skip }, async () => {
    const { open, owner } = found!;
    const reference = await owner.put(content(1_000), { keepMs });
    const ahead = open({ ...systemClock, nowMs: () => time.nowMs + 100 * keepMs });
    const behind = open({ ...systemClock, nowMs: () => time.nowMs - 100 * keepMs });
    await ahead.sweep(time.nowMs);
    assert.ok(await owner.get(reference));
    time.nowMs += 4 * keepMs;
    await behind.sweep(time.nowMs);
    assert.equal(await owner.get(reference), undefined);
  });
}

for (const [where, found] of Object.entries(places)) {
  test(`a stream that comes for longer than it is kept is kept from its end on (${where})`, { skip: found ? false : skip }, async () => {
    const { owner } = found!;
    const bytes = content(1_000);
    async function* slowly(): AsyncGenerator<Uint8Array> {
      yield bytes.subarray(0, 500);
      time.nowMs += 10 * keepMs;
      yield bytes.subarray(500);
    }
    const reference = await owner.receive(slowly(), { keepMs });
    await owner.sweep(time.nowMs);
    assert.ok(same(await owner.get(reference), bytes));
  });
}
