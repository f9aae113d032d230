/** A worker that hangs for longer than its presence lasts: its jobs run elsewhere, and when it wakes, nothing that it still does counts. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { JobView } from "@switchyard/protocol";
import { call, jobView } from "../support/calls.ts";
import { startProcesses } from "../support/processes.ts";
import { emptyRepository, slowModel, slowRuns } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const exitLost = 75;

test("a worker frozen in mid-run loses its job to another, and ends itself when it wakes instead of answering twice", async (t) => {
  await using models = await emptyRepository();
  await models.add("slow", slowModel(1));
  await using cluster = await startProcesses({ workers: 2, models: models.folder, workerEnv: slowRuns(500) });
  const { url, workers } = cluster;
  const body = { model: "slow", inputs: [{ name: "x", datatype: "FP32", shape: [1], data: [1] }], timeout_ms: 60_000 };
  // a run that ended before the signal came is no run to be frozen in
  const { frozen, id } = await until("a job whose host is frozen while it runs", async () => {
    const { id } = (await call(`${url}/v1/jobs`, { body })).json() as JobView;
    const begun = await until("the job to run", async () => {
      const view = await jobView(url, id);
      return view.attempt > 0 && view;
    });
    const frozen = workers.find(({ name }) => name === begun.host)!;
    frozen.signal("SIGSTOP");
    if ((await jobView(url, id)).state === "running") return { frozen, id };
    frozen.signal("SIGCONT");
    return false;
  });
  const other = workers.find((worker) => worker !== frozen)!;
  const frozenMs = performance.now();
  const ended = await jobView(url, id, 30);
  t.diagnostic(`ended on another host ${(performance.now() - frozenMs).toFixed(0)} ms after the freeze`);
  assert.deepEqual([ended.state, ended.host, ended.attempt], ["succeeded", other.name, 2]);
  const { items: hosts } = (await call(`${url}/v1/hosts`)).json() as { items: { id: string; state: string }[] };
  assert.deepEqual(
    hosts.map((host) => [host.id, host.state]).sort(),
    [
      [frozen.name, "lost"],
      [other.name, "ready"],
    ].sort(),
  );

  const before = await call(`${url}/v1/jobs/${id}`);
  frozen.signal("SIGCONT");
  assert.equal((await frozen.exited).code, exitLost);
  const after = await call(`${url}/v1/jobs/${id}`);
  assert.equal(after.headers.etag, before.headers.etag);
  assert.deepEqual(after.json(), before.json());
  await frozen.respawn();
  await until("the new start to be listed as ready", async () => {
    const { items } = (await call(`${url}/v1/hosts`)).json() as { items: { incarnation: string; state: string }[] };
    return items.some(({ incarnation, state }) => incarnation === frozen.incarnation && state === "ready");
  });
});
