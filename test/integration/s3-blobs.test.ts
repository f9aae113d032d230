/** A cluster whose large values are in a bucket, through real processes and a real server: jobs, uploaded models, memory, and a bucket that is not as it must be. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { GraphBuilder } from "@switchyard/protocol/onnx";
import { request } from "undici";
import { type Answer, binaryInference, binaryOutputs, call, floats } from "../support/calls.ts";
import { startCluster } from "../support/cluster.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { startTestS3, type TestS3 } from "../support/s3.ts";
import { emptyRepository, type Repository } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const shape = [3072, 1024];
const count = 3072 * 1024; // 12 MiB of FP32
const coordinatorMain = fileURLToPath(new URL("../../coordinator/src/main.ts", import.meta.url));

const found = await startTestS3();
const skip = "missing" in found ? found.missing : false;
const s3 = found as TestS3;
/** For those that start while the other one is frozen. */
let spare: TestS3;
let models: Repository;
let data: string;
let cluster: Processes;

const bucketEnv = (more: Record<string, string> = {}, { bucket, endpoint, env } = s3): Record<string, string> => ({
  ...env,
  SWITCHYARD_DATA: data,
  SWITCHYARD_BLOBS: `s3://${bucket}/cluster`,
  SWITCHYARD_S3_ENDPOINT: endpoint,
  ...more,
});

before(async () => {
  if (skip) return;
  spare = (await startTestS3()) as TestS3;
  data = await mkdtemp(path.join(tmpdir(), "switchyard-bucket-"));
  models = await emptyRepository();
  await models.add("negative", negative());
  cluster = await startProcesses({ workers: 0, models: models.folder, env: bucketEnv({ SWITCHYARD_MAX_MODEL: "1GiB" }) });
  const own = await mkdtemp(path.join(tmpdir(), "switchyard-bucket-host-"));
  await cluster.addWorker({ SWITCHYARD_URL: cluster.url, SWITCHYARD_DATA: own });
});
after(async () => {
  await cluster?.stop();
  await models?.remove();
  await s3.stop?.();
  await spare?.stop();
  if (data) await rm(data, { recursive: true, force: true });
});

function negative(): GraphBuilder {
  const graph = new GraphBuilder({ name: "negative" });
  graph.input("x", "FP32", shape);
  graph.output("y", "FP32", shape);
  graph.node("Neg", ["x"], {}, "y");
  return graph;
}

const tensorOf = (seed: number): Float32Array => Float32Array.from({ length: count }, (_, at) => (at * 31 + seed) % 8191);

function infer(url: string, seed: number): Promise<Answer> {
  return call(`${url}/v2/models/negative/infer`, binaryInference("x", shape, tensorOf(seed)));
}

function assertRight(answer: Answer, seed: number): void {
  assert.equal(answer.status, 200, `${answer.bytes.subarray(0, 500)}`);
  const got = new Float32Array(new Uint8Array(binaryOutputs(answer).get("y")!).buffer);
  assert.equal(got.length, count);
  assert.equal(
    tensorOf(seed).findIndex((value, at) => got[at] !== -value && value !== 0),
    -1,
  );
}

const objects = async (): Promise<string[]> => {
  const names = await readdir(path.join(s3.folder, "cluster"), { recursive: true }).catch(() => []);
  return names.filter((name) => /\/data\.[^/]+$/.test(name));
};

/** Of the coordinator, in MiB, and its peak. */
function residentMb(): { now: number; peak: number } {
  const text = readFileSync(`/proc/${cluster.coordinators[0]!.pid}/status`, "utf8");
  const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)![1]) / 1024;
  return { now: of("VmRSS"), peak: of("VmHWM") };
}

function small(): GraphBuilder {
  const graph = new GraphBuilder({ name: "small" });
  graph.input("x", "FP32", [1, 2]);
  graph.output("y", "FP32", [1, 2]);
  graph.node("Neg", ["x"], {}, "y");
  return graph;
}

async function startWith(env: Record<string, string>): Promise<{ code: number | null; text: string }> {
  const anyPort = ["--http", "127.0.0.1:0", "--grpc", "off", "--metrics", "127.0.0.1:0", "--models", models.folder];
  const child = spawn(process.execPath, [coordinatorMain, ...anyPort, "--redis-url", cluster.redis.url], {
    env: { PATH: process.env.PATH, ...env },
  });
  let text = "";
  child.stderr.on("data", (chunk) => {
    text += chunk;
  });
  const late = setTimeout(() => child.kill("SIGKILL"), 60_000);
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  clearTimeout(late);
  return { code, text };
}

describe("a cluster with a bucket", { skip, concurrency: 2 }, () => {
  describe("while it runs", { concurrency: 1 }, () => {
    test("inputs and outputs of 12 MiB go through the bucket, and the host asks the coordinator for them", async () => {
      const before = (await objects()).length;
      assertRight(await infer(cluster.url, 1), 1);
      assert.equal((await objects()).length, before + 2);
      assertRight(await infer(cluster.url, 1), 1);
      assert.equal((await objects()).length, before + 2, "the same values again");
      assert.deepEqual(await readdir(path.join(data, "unfinished-blobs")), []);
    });

    test("an uploaded model with weights of 256 MiB lies in the bucket, is served, and the coordinator stays small", {
      timeout: 300_000,
    }, async (t) => {
      const weights = 256 << 20;
      const piece = new Uint8Array(1 << 20);
      new Float32Array(piece.buffer).fill(1);
      const hash = createHash("sha256");
      for (let at = 0; at < weights; at += piece.length) hash.update(piece);
      const digest = hash.digest("base64");
      async function* body(): AsyncGenerator<Uint8Array> {
        for (let at = 0; at < weights; at += piece.length) yield piece;
      }
      const graph = new GraphBuilder({ name: "large" });
      graph.input("x", "FP32", [1, 2]);
      graph.output("y", "FP32", [1, 2]);
      const at = { datatype: "FP32", dims: [2], location: "weights.bin", offset: weights - 8, length: 8 } as const;
      graph.node("Add", ["x", graph.externalWeight("addend", { ...at, dims: [2] })], {}, "y");
      await infer(cluster.url, 2); // what the coordinator needs at any rate is there
      const before = residentMb();
      const versions = `${cluster.url}/v1/models/large/versions/1`;
      const headers = { "content-length": String(weights), "repr-digest": `sha-256=:${digest}:` };
      const sent = await request(`${versions}/files/weights.bin`, {
        method: "PUT",
        body: Readable.from(body()),
        headers,
        bodyTimeout: 0,
        headersTimeout: 0,
      });
      assert.equal(sent.statusCode, 201, await sent.body.text());
      const made = await call(versions, { method: "PUT", body: graph.toBytes() });
      assert.equal(made.status, 201, `${made.bytes}`);
      const answer = await call(`${cluster.url}/v2/models/large/infer`, {
        body: { inputs: [floats("x", [1, 2], [1, 2])], parameters: { timeout: 60_000_000 } },
      });
      assert.deepEqual(answer.json().outputs[0].data, [2, 3], `${answer.bytes}\n${cluster.log()}`);
      const after = residentMb();
      t.diagnostic(
        `the coordinator had ${before.now.toFixed(0)} MiB before, ${after.now.toFixed(0)} after, ${after.peak.toFixed(0)} at its peak`,
      );
      assert.ok(after.peak < before.peak + 75, `${before.peak} MiB before, ${after.peak} after`);
    });

    test("a bucket that does not answer refuses large values and nothing else, and serves again when it is back", {
      timeout: 120_000,
    }, async () => {
      await models.add("small", small());
      const ask = (): Promise<Answer> => call(`${cluster.url}/v2/models/small/infer`, { body: { inputs: [floats("x", [1, 2], [1, 2])] } });
      await until("the small model to be known", async () => (await ask()).status === 200);
      s3.signal("SIGSTOP");
      try {
        const refused = infer(cluster.url, 3);
        assert.equal((await ask()).status, 200);
        const answer = await refused;
        assert.equal(answer.status, 503, `${answer.bytes}`);
        assert.match(answer.json().error, /the bucket for large values cannot be used/);
        assert.doesNotMatch(`${answer.bytes}`, /127\.0\.0\.1/);
      } finally {
        s3.signal("SIGCONT");
      }
      assertRight(
        await until("large values to be taken again", async () => (await infer(cluster.url, 3)).status === 200 && infer(cluster.url, 3)),
        3,
      );
      assert.match(cluster.log(), /"blob_store_failed"[^\n]*start it, or correct SWITCHYARD_S3_ENDPOINT/);
      assert.match(cluster.log(), /"blob_store_answers"/);
    });
  });

  describe("when it starts", { concurrency: 2 }, () => {
    for (const [what, change, told] of [
      [
        "is not there",
        { SWITCHYARD_BLOBS: "s3://no-such-bucket" },
        /there is no bucket no-such-bucket at http:\S+: create it, or correct SWITCHYARD_BLOBS/,
      ],
      [
        "refuses the secret",
        { AWS_SECRET_ACCESS_KEY: "wrong" },
        /refuses the credentials \(SignatureDoesNotMatch\): check AWS_ACCESS_KEY_ID/,
      ],
      [
        "refuses the key",
        { AWS_ACCESS_KEY_ID: "nobody" },
        /(refuses the credentials|refuses what is asked|denies access).*check AWS_ACCESS_KEY_ID/,
      ],
      ["has no credentials here", { AWS_ACCESS_KEY_ID: "", AWS_SECRET_ACCESS_KEY: "" }, /no credentials were found: set AWS_ACCESS_KEY_ID/],
    ] as const) {
      test(`a coordinator whose bucket ${what} does not start, and says what to do`, async () => {
        const { code, text } = await startWith(bucketEnv(change, spare));
        assert.equal(code, 1, text);
        assert.match(text, told);
      });
    }

    test("`switchyard up` with a bucket gives its workers the coordinator to ask", { timeout: 120_000 }, async () => {
      const { SWITCHYARD_DATA: _own, ...env } = bucketEnv({ SWITCHYARD_BLOBS: `s3://${spare.bucket}/up` }, spare);
      await using up = await startCluster({ models: models.folder, env });
      assertRight(await infer(up.url, 4), 4);
    });
  });
});
