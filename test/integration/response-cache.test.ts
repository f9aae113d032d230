/** The response cache as callers see it, over HTTP: known answers, equal requests at once at two coordinators, and what dies in between. */

import assert from "node:assert/strict";
import { rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import type { JobView } from "@switchyard/protocol";
import { GraphBuilder } from "@switchyard/protocol/onnx";
import { type Answer, binaryInference, binaryOutputs, call, floats, jobView } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, layersModel, type Repository, rowsOf, slowModel, slowRuns } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const cache = "cache: {ttl_s: 600}\n";
let models: Repository;
let gate: string;
let cluster: Processes;

/** `x` INT64 [1] → `y` FP32 [1]; fails when it runs with an index above 1. */
function pickModel(): GraphBuilder {
  const graph = new GraphBuilder({ name: "pick" });
  graph.input("x", "INT64", [1]);
  graph.output("y", "FP32", [1]);
  graph.node("Gather", [graph.weight("values", [2], new Float32Array([10, 20])), "x"], {}, "y");
  return graph;
}

before(async () => {
  models = await emptyRepository();
  await models.add("fast", layersModel(1), { settings: cache });
  await models.add("plain", layersModel(1));
  await models.add("slow", slowModel(1), { settings: cache });
  await models.add("pick", pickModel(), { settings: cache });
  await models.add("changing", layersModel(2), { settings: cache });
  gate = path.join(models.folder, ".runs-are-held");
  cluster = await startProcesses({ models: models.folder, coordinators: 2, workerEnv: slowRuns(100, gate) });
});
after(async () => {
  await cluster?.stop();
  await models?.remove();
});

let lastValue = 0;
/** A request of the slow model that nobody has sent before. */
const newSlow = () => {
  lastValue += 1;
  return { inputs: [floats("x", [1], [lastValue])] };
};
const infer = (model: string, body: object, how: { at?: number; headers?: Record<string, string>; signal?: AbortSignal } = {}) =>
  call(`${cluster.urls[how.at ?? 0]}/v2/models/${model}/infer`, { ...how, body });
const submit = async (model: string, body: object, at = 0, headers: Record<string, string> = {}): Promise<JobView> => {
  const answer = await call(`${cluster.urls[at]}/v1/jobs`, { body: { model, ...body }, headers });
  assert.equal(answer.status, 202, answer.bytes.toString());
  return answer.json();
};
const statusOf = (answer: Answer) => answer.headers["cache-status"];

/** How many jobs of the model a host has taken. */
async function runs(model: string): Promise<number> {
  const { items } = (await call(`${cluster.url}/v1/jobs?model=${model}&limit=200`)).json() as { items: JobView[] };
  return items.filter(({ attempt }) => attempt > 0).length;
}

/** No run of the slow model ends before this does. What must not be waited for here is answered as a member. */
async function whileRunsAreHeld<T extends object>(act: () => Promise<T>): Promise<T> {
  await writeFile(gate, "");
  try {
    return await act();
  } finally {
    await rm(gate);
  }
}

/** Resolves when so many jobs of the slow model have not ended. */
const untilOpen = (count: number): Promise<true> =>
  until(`${count} jobs to be there`, async () => {
    const { items } = (await call(`${cluster.url}/v1/jobs?model=slow&limit=200`)).json() as { items: JobView[] };
    return items.filter(({ finished_at: ended }) => ended === undefined).length === count;
  });

async function running(id: string, at = 0): Promise<void> {
  await until("the leader to run", async () => (await jobView(cluster.urls[at]!, id)).state === "running", { show: () => cluster.log() });
}

describe("while all live", { concurrency: 2 }, () => {
  test("a changed model.yaml, and a new version, see no earlier answer", async () => {
    const body = { inputs: [floats("x", [1, 32], rowsOf(1)[0]!)] };
    const ask = async () => {
      const answer = await infer("changing", body);
      return [answer.json().model_version, statusOf(answer)];
    };
    assert.deepEqual(await ask(), ["1", undefined]);
    assert.deepEqual(await ask(), ["1", "switchyard; hit"]);
    const shown = async () => (await call(`${cluster.url}/v1/models/changing`)).json();
    await models.add("changing", layersModel(2), { settings: "cache: {ttl_s: 600}\nmax_batch_items: 4\n" });
    await until("the new settings", async () => JSON.stringify(await shown()).includes('"max_batch_items":4'));
    assert.deepEqual(await ask(), ["1", undefined]);
    assert.deepEqual(await ask(), ["1", "switchyard; hit"]);
    await models.add("changing", layersModel(2), { version: 2, settings: "cache: {ttl_s: 600}\nmax_batch_items: 4\n" });
    await until("version 2", async () => JSON.stringify(await shown()).includes('"version":2'));
    assert.deepEqual(await ask(), ["2", undefined]);
  });

  describe("answers", { concurrency: 1 }, () => {
    test("an equal request is answered without a run, whatever its form, at any coordinator, and says so", async () => {
      const [row] = rowsOf(1) as [Float32Array];
      const json = { inputs: [floats("x", [1, 32], row)] };
      const first = await infer("fast", json);
      assert.deepEqual([first.status, statusOf(first)], [200, undefined], first.bytes.toString());
      const before = await runs("fast");
      const again = await infer("fast", json, { at: 1 });
      assert.deepEqual([again.status, statusOf(again)], [200, "switchyard; hit"], again.bytes.toString());
      assert.deepEqual(again.bytes, first.bytes);
      const { body, headers } = binaryInference("x", [1, 32], row);
      const binary = await call(`${cluster.url}/v2/models/fast/infer`, { body, headers });
      assert.equal(statusOf(binary), "switchyard; hit");
      const bytes = binaryOutputs(binary).get("y")!;
      assert.deepEqual([...new Float32Array(new Uint8Array(bytes).buffer)], first.json().outputs[0].data.map(Math.fround));
      assert.equal(await runs("fast"), before);
      // a client's own id and the outputs' form are the answer's, not the entry's
      assert.equal((await infer("fast", { ...json, id: "mine" })).json().id, "mine");
      assert.equal(statusOf(await infer("fast", { ...json, outputs: [{ name: "y" }] })), undefined, "other outputs were asked for");
    });

    test("a model without a cache runs each request", async () => {
      const json = { inputs: [floats("x", [1, 32], rowsOf(1)[0]!)] };
      const before = await runs("plain");
      for (let at = 0; at < 2; at++) assert.equal(statusOf(await infer("plain", json)), undefined);
      assert.equal(await runs("plain"), before + 2);
    });

    test("a submitted job that is known has ended when it is accepted, and is a job like any other", async () => {
      const json = { inputs: [floats("x", [1, 32], rowsOf(2)[1]!)] };
      await infer("fast", json);
      const view = await submit("fast", { ...json, tags: { team: "a" } });
      assert.deepEqual(
        [view.state, view.cached, view.attempt, view.started_at, view.tags],
        ["succeeded", true, 0, undefined, { team: "a" }],
      );
      assert.deepEqual(view.timings, { queue_ms: 0, run_ms: 0, total_ms: 0, batch_items: 0 });
      assert.deepEqual(await jobView(cluster.urls[1]!, view.id), view);
      assert.deepEqual((await call(`${cluster.url}${view.links.result}`)).json().outputs[0].shape, [1, 32]);
      const events = (await call(`${cluster.urls[1]}${view.links.events}`)).bytes.toString();
      assert.match(events, /^retry: \d+\n\nid: 1\nevent: succeeded\ndata: /);
      const { items } = (await call(`${cluster.url}/v1/jobs?model=fast&tag=team:a`)).json() as { items: JobView[] };
      assert.deepEqual(items, [view]);
      assert.equal((await call(`${cluster.url}/v1/jobs/${view.id}`, { method: "DELETE" })).status, 409);
      const held = await call(`${cluster.url}/v1/jobs`, { body: { model: "fast", ...json }, headers: { prefer: "wait=10" } });
      assert.deepEqual([held.status, held.json().cached, held.json().result.outputs[0].name], [200, true, "y"]);
    });

    test("an idempotency key names one job, also when the cache answers it", async () => {
      const json = { inputs: [floats("x", [1, 32], rowsOf(3)[2]!)] };
      await infer("fast", json);
      const headers = { "idempotency-key": "cached" };
      const [first, again] = [await infer("fast", json, { headers }), await infer("fast", json, { headers, at: 1 })];
      assert.deepEqual([first.headers["idempotent-replayed"], again.headers["idempotent-replayed"]], [undefined, "true"]);
      assert.deepEqual([statusOf(first), statusOf(again)], ["switchyard; hit", "switchyard; hit"]);
      assert.deepEqual(again.bytes, first.bytes);
      assert.equal((await infer("fast", { ...json, id: "other" }, { headers })).status, 422);
      const crowd = await Promise.all(
        Array.from({ length: 20 }, (_, at) => submit("fast", json, at % 2, { "idempotency-key": "crowd-of-cached" })),
      );
      assert.equal(new Set(crowd.map(({ id }) => id)).size, 1);
    });

    test("forty equal requests at two coordinators are one run", async () => {
      // a leader whose admission takes so long that it may be gone is followed by nobody: where the machine was that busy, another crowd is sent
      const { answers, body } = await until("a crowd whose leader was admitted in time", async () => {
        const body = newSlow();
        const before = await runs("slow");
        const { asked } = await whileRunsAreHeld(async () => {
          const asked = Promise.all(Array.from({ length: 40 }, (_, at) => infer("slow", body, { at: at % 2 })));
          await untilOpen(40);
          return { asked };
        });
        const answers = await asked;
        for (const answer of answers) assert.equal(answer.status, 200, answer.bytes.toString());
        const made = (await runs("slow")) - before;
        assert.ok(made <= 3, `${made} runs`);
        return made === 1 && { answers, body };
      });
      const bodies = new Set(answers.map(({ bytes }) => bytes.toString()));
      assert.equal(bodies.size, 1, [...bodies].join("\n"));
      const statuses = answers.map(statusOf);
      assert.equal(statuses.filter((status) => status === undefined).length, 1);
      assert.equal(statuses.filter((status) => status === "switchyard; fwd=miss; collapsed").length, 39, statuses.join("\n"));
      assert.equal(statusOf(await infer("slow", body)), "switchyard; hit");
    });

    test("a leader whose caller leaves does not take the others along", async () => {
      const body = newSlow();
      const leaving = new AbortController();
      const { follower, held } = await whileRunsAreHeld(async () => {
        const lost = assert.rejects(infer("slow", body, { signal: leaving.signal }));
        const leader = await until("the leader", async () => {
          const { items } = (await call(`${cluster.url}/v1/jobs?model=slow&state=running`)).json() as { items: JobView[] };
          return items[0]?.id;
        });
        const follower = await submit("slow", body, 1);
        const held = infer("slow", body, { at: 1 });
        await untilOpen(3);
        leaving.abort();
        await lost;
        await until("the leader to be cancelled", async () => (await jobView(cluster.url, leader)).state === "cancelled");
        return { follower, held };
      });
      assert.equal((await held).status, 200, (await held).bytes.toString());
      assert.equal((await jobView(cluster.url, follower.id, 30)).state, "succeeded");
    });

    test("a follower has its own deadline and its own cancel", async () => {
      const body = newSlow();
      const { leader, kept } = await whileRunsAreHeld(async () => {
        const leader = await submit("slow", body);
        await running(leader.id);
        const [cancelled, kept] = [await submit("slow", body, 1), await submit("slow", body, 1)];
        const hasty = infer("slow", body, { headers: { "x-request-timeout-ms": "40" } });
        assert.equal((await call(`${cluster.url}/v1/jobs/${cancelled.id}`, { method: "DELETE" })).json().state, "cancelled");
        assert.equal((await hasty).status, 504, (await hasty).bytes.toString());
        return { leader, kept };
      });
      const ends = await Promise.all([leader, kept].map(({ id }) => jobView(cluster.url, id, 30)));
      assert.deepEqual(
        ends.map(({ state, cached }) => [state, cached]),
        [
          ["succeeded", undefined],
          ["succeeded", true],
        ],
      );
    });

    test("a failure is never an answer from the cache", async () => {
      const body = (index: number) => ({ inputs: [{ name: "x", datatype: "INT64", shape: [1], data: [index] }], max_attempts: 1 });
      for (let at = 0; at < 2; at++) {
        const view = await jobView(cluster.url, (await submit("pick", body(5), at)).id, 10);
        assert.deepEqual([view.state, view.attempt, view.cached], ["failed", 1, undefined]);
      }
      const views = [];
      for (let at = 0; at < 2; at++) views.push(await jobView(cluster.url, (await submit("pick", body(1), at)).id, 10));
      assert.deepEqual(
        views.map(({ state, cached }) => [state, cached]),
        [
          ["succeeded", undefined],
          ["succeeded", true],
        ],
      );
    });
  });
});

test("a coordinator that dies with leader and followers leaves none of them unanswered", async () => {
  const body = newSlow();
  const { here, orphan } = await whileRunsAreHeld(async () => {
    const leader = await submit("slow", body, 1);
    await running(leader.id);
    const here = infer("slow", body);
    const orphan = await submit("slow", body, 1);
    const lost = assert.rejects(infer("slow", body, { at: 1 }));
    await untilOpen(4);
    await cluster.coordinators[1]!.kill();
    await lost;
    return { here, orphan };
  });
  assert.deepEqual([(await here).status, statusOf(await here)], [200, "switchyard; fwd=miss; collapsed"], (await here).bytes.toString());
  const view = await jobView(cluster.url, orphan.id, 20);
  assert.deepEqual([view.state, view.cached], ["succeeded", true]);
  await cluster.coordinators[1]!.respawn();
});

test("a store that goes away and comes back ends waits with 503, and jobs that were accepted are answered", async () => {
  const body = newSlow();
  const { follower, held, leader } = await whileRunsAreHeld(async () => {
    const leader = await submit("slow", body);
    await running(leader.id);
    const follower = await submit("slow", body, 1);
    const held = infer("slow", body, { at: 1 });
    await untilOpen(3);
    await cluster.redis.kill();
    return { follower, held, leader };
  });
  assert.equal((await held).status, 503, (await held).bytes.toString());
  await cluster.redis.restart();
  for (const url of cluster.urls) await until("readiness", async () => (await call(`${url}/readyz`)).status === 200);
  for (const { id } of [leader, follower]) {
    const view = await until(
      "its end",
      async () => {
        const now = await jobView(cluster.url, id, 5);
        return now.finished_at !== undefined && now;
      },
      { withinMs: 60_000, show: () => cluster.log() },
    );
    assert.equal(view.state, "succeeded", JSON.stringify(view));
  }
  assert.equal((await infer("slow", body)).status, 200);
});
