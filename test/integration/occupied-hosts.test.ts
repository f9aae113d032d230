/** Two hosts that hold the same models: one is at a long run, and what comes meanwhile is the other's, whoever was given its ticket first. */

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { adder, zeroRequest } from "../support/adder-models.ts";
import { call, floats, jobView } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, type HeldRuns, heldRuns, type Repository, slowModel } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

let models: Repository;
let runs: HeldRuns;
let cluster: Processes;
before(async () => {
  models = await emptyRepository();
  await models.add("slow", slowModel(1));
  await models.add("quick", adder(1));
  runs = heldRuns(models);
});
beforeEach(async () => {
  await cluster?.stop();
  cluster = await startProcesses({ models: models.folder, workers: 2, workerEnv: runs.env });
  await until("both hosts to hold both models", async () => {
    const { items } = (await call(`${cluster.url}/v1/models`)).json() as { items: { warm_on: string[] }[] };
    return items.length === 2 && items.every(({ warm_on }) => warm_on.length === 2);
  });
});
after(async () => {
  await cluster?.stop();
  await models?.remove();
});

const submitSlow = async (timeoutMs: number): Promise<string> => {
  const body = { model: "slow", timeout_ms: timeoutMs, inputs: [floats("x", [1], [1])] };
  const answer = await call(`${cluster.url}/v1/jobs`, { body });
  assert.equal(answer.status, 202, `${answer.bytes}`);
  return answer.json().id;
};

/** A job of the slow model that some host runs until it is let go. */
async function running(): Promise<{ id: string; host: string }> {
  await runs.hold();
  const id = await submitSlow(60_000);
  const host = await until("the slow job to run", async () => {
    const view = await jobView(cluster.url, id);
    return view.state === "running" && view.host;
  });
  return { id, host };
}

test("jobs of another model that come one at a time are never left to the host that is at a long run", { timeout: 120_000 }, async () => {
  const { id } = await running();
  try {
    for (let at = 0; at < 16; at++) {
      const answer = await call(`${cluster.url}/v2/models/quick/infer`, { body: { ...zeroRequest, parameters: { timeout: 2_000_000 } } });
      assert.equal(answer.status, 200, `the ${at + 1}. job: ${answer.bytes}`);
      await sleep(60); // its ticket is retired meanwhile, so that the next job has a new one
    }
  } finally {
    await runs.letGo();
  }
  assert.equal((await jobView(cluster.url, id, 30)).state, "succeeded");
});

test("a host that ends after the run at hand keeps no other host from being asked", { timeout: 120_000 }, async () => {
  // one that knows of a long run takes the next for as long: its ticket would count for twice that time
  const first = await running();
  await sleep(3_000);
  let { id, host } = first;
  while (id === first.id || host !== first.host) {
    await runs.letGo();
    assert.equal((await jobView(cluster.url, id, 30)).state, "succeeded");
    ({ id, host } = await running());
  }
  const leaving = cluster.workers.find(({ hostId }) => hostId === host)!;
  leaving.signal("SIGTERM");
  await until("the cluster to know that it leaves", async () => {
    const { items } = (await call(`${cluster.url}/v1/hosts`)).json() as { items: { id: string; state: string }[] };
    return items.find((one) => one.id === host)?.state === "draining";
  });
  const next = await submitSlow(60_000);
  try {
    const view = await until(
      "the other host to begin",
      async () => {
        const seen = await jobView(cluster.url, next);
        return seen.state === "running" && seen;
      },
      { withinMs: 5_000 },
    );
    assert.notEqual(view.host, host);
  } finally {
    await runs.letGo();
  }
  for (const one of [id, next]) assert.equal((await jobView(cluster.url, one, 30)).state, "succeeded");
});
