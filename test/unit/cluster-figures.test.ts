/** Who tells what is true of the cluster, and what is counted of a job that ended. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { figuresIn } from "../../coordinator/src/adapters/redis-server-figures.ts";
import { ClusterFigures } from "../../coordinator/src/application/cluster-figures.ts";
import { figuresOf } from "../../coordinator/src/application/job-figures.ts";
import type { JobNotice } from "../../coordinator/src/ports/job-store.ts";

function observed() {
  const told: string[] = [];
  let nowMs = 1_000;
  const figures = new ClusterFigures({
    hosts: { list: () => [{ state: "ready" }, { state: "ready" }, { state: "lost" }], matching: () => 0 } as never,
    jobs: {
      waiting: async (tags) =>
        tags.flatMap((tag) => ["red", "blue"].map((tenant) => ({ tag, tenant, class: "standard" as const, jobs: 2 }))),
    },
    stores: { servers: async () => [figuresIn("used_memory:5\r\n", "a:1")] },
    metrics: {
      leading: (leads) => void told.push(leads ? "leads" : "does not lead"),
      hostsSeen: (states) => void told.push(`hosts ${JSON.stringify([...states])}`),
      tenantsWaiting: (jobs) => void told.push(`waiting ${JSON.stringify([...jobs])}`),
      storeServers: (servers) => void told.push(`servers ${servers.map(({ server }) => server)}`),
      queueFigures: () => {},
      queueGone: () => {},
    },
    clock: { monotonicMs: () => nowMs } as never,
    openTags: () => ["one", "two"],
  });
  return {
    figures,
    told: () => told.splice(0),
    pass: (ms: number) => {
      nowMs += ms;
    },
  };
}

test("whoever leads tells of hosts, tenants and the store; whoever does not asks nobody", async () => {
  const { figures, told } = observed();
  await figures.round();
  assert.deepEqual(told(), ["does not lead"]);
  figures.noteLead(true);
  await figures.round();
  assert.deepEqual(told(), ["leads", 'hosts [["ready",2],["lost",1]]', 'waiting [["red",4],["blue",4]]', "servers a:1"]);
  await figures.round();
  assert.ok(!told().some((what) => what.startsWith("servers")), "servers are asked less often");
});

test("a coordinator that has not heard that it leads for as long as a lease lasts leads no longer", async () => {
  const { figures, pass, told } = observed();
  figures.noteLead(true);
  pass(2_900);
  await figures.round();
  assert.ok(!told().includes("does not lead"));
  pass(200);
  await figures.round();
  assert.deepEqual(told(), ["does not lead"]);
});

const notice: JobNotice = {
  ...{ id: "a-b", state: "succeeded", revision: 2, fence: 1, attempt: 1, class: "standard", counts: true, tenant: "red" },
  ...{ createdMs: 1_000, startedMs: 1_500, finishedMs: 2_000, deadlineMs: 3_000, runMs: 100, batchItems: 8, items: 2 },
};

test("a job has missed its deadline when it expired or ended later, not when it was cancelled", () => {
  assert.deepEqual(figuresOf(notice), { e2eSeconds: 1, missed: false, tenant: "red", queueSeconds: 0.5, deviceSeconds: 0.025 });
  assert.equal(figuresOf({ ...notice, finishedMs: 3_001 }).missed, true);
  assert.equal(figuresOf({ ...notice, state: "failed", finishedMs: 3_001 }).missed, true);
  assert.equal(figuresOf({ ...notice, state: "cancelled", finishedMs: 3_001 }).missed, false);
  const expired = figuresOf({ ...notice, state: "expired", startedMs: 0, runMs: 0, batchItems: 0, finishedMs: 3_000 });
  assert.deepEqual(expired, { e2eSeconds: 2, missed: true, tenant: "red" });
});

test("what INFO says becomes figures, and what it does not say is none", () => {
  const info = [
    ...["# Server", "uptime_in_seconds:70", "connected_clients:4", "used_memory:1000", "maxmemory:4000", "aof_enabled:1"],
    ...["aof_last_write_status:err", "used_cpu_sys:1.25", "used_cpu_user:2.5", "total_commands_processed:90", "role:master"],
    ...[
      "connected_slaves:2",
      "slave0:ip=10.0.0.2,port=6379,state=online,offset=900,lag=0",
      "slave1:ip=10.0.0.3,port=6379,state=online,offset=500,lag=1",
    ],
    ...["master_repl_offset:1000", "db0:keys=3,expires=1,avg_ttl=0", "db1:keys=4,expires=0,avg_ttl=0"],
  ].join("\r\n");
  const { appendOnlyWritten, cpuSeconds, keys, memoryBytes, memoryLimitBytes, replicaLagBytes, replicas } = figuresIn(info, "a:1");
  assert.deepEqual(
    { appendOnlyWritten, cpuSeconds, keys, memoryBytes, memoryLimitBytes, replicaLagBytes, replicas },
    { appendOnlyWritten: false, cpuSeconds: 3.75, keys: 7, memoryBytes: 1_000, memoryLimitBytes: 4_000, replicaLagBytes: 500, replicas: 2 },
  );
  const bare = figuresIn("aof_enabled:0\r\n", "a:1");
  assert.deepEqual([bare.appendOnlyWritten, bare.replicaLagBytes, bare.commands], [undefined, undefined, 0]);
});
