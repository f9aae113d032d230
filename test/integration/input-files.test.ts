/** Inputs that are files between coordinator and host, through real processes: with a coordinator that dies, and a host that comes without the folder. */

import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { isLocalDisk } from "@switchyard/protocol";
import { jobIdPattern } from "@switchyard/protocol/redis";
import type { Redis } from "ioredis";
import { type Answer, binaryInference, binaryOutputs, call, jobView } from "../support/calls.ts";
import { whileDrained } from "../support/drained-host.ts";
import { type NegatingCluster, startNegatingCluster } from "../support/negating-cluster.ts";
import type { Processes, WorkerProcess } from "../support/processes.ts";
import { until } from "../support/until.ts";

const shape = [64, 1024];
const values = Float32Array.from({ length: 64 * 1024 }, (_, at) => at % 4099);
const smallReply = 1024;

let folder: string;
let cluster: Processes;
let redis: Redis;
let worker: WorkerProcess;
let negating: NegatingCluster | undefined;
before(async () => {
  negating = await startNegatingCluster(shape);
  ({ cluster, folder, redis } = negating);
  worker = cluster.workers[0]!;
});
after(() => negating?.close());

const infer = (): Promise<Answer> => call(`${cluster.url}/v2/models/negative/infer`, binaryInference("x", shape, values));

async function submit(): Promise<string> {
  const bytes = Buffer.from(values.buffer);
  const x = { name: "x", datatype: "FP32", shape, parameters: { binary_data_size: bytes.length } };
  const json = Buffer.from(JSON.stringify({ model: "negative", inputs: [x] }));
  const headers = { "content-type": "application/octet-stream", "inference-header-content-length": String(json.length) };
  const answer = await call(`${cluster.url}/v1/jobs`, { body: Buffer.concat([json, bytes]), headers });
  assert.equal(answer.status, 202, `${answer.bytes}`);
  return answer.json().id;
}

function assertRight(answer: Answer): void {
  assert.equal(answer.status, 200, `${answer.bytes.subarray(0, 500)}\n${cluster.log()}`);
  const got = new Float32Array(new Uint8Array(binaryOutputs(answer).get("y")!).buffer);
  assert.equal(got.length, values.length);
  assert.ok(got.every((value, at) => value === -values[at]! || values[at] === 0));
}

/** Jobs whose inputs lie in a file. */
async function inputFiles(): Promise<string[]> {
  const names = await readdir(path.join(folder, "blobs", "inputs"), { recursive: true }).catch(() => []);
  return names.map((name) => path.basename(name)).filter((name) => jobIdPattern.test(name));
}

/** As the coordinator's log has it last. */
const filesAreUsed = async (): Promise<boolean | undefined> =>
  cluster
    .log()
    .match(/"used":(?:true|false)(?=[^\n]*"input_files")|"input_files"[^\n]*"used":(?:true|false)/g)
    ?.at(-1)
    ?.includes("true");

const skip = isLocalDisk((await statfs(tmpdir())).type) ? false : "the folder for temporary files lies on no disk of a known kind";

test("an input of 256 KiB is a file from the coordinator to the host on its machine, and goes with its job", { skip }, async () => {
  await until("files to be used", filesAreUsed);
  let answering: Promise<Answer> | undefined;
  await whileDrained(
    () => cluster.url,
    worker.hostId,
    async () => {
      answering = infer();
      await until("the file", async () => (await inputFiles()).length === 1);
      const [key] = await until("the reference", async () => {
        const found = await redis.keys("sy:*:in:*");
        return found.length === 1 && found;
      });
      const bytes = Number(await redis.memory("USAGE", key!));
      assert.ok(bytes < smallReply, `${bytes} bytes in Redis`);
    },
  );
  assertRight(await answering!);
  await until("the file to be gone", async () => (await inputFiles()).length === 0);
});

test("jobs whose inputs are files outlive the coordinator that took them", { skip }, async () => {
  let id = "";
  await whileDrained(
    () => cluster.url,
    worker.hostId,
    async () => {
      id = await submit();
      assert.deepEqual(await inputFiles(), [id]);
      const [coordinator] = cluster.coordinators;
      await coordinator!.kill();
      await coordinator!.respawn();
    },
  );
  assert.equal((await jobView(cluster.url, id, 60)).state, "succeeded");
  assertRight(await call(`${cluster.url}/v1/jobs/${id}/result`, { headers: { accept: "application/octet-stream" } }));
});

test("a host that comes without the folder runs jobs whose inputs were files", { skip }, async () => {
  const elsewhere = await mkdtemp(path.join(tmpdir(), "switchyard-elsewhere-"));
  await whileDrained(
    () => cluster.url,
    worker.hostId,
    async () => {
      const id = await until("files to be used again", async () => {
        const one = await submit();
        return (await inputFiles()).includes(one) && one;
      });
      const other = await cluster.addWorker({ SWITCHYARD_DATA: elsewhere, SWITCHYARD_URL: "" });
      const view = await jobView(cluster.url, id, 60);
      assert.deepEqual([view.state, view.host, view.attempt], ["succeeded", other.hostId, 1]);
      assertRight(await call(`${cluster.url}/v1/jobs/${id}/result`, { headers: { accept: "application/octet-stream" } }));
      assertRight(await infer());
      await other.stop();
    },
  );
  await rm(elsewhere, { recursive: true });
});
