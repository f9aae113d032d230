/** What gRPC messages hold: counted as bodies over HTTP are, together with them, and given back however a call ends. The job service is a fake. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";
import { systemClock } from "../../coordinator/src/clock.ts";
import { createGrpcServer } from "../../coordinator/src/doors/grpc-server.ts";
import { collect, GrpcClient, inferenceService, methodOf } from "../support/grpc-client.ts";
import { tinyScores } from "../support/open-door.ts";
import { type OpenGrpc, openGrpc, tinyMessage } from "../support/open-grpc.ts";
import { framed, type PlainCall, PlainGrpc } from "../support/plain-grpc.ts";
import { until } from "../support/until.ts";

const mib = 1 << 20;
const maxBodyBytes = mib;
/** Four of the largest fit. */
const large = Math.floor(0.9 * mib);
const padded = (bytes: number, extra: Record<string, unknown> = {}) =>
  tinyMessage({ parameters: { note: { string_param: "a".repeat(bytes) } }, ...extra });
const encoded = (message: object): Buffer => methodOf(inferenceService, "ModelInfer").requestSerialize(message);

async function openDoor(t: TestContext): Promise<OpenGrpc> {
  const door = await openGrpc(t, { maxBodyBytes });
  door.jobs.run = tinyScores;
  return door;
}

/** Whether the budget has room for a large message: an answer that is OK, or the refusal. */
async function hasRoom(door: OpenGrpc): Promise<boolean> {
  const { code, details } = await door.client.call("ModelInfer", padded(large));
  assert.ok(code === "OK" || code === "RESOURCE_EXHAUSTED", `${code}: ${details}`);
  return code === "OK";
}

/** Another door on the same budget, and what it waits for: it gives no message more than five minutes. */
async function withWaits(t: TestContext, door: OpenGrpc): Promise<{ grpc: string; waits: Set<() => void> }> {
  const waits = new Set<() => void>();
  const clock = {
    ...systemClock,
    after(ms: number, run: () => void) {
      assert.equal(ms, 300_000);
      waits.add(run);
      return () => void waits.delete(run);
    },
  };
  const server = createGrpcServer({ ...door.parts, clock });
  const { port } = await server.listen({ host: "127.0.0.1", port: 0 });
  t.after(() => server.close());
  return { grpc: `127.0.0.1:${port}`, waits };
}

/** Calls that have sent the larger part of their messages, which fill the budget. */
async function fill(door: OpenGrpc, plain: PlainGrpc, headers: Record<string, string> = {}): Promise<PlainCall[]> {
  const part = framed(Buffer.alloc(large, 0xff), { promised: mib });
  const calls = await Promise.all(Array.from({ length: 4 }, () => plain.begin(part, headers)));
  // a call that looks for room while they come would take theirs
  await until("them to be sent", async () => calls.every(({ stream }) => stream.writableLength === 0));
  await plain.heard();
  const ended = Promise.race(calls.map((call) => call.ended));
  const isOver = async (): Promise<boolean> => (await Promise.race([ended, "going"])) !== "going";
  await until("the budget to be full", async () => !(await hasRoom(door)) || (await isOver()));
  if (!(await isOver())) return calls;
  assert.ok("grpc-timeout" in headers, "a call ended before its message was there");
  return await fill(door, plain, headers); // this machine stood still for longer than their deadline
}

test("messages that are being read fill the budget: a further large one is refused in words, over gRPC and HTTP, small ones pass", async (t) => {
  const door = await openDoor(t);
  const plain = new PlainGrpc(door);
  const calls = await fill(door, plain);
  const refused = await door.client.call("ModelInfer", padded(large));
  assert.equal(refused.code, "RESOURCE_EXHAUSTED");
  assert.match(refused.details, /Too many large messages.*try again.*smaller messages/);
  assert.ok(Number(refused.trailers["retry-after"]) >= 1);
  assert.equal(refused.trailers["x-switchyard-error"], "rate_limited");
  assert.match(await door.metricsText(), /grpc_request_seconds_count\{method="ModelInfer",code="RESOURCE_EXHAUSTED"\} [1-9]/);
  assert.equal((await door.client.call("ModelInfer", tinyMessage())).code, "OK");
  const http = await fetch(`${door.url}/v2/models/tiny/infer`, { method: "POST", body: Buffer.alloc(large, 0x20) });
  assert.equal(http.status, 503, await http.text());
  for (const { stream } of calls) stream.end(Buffer.alloc(mib - large, 0xff));
  for (const { ended } of calls) assert.match((await ended).details, /no ModelInferRequest/); // whole, and read
  await until("room", () => hasRoom(door));
  assert.deepEqual(door.logged, []);
});

for (const [how, leave] of [
  ["is cancelled", (calls: PlainCall[]) => void calls.forEach(({ stream }) => void stream.close(8))],
  ["loses its connection", (_: PlainCall[], plain: PlainGrpc) => void plain.session.destroy()],
] as const) {
  test(`a call that ${how} while its message comes gives back what it held`, async (t) => {
    const door = await openDoor(t);
    const plain = new PlainGrpc(door);
    leave(await fill(door, plain), plain);
    await until("room", () => hasRoom(door));
    assert.deepEqual(door.jobs.cancelled, []);
  });
}

test("a call whose deadline passes while its message comes gives back what it held, though its client stays", async (t) => {
  const door = await openDoor(t);
  const plain = new PlainGrpc(door);
  const calls = await fill(door, plain, { "grpc-timeout": "3S" });
  for (const { ended } of calls) assert.equal((await ended).code, "DEADLINE_EXCEEDED");
  await until("room", () => hasRoom(door));
  await until("their streams to be closed", async () => calls.every(({ stream }) => stream.closed));
});

test("a refused message keeps nothing, though its client goes on sending, and so does one that is too slow", async (t) => {
  const door = await openDoor(t);
  const { grpc, waits } = await withWaits(t, door);
  const plain = new PlainGrpc({ ...door, grpc });
  const calls = await fill(door, plain);
  const fifth = await plain.begin(framed(Buffer.alloc(large), { promised: mib }));
  const { code, retryAfter } = await fifth.ended;
  assert.deepEqual([code, Number(retryAfter) >= 1], ["RESOURCE_EXHAUSTED", true]);
  await until("its stream to be closed", async () => fifth.stream.closed);
  await until("the refused one to be waited for no more", async () => waits.size === 4);
  for (const run of [...waits]) run();
  for (const { ended } of calls) {
    const slow = await ended;
    assert.equal(slow.code, "INVALID_ARGUMENT");
    assert.match(slow.details, /not sent whole within 300 s/);
  }
  await until("room", () => hasRoom(door));
  assert.equal(waits.size, 0);
});

test("what a compressed message becomes is counted, not what was sent, and given back", async (t) => {
  const door = await openDoor(t);
  const plain = new PlainGrpc(door);
  const bomb = framed(gzipSync(encoded(padded(large))), { compressed: true });
  assert.ok(bomb.length < 5_000);
  // whole messages, whose calls wait for the end of the stream; one whose room the look for room took is refused
  const calls = new Set<PlainCall>();
  await until("the budget to be full", async () => {
    for (const call of calls) if (call.stream.closed) calls.delete(call);
    while (calls.size < 4) calls.add(await plain.begin(bomb, { "grpc-encoding": "gzip" }));
    await plain.heard();
    return !(await hasRoom(door));
  });
  using packed = new GrpcClient(door.grpc, { "grpc.default_compression_algorithm": 2 });
  assert.equal((await packed.call("ModelInfer", padded(large))).code, "RESOURCE_EXHAUSTED");
  for (const { stream } of calls) stream.end();
  for (const { ended } of calls) assert.equal((await ended).code, "OK");
  await until("room", () => hasRoom(door));
  assert.equal((await packed.call("ModelInfer", padded(large))).code, "OK");
  const torn = await plain.begin(framed(Buffer.from("no gzip"), { compressed: true }), { "grpc-encoding": "gzip" });
  assert.match((await torn.ended).details, /not valid gzip/);
});

test("an inference that waits for its job holds nothing any more: it is decoded", async (t) => {
  const door = await openGrpc(t, { maxBodyBytes });
  const calls = [];
  for (let at = 1; at <= 8; at++) {
    calls.push(door.client.call("ModelInfer", padded(large)));
    await until("its job", async () => door.jobs.submissions.length === at);
  }
  const { jobs } = await door.jobs.list({ limit: 10, state: "queued" } as never);
  for (const { id } of jobs) door.jobs.end(id, "succeeded", { outputs: tinyScores() });
  for (const { code } of await Promise.all(calls)) assert.equal(code, "OK");
});

test("a stream has under way what one message may be, and leaves the rest with its client", async (t) => {
  const door = await openGrpc(t, { maxBodyBytes });
  const { grpc, waits } = await withWaits(t, door);
  const client = new GrpcClient(grpc);
  const stream = client.stream();
  door.leaving.push(
    () => stream.cancel(),
    () => client.close(),
  );
  const all = collect(stream);
  const count = 30;
  for (let at = 0; at < count; at++) stream.write(padded(0.3 * mib, { id: String(at) }));
  stream.end();
  const underWay = async () => (await door.jobs.list({ limit: 100, state: "queued" } as never)).jobs;
  await until("jobs", async () => door.jobs.submissions.length >= 4);
  await quiet(() => door.jobs.submissions.length);
  assert.equal(door.jobs.submissions.length, 4, "4 of 0.3 MiB are 1 MiB");
  assert.equal(waits.size, 0, "nothing is read meanwhile, however long the jobs take");
  door.jobs.run = tinyScores;
  assert.ok(await hasRoom(door), "what waits behind them is not held here");
  door.jobs.run = undefined;
  let most = 0;
  for (let ended = 0; ended < count; ) {
    const jobs = await until("the next job", async () => {
      const waiting = await underWay();
      return waiting.length > 0 && waiting;
    });
    most = Math.max(most, jobs.length);
    ended += jobs.length;
    for (const { id } of jobs) door.jobs.end(id, "succeeded", { outputs: tinyScores() });
  }
  assert.ok(most <= 4, `${most} at once`);
  const { messages, code } = await all;
  assert.equal(code, "OK");
  assert.deepEqual(
    messages.map(({ infer_response }) => infer_response.id),
    Array.from({ length: count }, (_, at) => String(at)),
  );
});

for (const encoding of ["identity", "gzip"]) {
  test(`messages of a stream that come in one piece are all answered, ${encoding}`, async (t) => {
    const door = await openDoor(t);
    const count = 100; // more than a stream has under way
    const pack = (message: Buffer): Buffer => (encoding === "gzip" ? gzipSync(message) : message);
    const compressed = encoding === "gzip";
    const messages = Array.from({ length: count }, (_, at) => framed(pack(encoded(tinyMessage({ id: String(at) }))), { compressed }));
    const piece = Buffer.concat(messages);
    assert.ok(piece.length < 16_384, "one DATA frame");
    const call = await new PlainGrpc(door).begin(piece, { "grpc-encoding": encoding }, "ModelStreamInfer");
    const answers: Buffer[] = [];
    call.stream.on("data", (part: Buffer) => void answers.push(part));
    await until("their answers", async () => messagesIn(Buffer.concat(answers)) === count);
    call.stream.end();
    assert.equal((await call.ended).code, "OK");
  });
}

test("a stream whose message finds no room ends with the refusal, and its jobs are cancelled", async (t) => {
  const door = await openGrpc(t, { maxBodyBytes });
  const stream = door.client.stream();
  door.leaving.push(() => stream.cancel());
  const all = collect(stream);
  stream.write(tinyMessage());
  await until("its job", async () => door.jobs.submissions.length === 1);
  door.jobs.run = tinyScores;
  const calls = await fill(door, new PlainGrpc(door));
  stream.write(padded(large));
  const { code, details } = await all;
  assert.equal(code, "RESOURCE_EXHAUSTED");
  assert.match(details, /try again/);
  await until("its job to be cancelled", async () => door.jobs.cancelled.length === 1);
  for (const { stream: other } of calls) other.close(8);
  await until("room", () => hasRoom(door));
});

/** Whole ones. */
function messagesIn(bytes: Buffer): number {
  let count = 0;
  for (let at = 0; at + 5 <= bytes.length; count++) {
    at += 5 + bytes.readUInt32BE(at + 1);
    if (at > bytes.length) return count;
  }
  return count;
}

/** Until a number has stopped changing: what would come has come. */
async function quiet(read: () => number): Promise<void> {
  for (let last = -1, same = 0; same < 20; ) {
    same = read() === last ? same + 1 : 0;
    last = read();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
