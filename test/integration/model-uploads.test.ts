/** Versions that are uploaded, through real processes: two coordinators, a host with their folder and one without it. */

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { after, before, test } from "node:test";
import { GraphBuilder } from "@switchyard/protocol/onnx";
import { request } from "undici";
import { adder as adderOf } from "../support/adder-models.ts";
import { type Answer, call, floats } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, type Repository } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

let models: Repository;
let data: string;
let elsewhere: string;
let cluster: Processes;
before(async () => {
  models = await emptyRepository();
  data = await mkdtemp(path.join(tmpdir(), "switchyard-uploads-"));
  elsewhere = await mkdtemp(path.join(tmpdir(), "switchyard-elsewhere-"));
  await models.add("in-folder", adder(100));
  cluster = await startProcesses({ coordinators: 2, models: models.folder, env: { SWITCHYARD_DATA: data, SWITCHYARD_MAX_MODEL: "1GiB" } });
});
after(async () => {
  await cluster?.stop();
  await models?.remove();
  for (const folder of [data, elsewhere]) if (folder) await rm(folder, { recursive: true, force: true });
});

const adder = (addend: number): GraphBuilder => adderOf(addend, 2);

/** As `adder`, with its weight in a file. */
function adderWith(location: string): Uint8Array {
  const graph = new GraphBuilder({ name: "adder" });
  graph.input("x", "FP32", ["batch", 2]);
  graph.output("y", "FP32", ["batch", 2]);
  graph.node("Add", ["x", graph.externalWeight("addend", { datatype: "FP32", dims: [2], location, offset: 0, length: 8 })], {}, "y");
  return graph.toBytes();
}

const put = (at: string, body: Uint8Array, how: { coordinator?: number; headers?: Record<string, string> } = {}): Promise<Answer> =>
  call(`${cluster.urls[how.coordinator ?? 0]}/v1/models/${at}`, { method: "PUT", body, headers: how.headers ?? {} });

const digestHeader = (bytes: Uint8Array): string => `sha-256=:${createHash("sha256").update(bytes).digest("base64")}:`;

/** What the model makes of 1 and 2; undefined while this coordinator does not know it. One that could not look for two seconds tells to come again. */
async function answerOf(model: string, how: { version?: number; coordinator?: number } = {}): Promise<number[] | undefined> {
  const version = how.version === undefined ? "" : `/versions/${how.version}`;
  const at = `${cluster.urls[how.coordinator ?? 0]}/v2/models/${model}${version}/infer`;
  const answer = await until("an answer", async () => {
    const one = await call(at, { body: { inputs: [floats("x", [1, 2], [1, 2])] } });
    return (one.status !== 503 || one.headers["retry-after"] === undefined) && one;
  });
  if (answer.status === 404) return undefined;
  assert.equal(answer.status, 200, `${answer.bytes}`);
  return answer.json().outputs[0].data;
}

const unfinished = (): Promise<string[]> => readdir(path.join(data, "blobs", "unfinished")).catch(() => []);

test("an uploaded version is served through every coordinator, in the version that is asked for", async () => {
  const answer = await put("grown/versions/1", adder(10).toBytes());
  assert.equal(answer.status, 201, `${answer.bytes}`);
  assert.equal(answer.json().digest, createHash("sha256").update(adder(10).toBytes()).digest("hex"));
  assert.deepEqual(await answerOf("grown"), [11, 12]);
  const seen = await until("the other coordinator to know it", () => answerOf("grown", { coordinator: 1 }));
  assert.deepEqual(seen, [11, 12]);
  assert.equal((await put("grown/versions/2", adder(20).toBytes(), { coordinator: 1 })).status, 201);
  await until("version 2 to be known", async () => (await answerOf("grown"))?.[0] === 21);
  assert.deepEqual(await answerOf("grown", { version: 1 }), [11, 12]);
});

test("the same content again changes nothing, other content under the same number is refused, uploaded or in the folder", async () => {
  const same = adder(30).toBytes();
  assert.equal((await put("fixed/versions/1", same)).status, 201);
  assert.equal((await put("fixed/versions/1", same)).status, 200);
  assert.equal((await put("fixed/versions/1", same, { headers: { "repr-digest": digestHeader(same) } })).status, 200);
  const other = adder(31).toBytes();
  for (const headers of [{}, { "repr-digest": digestHeader(other) }]) {
    const refused = await put("fixed/versions/1", other, { coordinator: 1, headers });
    assert.equal(refused.status, 409);
    assert.equal(refused.json().code, "version_exists");
  }
  assert.equal((await put("in-folder/versions/1", adder(100).toBytes())).status, 200);
  assert.equal((await put("in-folder/versions/1", other)).status, 409);
  assert.deepEqual(await answerOf("fixed"), [31, 32]);
  assert.deepEqual(await unfinished(), []);
});

test("bytes with another digest than the sender says are refused, and the number stays free", async () => {
  const bytes = adder(40).toBytes();
  for (const name of ["repr-digest", "content-digest"]) {
    const refused = await put("checked/versions/1", bytes, { headers: { [name]: digestHeader(randomBytes(8)) } });
    assert.equal(refused.status, 400);
    assert.match(refused.json().detail, /SHA-256/);
  }
  const unreadable = await put("checked/versions/1", bytes, { headers: { "repr-digest": "sha-512=:abc:" } });
  assert.deepEqual([unreadable.status, unreadable.json().errors[0].pointer], [400, "Repr-Digest"]);
  assert.equal((await call(`${cluster.url}/v1/models/checked`)).status, 404);
  const other = adder(41).toBytes();
  assert.equal((await put("checked/versions/1", other, { headers: { "content-digest": digestHeader(other) } })).status, 201);
});

test("what is no model, is too large, or bears a bad name is refused with the reason", async () => {
  const asked: [string, Uint8Array, number, RegExp][] = [
    ["bad/versions/1", Buffer.from("this is no graph"), 400, /not a whole ONNX model/],
    ["bad/versions/1", adder(1).toBytes().subarray(0, 60), 400, /not a whole ONNX model/],
    ["bad/versions/1", new Uint8Array(0), 400, /not a whole ONNX model/],
    ["bad/versions/0", adder(1).toBytes(), 400, /whole number/],
    ["bad/versions/one", adder(1).toBytes(), 400, /whole number/],
    ["bad%20name/versions/1", adder(1).toBytes(), 400, /name/],
    ["..%2Fup/versions/1", adder(1).toBytes(), 400, /name/],
  ];
  for (const [at, body, status, detail] of asked) {
    const answer = await put(at, body);
    assert.equal(answer.status, status, at);
    assert.match(answer.json().detail, detail);
  }
  const gzipped = await put("bad/versions/1", adder(1).toBytes(), { headers: { "content-encoding": "gzip" } });
  assert.deepEqual([gzipped.status, gzipped.json().code], [415, "unsupported_encoding"]);
  const form = await put("bad/versions/1", adder(1).toBytes(), { headers: { "content-type": "multipart/form-data; boundary=x" } });
  assert.deepEqual([form.status, form.json().code], [415, "unsupported_media_type"]);
  const huge = await request(`${cluster.url}/v1/models/bad/versions/1`, {
    method: "PUT",
    headers: { "content-length": String(2 ** 31), expect: "100-continue" },
    body: Readable.from([Buffer.alloc(1)]),
  }).catch(() => undefined);
  if (huge) assert.equal(huge.statusCode, 413);
  assert.equal((await call(`${cluster.url}/v1/models/bad`)).status, 404);
  assert.deepEqual(await unfinished(), []);
});

test("weights in files come ahead of the graph; what is missing or leads out of the folder is refused", async () => {
  for (const location of ["../outside.bin", "/etc/passwd", "a/../../b", "a\\b"]) {
    const answer = await put("split/versions/1", adderWith(location));
    assert.equal(answer.status, 400, location);
  }
  const early = await put("split/versions/1", adderWith("weights/w.bin"));
  assert.equal(early.status, 400);
  assert.match(early.json().detail, /weights\/w\.bin.*were not sent ahead/);
  const leadsOut = await put("split/versions/1/files/..%2Fout.bin", Buffer.alloc(8));
  assert.equal(leadsOut.status, 400);
  const weights = Buffer.from(new Float32Array([5, 6]).buffer);
  const staged = await put("split/versions/1/files/weights/w.bin", weights, { coordinator: 1 });
  assert.equal(staged.status, 201, `${staged.bytes}`);
  const whole = await put("split/versions/1", adderWith("weights/w.bin"));
  assert.equal(whole.status, 201, `${whole.bytes}`);
  assert.equal(whole.json().digest, createHash("sha256").update(adderWith("weights/w.bin")).update(weights).digest("hex"));
  assert.deepEqual(await answerOf("split"), [6, 8]);
  assert.equal((await put("split/versions/1", adderWith("weights/w.bin"))).status, 200);
  await put("split/versions/1/files/weights/w.bin", Buffer.alloc(8));
  assert.equal(
    (await put("split/versions/1", adderWith("weights/w.bin"))).status,
    409,
    "the same graph with other weights is other content",
  );
  const said = { headers: { "repr-digest": digestHeader(adderWith("weights/w.bin")) } };
  assert.equal((await put("split/versions/1", adderWith("weights/w.bin"), said)).status, 409, "whether or not it says its digest");
});

test("files of a version that were lost or damaged are taken again, whether or not the sender says a digest", async () => {
  const graph = adderWith("w.bin");
  const weights = Buffer.from(new Float32Array([7, 8]).buffer);
  const [ofGraph, ofWeights] = [graph, weights].map((bytes) => createHash("sha256").update(bytes).digest("hex")) as [string, string];
  const home = (sha256: string): string => path.join(data, "blobs", sha256.slice(0, 2), sha256.slice(2, 4));
  const lose = (sha256: string): Promise<void> => rm(home(sha256), { recursive: true });
  const damage = async (sha256: string): Promise<void> => {
    for (const name of await readdir(home(sha256))) {
      const file = path.join(home(sha256), name);
      await writeFile(file, randomBytes((await stat(file)).size));
    }
  };
  const isThere = async (sha256: string): Promise<boolean> => {
    const { bytes, status } = await call(`${cluster.url}/v1/blobs/${sha256}`);
    return status === 200 && createHash("sha256").update(bytes).digest("hex") === sha256;
  };
  await put("lost/versions/1/files/w.bin", weights);
  assert.equal((await put("lost/versions/1", graph)).status, 201);
  const cases = [lose, damage].flatMap((spoil) => [{ "repr-digest": digestHeader(graph) }, {}].map((headers) => ({ spoil, headers })));
  for (const { headers, spoil } of cases) {
    await spoil(ofGraph);
    assert.equal((await put("lost/versions/1", graph, { headers })).status, 200);
    assert.ok(await isThere(ofGraph));
    await spoil(ofWeights);
    const refused = await put("lost/versions/1", graph, { headers });
    assert.equal(refused.status, 400, `${refused.bytes}`);
    assert.match(refused.json().detail, /"w\.bin", which are gone or damaged/);
    await put("lost/versions/1/files/w.bin", weights);
    assert.equal((await put("lost/versions/1", graph, { headers })).status, 200);
    assert.ok(await isThere(ofWeights));
  }
  assert.deepEqual(await answerOf("lost"), [8, 10]);
});

test("an upload that is cut off leaves nothing behind", async () => {
  const { hostname, port } = new URL(cluster.url);
  const socket = connect(Number(port), hostname);
  socket.write(`PUT /v1/models/cut/versions/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n`);
  socket.write(adder(1).toBytes());
  await until("the upload to begin", async () => (await unfinished()).length === 1);
  socket.destroy();
  await until("its file to be gone", async () => (await unfinished()).length === 0);
  assert.equal((await call(`${cluster.url}/v1/models/cut`)).status, 404);
});

test("of two uploads of one version at the same time one makes it; equal ones both succeed", async () => {
  for (let round = 1; round <= 5; round++) {
    const [one, two] = [adder(50 + round).toBytes(), adder(60 + round).toBytes()];
    const [left, right] = await Promise.all([put(`raced/versions/${round}`, one), put(`raced/versions/${round}`, two, { coordinator: 1 })]);
    assert.deepEqual([left.status, right.status].sort(), [201, 409], `${left.bytes} ${right.bytes}`);
    const expected = left.status === 201 ? 51 + round : 61 + round;
    assert.equal((await until("the version", () => answerOf("raced", { version: round })))?.[0], expected);
    const both = await Promise.all([put(`equal/versions/${round}`, one), put(`equal/versions/${round}`, one, { coordinator: 1 })]);
    assert.deepEqual(both.map(({ status }) => status).sort(), [200, 201], both.map(({ bytes }) => bytes).join("\n"));
  }
});

test("the configuration of an uploaded model is checked, taken and removed; a model of the folder keeps its own", async () => {
  assert.equal((await put("tuned/versions/1", adder(1).toBytes())).status, 201);
  const config = async (): Promise<unknown> => (await call(`${cluster.url}/v1/models/tuned/versions/1`)).json().config;
  const wrong = await put("tuned/config", Buffer.from("max_batch_itmes: 4"));
  assert.equal(wrong.status, 400);
  assert.match(wrong.json().detail, /max_batch_itmes/);
  for (const text of ["class: &a [*a]", `class: ${"[".repeat(20_000)}${"]".repeat(20_000)}`, "a: &b {c: *b}"]) {
    const refused = await put("tuned/config", Buffer.from(text));
    assert.deepEqual([refused.status, refused.json().code], [400, "invalid_request"], `${refused.bytes}`);
    assert.match(refused.json().detail, /expected at most 64 levels/);
  }
  const many = await put("tuned/config", Buffer.from(Array.from({ length: 2_000 }, (_, at) => `k${at}: 1\n`).join("")));
  assert.equal(many.status, 400);
  assert.ok(many.bytes.length < 10_000, `${many.bytes.length} bytes`);
  const taken = await put("tuned/config", Buffer.from("max_batch_items: 4\nclass: batch\n"));
  assert.deepEqual([taken.status, taken.json()], [200, { max_batch_items: 4, class: "batch" }]);
  assert.deepEqual(await config(), { max_batch_items: 4, class: "batch" });
  await call(`${cluster.url}/v1/models/tuned/config`, { method: "DELETE" });
  assert.deepEqual(await config(), {});
  assert.equal((await put("in-folder/config", Buffer.from("class: batch"))).status, 400);
});

test("uploaded versions outlive every process, and sweeps of large values", async () => {
  assert.equal((await put("lasting/versions/1", adder(70).toBytes())).status, 201);
  const processes = [...cluster.coordinators, ...cluster.workers];
  await Promise.all(processes.map((process) => process.kill()));
  await Promise.all(processes.map((process) => process.respawn()));
  assert.deepEqual(await until("the model", () => answerOf("lasting")), [71, 72]);
  await until("it to be kept for more than a week", async () => {
    const sha256 = createHash("sha256").update(adder(70).toBytes()).digest("hex");
    const names = readdirSync(path.join(data, "blobs", sha256.slice(0, 2)), { recursive: true }) as string[];
    return names.some((name) => name.includes(`${sha256}.`) && Number(name.split(".")[1]) * 60_000 > Date.now() + 7 * 86_400_000);
  });
});

test("a host without the folder fetches the files from a coordinator, once for all models with the same content", async () => {
  for (const worker of cluster.workers) await worker.stop();
  await cluster.addWorker({ SWITCHYARD_DATA: elsewhere, SWITCHYARD_URL: cluster.url });
  const bytes = adder(80).toBytes();
  for (const model of ["far", "far-too"]) assert.equal((await put(`${model}/versions/1`, bytes)).status, 201);
  assert.deepEqual(await answerOf("far"), [81, 82]);
  assert.deepEqual(await answerOf("far-too"), [81, 82]);
  assert.deepEqual(await answerOf("split"), [6, 8]);
  const digest = createHash("sha256").update(bytes).digest("hex");
  const folders = await readdir(path.join(elsewhere, "fetched-models"));
  assert.ok(folders.includes(digest), folders.join());
  assert.ok(!folders.some((name) => name.includes(".")), "nothing is half fetched");
});

const largeMb = process.env.SWITCHYARD_TEST_LONG === "1" ? 512 : 64;

test(`a model of ${largeMb} MB is uploaded, and the coordinator holds less than 64 MB of it`, { timeout: 240_000 }, async () => {
  const graph = new GraphBuilder({ name: "large" });
  const rows = (largeMb * 1024 * 1024) / 4 / 1024;
  graph.input("x", "FP32", ["batch", rows]);
  graph.output("y", "FP32", ["batch", 1024]);
  const values = new Float32Array(rows * 1024);
  for (let at = 0; at < values.length; at += 997) values[at] = at % 13;
  graph.node("MatMul", ["x", graph.weight("w", [rows, 1024], values)], {}, "y");
  const bytes = graph.toBytes();
  const pid = cluster.coordinators[0]!.pid;
  const rssMb = (): number => Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;
  const before = rssMb();
  let most = before;
  const watch = setInterval(() => {
    most = Math.max(most, rssMb());
  }, 20);
  const pieces = function* (): Generator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += 1 << 20) yield bytes.subarray(at, at + (1 << 20));
  };
  const answer = await request(`${cluster.url}/v1/models/large/versions/1`, {
    method: "PUT",
    headers: { "repr-digest": digestHeader(bytes) },
    body: Readable.from(pieces()),
    headersTimeout: 200_000,
  });
  clearInterval(watch);
  const body = (await answer.body.json()) as { size_bytes: number };
  assert.equal(answer.statusCode, 201, JSON.stringify(body));
  assert.equal(body.size_bytes, bytes.length);
  console.log(`# coordinator: ${before.toFixed(0)} MB before, ${most.toFixed(0)} MB at most while ${largeMb} MB came`);
  assert.ok(most - before < 64, `it grew by ${(most - before).toFixed(0)} MB`);
});
