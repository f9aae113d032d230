/** What a worker makes of flags and variables, and what it says of mistakes. */

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { hostIdAt, machineName, readConfig } from "../../worker/src/config.ts";

const redis = { SWITCHYARD_REDIS_URL: "redis://127.0.0.1:6379" };
const read = (env: Record<string, string>, argv: string[] = []) => readConfig({ argv, env: { ...redis, ...env } });

test("workers that were started together have different ids, also when one id is given to all of them", () => {
  const ids = ["1", "2"].map((index) => read({ SWITCHYARD_HOST_ID: "gpu", SWITCHYARD_WORKER_INDEX: index }).hostId);
  assert.deepEqual(ids, ["gpu-1", "gpu-2"]);
  const unnamed = ["1", "2"].map((index) => read({ SWITCHYARD_WORKER_INDEX: index }).hostId);
  assert.equal(new Set(unnamed).size, 2);
});

test("a worker that was started alone is named as it is told, or after the port that it gets, which no other worker of the machine has", () => {
  assert.equal(read({ SWITCHYARD_HOST_ID: "gpu" }).hostId, "gpu");
  assert.equal(read({}).hostId, undefined);
  assert.equal(hostIdAt(8003), hostIdAt(8003));
  assert.notEqual(hostIdAt(8003), hostIdAt(8004));
  assert.match(hostIdAt(8003), /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, "as an id that is given");
});

test("machines of one name have different ids, and what differs is not the system's own id", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "switchyard-machine-"));
  t.after(() => rm(folder, { recursive: true }));
  const ids = ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"];
  const files = await Promise.all(
    ids.map(async (id, index) => {
      const file = join(folder, `machine-id-${index}`);
      await writeFile(file, `${id}\n`);
      return file;
    }),
  );
  const [one, other] = files.map((file) => machineName("localhost", file));
  assert.match(one!, /^localhost-[0-9a-f]{8}$/);
  assert.notEqual(one, other);
  assert.equal(machineName("localhost", files[0]), one, "a restart keeps it");
  assert.ok(!ids[0]!.includes(one!.slice(-8)));
  assert.equal(machineName("localhost", join(folder, "none")), "localhost", "where the system has no id");
  await writeFile(files[0]!, "uninitialized\n");
  assert.equal(machineName("localhost", files[0]), "localhost");
  assert.match(`${machineName(`-${"x".repeat(80)}`, files[1])}-65535`, /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, "as an id that is given");
});

test("a password in a refused Redis address is not repeated", () => {
  for (const url of ["redi://user:hunter2@store:6379", "user:hunter2@store", "redis://:hunter2@store:99999"]) {
    assert.throws(
      () => read({ SWITCHYARD_REDIS_URL: url }),
      (error: Error) => /SWITCHYARD_REDIS_URL \(--redis-url\): expected redis:/.test(error.message) && !/hunter2/.test(error.message),
      url,
    );
  }
});

test("a port that does not exist is refused, also when only the worker's index leads to it", () => {
  assert.throws(() => read({ SWITCHYARD_METRICS: "127.0.0.1:70000" }), /SWITCHYARD_METRICS \(--metrics\): expected .*65535.*70000/);
  assert.throws(() => read({ SWITCHYARD_METRICS: "nowhere" }), /SWITCHYARD_METRICS \(--metrics\): expected host:port.*"nowhere"/);
  assert.throws(
    () => read({ SWITCHYARD_METRICS: "127.0.0.1:65530", SWITCHYARD_WORKER_INDEX: "6" }),
    /SWITCHYARD_METRICS \(--metrics\): worker 6 .*got 65536/,
  );
  assert.deepEqual(read({ SWITCHYARD_METRICS: "127.0.0.1:65530", SWITCHYARD_WORKER_INDEX: "5" }).metrics, {
    host: "127.0.0.1",
    port: 65_535,
  });
  assert.deepEqual(read({ SWITCHYARD_METRICS: "[::1]:0", SWITCHYARD_WORKER_INDEX: "5" }).metrics, { host: "::1", port: 0 });
});

test("labels are name=value pairs, and one name has one value", () => {
  assert.deepEqual(read({ SWITCHYARD_LABELS: "site=north, optimised-for=vision,,site=north" }).labels, {
    site: "north",
    "optimised-for": "vision",
  });
  assert.throws(
    () => read({ SWITCHYARD_LABELS: "site=north,site=south" }),
    /SWITCHYARD_LABELS .*site is said to be both "north" and "south"/,
  );
  assert.throws(() => read({ SWITCHYARD_LABELS: "vision" }), /SWITCHYARD_LABELS .*expected name=value pairs, "vision" is none/);
});

test("servers behind a worker are named by framework, and onnx is not one of theirs", () => {
  const { bridges } = read({ SWITCHYARD_BRIDGE: "pytorch=http://127.0.0.1:8100,tensorflow=http://127.0.0.1:8200/tf" });
  assert.deepEqual(bridges, { pytorch: "http://127.0.0.1:8100", tensorflow: "http://127.0.0.1:8200/tf" });
  for (const wrong of ["http://127.0.0.1:8100", "pytorch=127.0.0.1:8100", "onnx=http://127.0.0.1:8100", "pytorch=http://:0x"]) {
    assert.throws(() => read({ SWITCHYARD_BRIDGE: wrong }), /SWITCHYARD_BRIDGE \(--bridge\)/, wrong);
  }
});

test("credentials in a server's address are refused, and not repeated", () => {
  assert.throws(
    () => read({ SWITCHYARD_BRIDGE: "pytorch=http://me:pass-word@127.0.0.1:8100" }),
    ({ message }: Error) => /SWITCHYARD_BRIDGE .*without user or password/.test(message) && !message.includes("pass-word"),
  );
});

test("where large values are in a bucket a worker must know a coordinator to ask", () => {
  assert.throws(
    () => read({ SWITCHYARD_BLOBS: "s3://values" }),
    /SWITCHYARD_URL \(--url\): is required where SWITCHYARD_BLOBS is a bucket/,
  );
  const config = read({ SWITCHYARD_BLOBS: "s3://values", SWITCHYARD_URL: "http://10.0.0.6:8000", SWITCHYARD_DATA: "/data" });
  assert.equal(config.coordinatorUrl, "http://10.0.0.6:8000");
  assert.equal(config.blobsFolder, "/data/blobs");
  assert.equal(read({ SWITCHYARD_BLOBS: "/elsewhere" }).blobsFolder, "/elsewhere");
});

test("a bucket that a coordinator would refuse is no folder for a worker, and no secret in it is repeated", () => {
  for (const text of ["S3://values", "s3:values", "s3:/values", "s3://Values", "s3://values/../b", "s3://key:hunter2@values"]) {
    assert.throws(
      () => read({ SWITCHYARD_BLOBS: text, SWITCHYARD_URL: "http://10.0.0.6:8000" }),
      ({ message }: Error) =>
        /SWITCHYARD_BLOBS \(--blobs\): expected a path, or s3:\/\/bucket/.test(message) && !message.includes("hunter2"),
      text,
    );
  }
});
