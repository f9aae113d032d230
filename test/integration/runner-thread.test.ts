import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { test } from "node:test";
import { newIncarnation } from "@switchyard/protocol/redis";
import { RunnerHandle } from "../../worker/src/runner/runner-handle.ts";

function handle(redisUrl: string): RunnerHandle {
  const places = { modelsFolder: "none", blobsFolder: "none", coordinatorUrl: undefined, fetchedFolder: "none", fetchedBytes: 1 };
  const limits = { lingerMs: 20, cacheBytes: 1e9, cacheModels: 4, threads: 1, providers: ["cpu"], bridges: {}, bridgeTimeoutMs: 1_000 };
  return new RunnerHandle({ redisUrl, incarnation: newIncarnation(), hostId: "host-1", ...places, ...limits }, () => {});
}

test("a runner that is told to end before it had Redis ends at once, be the address dead or mute", { timeout: 30_000 }, async () => {
  const mute = createServer().listen(0, "127.0.0.1");
  await once(mute, "listening");
  const { port } = mute.address() as AddressInfo;
  for (const url of ["redis://127.0.0.1:1", `redis://127.0.0.1:${port}`]) {
    const runner = handle(url);
    if (url.endsWith(`:${port}`)) await once(mute, "connection");
    runner.drain();
    assert.deepEqual(await runner.ended(), { code: 0 });
  }
  mute.close();
});

test("what a runner thread died of is told with its end", { timeout: 30_000 }, async () => {
  const runner = handle("redis://127.0.0.1:not-a-port");
  const end = await runner.ended();
  assert.equal(end.code, 1);
  assert.ok(end.error instanceof Error);
  await assert.rejects(runner.started(), end.error);
});
