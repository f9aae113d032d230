/** The trace context of a job lives in its record, through the scripts on a real Redis; versions that know nothing of it are not disturbed by it. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import type { JobTrace } from "@switchyard/protocol";
import { readTraceWord, traceWordOf } from "@switchyard/protocol";
import { keys, newIncarnation } from "@switchyard/protocol/redis";
import type { Redis } from "ioredis";
import { noticesOf, recordOf } from "../../coordinator/src/adapters/job-rows.ts";
import type { NewJob } from "../../coordinator/src/ports/job-store.ts";
import { wireConnection } from "../../worker/src/redis-connection.ts";
import { type ClaimedJob, Claims, type JobResult } from "../../worker/src/runner/claims.ts";
import { type JobRig, unforeseen } from "../support/job-rig.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { RedisRigs } from "../support/redis-rig.ts";

let server: TestRedis;
let rigs: RedisRigs;
let wire: Redis;
before(async () => {
  server = await startTestRedis();
  rigs = await RedisRigs.open(server.url);
  wire = wireConnection(server.url, "runner") as Redis;
  await once(wire, "ready");
});
after(async () => {
  wire?.disconnect();
  await rigs?.close();
  await server?.stop();
});

const traced: JobTrace = {
  context: { traceId: "4bf92f3577b34da6a3ce929d0e0e4736", spanId: "00f067aa0ba902b7", isSampled: true, state: 'vendor=a b,other="q\\' },
  parentSpanId: "b7ad6b7169203331",
};
/** Texts of a caller that look like a context. */
const lookalike = { tags: { tp: "00-x", 'x","tp":"00-y': "z" }, requestId: ' {"m":"a","v":1,"tp":"00-forged"' };

interface Taken {
  jobs: ClaimedJob[];
  commit(results: JobResult[]): Promise<string[] | undefined>;
  /** Looks again, under the same ticket. */
  again(): Promise<ClaimedJob[]>;
}

/** Takes all that waits, as a host that asks for traces, or as one of a version that does not know them. */
async function take(rig: JobRig, tellsTraces: boolean): Promise<Taken> {
  const incarnation = newIncarnation();
  const ticketId = rig.offered.at(-1) as string;
  assert.equal(await rig.side.take({ tag: rig.tag, incarnation, ticketId }), "held");
  const claims = new Claims({ redis: wire, incarnation, hostId: "host-1", tellsTraces });
  const wish = { tag: rig.tag, ticketId, maxItems: 16, busyMs: 30_000, lingerMs: 50, ...unforeseen };
  const look = async (): Promise<ClaimedJob[]> => {
    const { claim } = await claims.exchange(undefined, wish);
    assert.equal(claim?.kind, "batch");
    return (claim as { jobs: ClaimedJob[] }).jobs;
  };
  return {
    jobs: await look(),
    again: look,
    commit: async (results) => (await claims.exchange({ tag: rig.tag, ticketId, runMs: 1, batchItems: 1, results }, undefined)).committed,
  };
}

const recordBytes = async (rig: JobRig, id: string): Promise<Buffer> =>
  (await rigs.redis.getBuffer(`${keys.base(rig.tag)}job:${id}`)) as Buffer;

async function admitted(wishes: Partial<NewJob>): Promise<{ rig: JobRig; id: string }> {
  const rig = rigs.rig();
  return { rig, id: await rig.admit({ wait: true, ...wishes }) };
}

test("a context comes back from the record, the claim and the notice, whatever else the caller wrote", async () => {
  const { id, rig } = await admitted({ ...lookalike, trace: traced });
  assert.deepEqual((await rig.record(id)).trace, traced);
  const { commit, jobs } = await take(rig, true);
  assert.equal(jobs[0]?.trace, traceWordOf(traced.context));
  assert.deepEqual(readTraceWord(jobs[0]!.trace!), traced.context);
  assert.deepEqual(await commit([{ id, fence: 1, outcome: "succeeded", outputs: Buffer.from("out"), ttlMs: 60_000 }]), ["committed"]);
  const bytes = await recordBytes(rig, id);
  assert.deepEqual(recordOf(id, bytes).trace, traced);
  const message = Buffer.concat([Buffer.from(`${id} 1 ${bytes.length}\n`), bytes, Buffer.from("\n")]);
  assert.deepEqual(noticesOf(message, { traces: true })[0]?.trace, traced);
  assert.equal(noticesOf(message)[0]?.trace, undefined);
});

test("a retried job keeps its context, behind the error of its first attempt", async () => {
  const { id, rig } = await admitted({ trace: traced, maxAttempts: 2 });
  const first = await take(rig, true);
  const error = { code: "run_failed", detail: ' {"m":"a","v":1,"tp":"00-forged"', retryable: true };
  await first.commit([{ id, fence: 1, outcome: "retry", error, retryDelayMs: 0 }]);
  const [job] = await first.again();
  assert.deepEqual([job?.attempt, job?.trace], [2, traceWordOf(traced.context)]);
});

test("a claim whose reply was lost tells the same contexts when it is repeated", async () => {
  const { rig } = await admitted({ trace: traced });
  const incarnation = newIncarnation();
  const ticketId = rig.offered.at(-1) as string;
  await rig.side.take({ tag: rig.tag, incarnation, ticketId });
  const wish = { tag: rig.tag, ticketId, maxItems: 16, busyMs: 30_000, lingerMs: 50, ...unforeseen };
  const host = (): Claims => new Claims({ redis: wire, incarnation, hostId: "host-1", tellsTraces: true });
  const jobsOf = async (): Promise<unknown> => ((await host().exchange(undefined, wish)).claim as { jobs: ClaimedJob[] }).jobs;
  const first = (await jobsOf()) as ClaimedJob[];
  assert.equal(first[0]?.trace, traceWordOf(traced.context));
  assert.deepEqual(await jobsOf(), first);
});

test("a host that knows no traces takes and ends a traced job, and one that does takes a job of a coordinator that knows none", async () => {
  const old = await admitted({ ...lookalike, trace: traced });
  const { commit, jobs } = await take(old.rig, false);
  assert.deepEqual([jobs[0]?.id, jobs[0]?.trace], [old.id, undefined]);
  assert.deepEqual(await commit([{ id: old.id, fence: 1, outcome: "succeeded", outputs: Buffer.from("o"), ttlMs: 60_000 }]), ["committed"]);
  assert.deepEqual((await old.rig.record(old.id)).trace, traced);

  const plain = await admitted(lookalike);
  assert.match((await recordBytes(plain.rig, plain.id)).toString(), / \{"m":"digits","v":1,"tags":/);
  assert.equal((await plain.rig.record(plain.id)).trace, undefined);
  const taken = await take(plain.rig, true);
  assert.equal(taken.jobs[0]?.trace, undefined, "what a caller wrote was taken for a context");
});
