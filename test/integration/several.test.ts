/** Several coordinators and workers on one Redis: any answers for any job, and each may leave in order without anybody noticing. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import type { JobView } from "@switchyard/protocol";
import { type Answer, call, jobView } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, layersModel, type Repository, rowsOf } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const inputs = [{ name: "x", datatype: "FP32", shape: [1, 32], data: [...rowsOf(1)[0]!] }];

let models: Repository;
let cluster: Processes;
before(async () => {
  models = await emptyRepository();
  await models.add("layers", layersModel(100), { settings: "max_batch_items: 4\n" });
  cluster = await startProcesses({ coordinators: 2, workers: 2, models: models.folder });
});
after(async () => {
  await cluster?.stop();
  await models?.remove();
});

const submitAt = (url: string): Promise<Answer> => call(`${url}/v1/jobs`, { body: { model: "layers", inputs } });

async function firstEvent(url: string, id: string, state: string): Promise<JobView> {
  const text = (await call(`${url}/v1/jobs/${id}/events`)).bytes.toString();
  const event = text.split("\n\n").find((block) => block.includes(`event: ${state}`));
  assert.ok(event, `no event ${state} in ${text}`);
  return JSON.parse(/^data: (.*)$/m.exec(event)![1]!);
}

/** Held calls and submissions without end, until `stop`; every answer is kept. */
function startLoad(url: string): { stop: () => Promise<Answer[]>; answered: () => number } {
  const answers: Answer[] = [];
  let over = false;
  const client = async (ask: () => Promise<Answer>): Promise<void> => {
    while (!over) {
      answers.push(await ask());
      await sleep(40);
    }
  };
  const held = () => call(`${url}/v2/models/layers/infer`, { body: { inputs } });
  const waited = () => call(`${url}/v1/jobs`, { body: { model: "layers", inputs, tags: { load: "1" } }, headers: { prefer: "wait=30" } });
  const clients = Array.from({ length: 8 }, (_, at) => client(at % 2 === 0 ? held : waited));
  return {
    answered: () => answers.length,
    async stop() {
      over = true;
      await Promise.all(clients);
      return answers;
    },
  };
}

test("any coordinator answers for any job: view, wait, result, events, cancel, list", async () => {
  const [one, two] = cluster.urls as [string, string];
  const { id } = (await submitAt(one)).json() as JobView;
  assert.equal((await jobView(two, id, 20)).state, "succeeded");
  assert.equal((await call(`${two}/v1/jobs/${id}/result`)).status, 200);
  assert.equal((await firstEvent(two, id, "succeeded")).id, id);
  assert.equal((await call(`${two}/v1/jobs/${id}`, { method: "DELETE" })).status, 409);
  const { items } = (await call(`${two}/v1/jobs?model=layers`)).json() as { items: JobView[] };
  assert.ok(items.some((view) => view.id === id));
  assert.deepEqual(await jobView(one, id), await jobView(two, id));
  for (const url of [one, two]) {
    const hosts = (await call(`${url}/v1/hosts`)).json() as { items: { id: string }[] };
    assert.deepEqual(hosts.items.map((host) => host.id).sort(), ["worker-1", "worker-2"]);
  }
});

test("a worker that is asked to end under load finishes or hands back, and no call fails for it", async () => {
  const load = startLoad(cluster.url);
  await until("the load to flow", async () => load.answered() > 20);
  const leaving = cluster.workers[1]!;
  assert.equal(await leaving.stop(), 0);
  assert.match(leaving.log(), /"drained"/);
  const atEnd = load.answered();
  await until("the other to go on", async () => load.answered() > atEnd + 20);
  for (const answer of await load.stop()) assert.equal(answer.status, 200, answer.bytes.toString());
  const { items } = (await call(`${cluster.url}/v1/jobs?model=layers&tag=load:1&limit=200`)).json() as { items: JobView[] };
  assert.ok(items.length > 0);
  for (const { attempt, id, state } of items) assert.deepEqual({ id, state, attempt }, { id, state: "succeeded", attempt: 1 });
  await until("the other to be the only one that is listed as ready", async () => {
    const hosts = (await call(`${cluster.url}/v1/hosts`)).json() as { items: { id: string; state: string }[] };
    return isDeepStrictEqual(
      hosts.items.filter(({ state }) => state === "ready").map(({ id }) => id),
      ["worker-1"],
    );
  });
  await leaving.respawn();
});

test("a coordinator that is asked to end lets held calls end with their results, and waits with the way to go on", async () => {
  const [one, two] = cluster.urls as [string, string];
  for (const worker of cluster.workers) worker.signal("SIGSTOP");
  const held = Array.from({ length: 5 }, () => call(`${one}/v2/models/layers/infer`, { body: { inputs } }));
  const submitted = (await submitAt(two)).json() as JobView;
  const polled = call(`${one}/v1/jobs/${submitted.id}?wait=30`);
  const preferring = call(`${one}/v1/jobs`, { body: { model: "layers", inputs }, headers: { prefer: "wait=30" } });
  await until("all to be admitted", async () => {
    const { items } = (await call(`${two}/v1/jobs?model=layers&state=queued`)).json() as { items: JobView[] };
    return items.length >= 7;
  });
  const ended = cluster.coordinators[0]!.stop();
  const early = await Promise.all([polled, preferring]);
  for (const worker of cluster.workers) worker.signal("SIGCONT");
  assert.equal(early[0].status, 200, early[0].bytes.toString());
  assert.equal(early[0].json().state, "queued");
  assert.equal(early[1].status, 202, early[1].bytes.toString());
  assert.match(String(early[1].headers.location), /^\/v1\/jobs\//);
  for (const answer of await Promise.all(held)) assert.equal(answer.status, 200, answer.bytes.toString());
  assert.equal(await ended, 0);
  for (const { id } of [submitted, early[1].json() as JobView]) assert.equal((await jobView(two, id, 20)).state, "succeeded");
});
