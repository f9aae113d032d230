import assert from "node:assert/strict";
import { mkdtemp, readdir, readlink, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { FilesystemBlobs } from "../../coordinator/src/adapters/filesystem-blobs.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { openDoor } from "../support/open-door.ts";
import { until } from "../support/until.ts";

/** Files under `folder` that this process holds open. */
async function openFiles(folder: string): Promise<string[]> {
  const descriptors = await readdir("/proc/self/fd");
  const files = await Promise.all(descriptors.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => "")));
  return files.filter((file) => file.startsWith(folder));
}

test("asking for a large value's size, or leaving before it came, holds no file open", async (t) => {
  const root = await mkdtemp(path.join(tmpdir(), "switchyard-blobs-"));
  t.after(() => rm(root, { recursive: true, force: true }));
  const blobs = new FilesystemBlobs({ root, clock: systemClock });
  const { sha256, sizeBytes } = await blobs.put(Buffer.alloc(30_000_000, 7), { keepMs: 60_000 });
  const door = await openDoor(t, {}, { blobs });
  for (let round = 0; round < 20; round++) {
    const head = await fetch(`${door.url}/v1/blobs/${sha256}`, { method: "HEAD" });
    assert.equal(head.status, 200);
    assert.equal(head.headers.get("content-length"), String(sizeBytes));
  }
  for (let round = 0; round < 5; round++) {
    const socket = connect(door.port, "127.0.0.1");
    socket.write(`GET /v1/blobs/${sha256} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await new Promise((resolve) => socket.once(round % 2 === 0 ? "connect" : "data", resolve));
    socket.destroy();
  }
  await until("the files to be closed", async () => (await openFiles(root)).length === 0);
  const whole = await fetch(`${door.url}/v1/blobs/${sha256}`);
  assert.equal((await whole.bytes()).length, sizeBytes);
});
