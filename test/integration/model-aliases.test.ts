/** Aliases through real processes: names, splits, shadows, and promoting and rolling back under load. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { GraphBuilder } from "@switchyard/protocol/onnx";
import { Switchyard } from "switchyard";
import { adder, notRunnable, zeroRequest } from "../support/adder-models.ts";
import { type Answer, call, jobView } from "../support/calls.ts";
import { startCommandHost } from "../support/command-host.ts";
import { ask } from "../support/mcp-client.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, type Repository } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

let models: Repository;
let cluster: Processes;
before(async () => {
  models = await emptyRepository();
  for (const model of ["one", "named", "split", "shadowed", "promoted", "broken"]) {
    for (const version of [1, 2, 3]) await models.add(model, adder(10 * version), { version });
  }
  await models.add("broken", notRunnable(), { version: 4 });
  await models.add("one", other(), { version: 4 });
  cluster = await startProcesses({ coordinators: 2, models: models.folder, workers: 2 });
});
after(async () => {
  await cluster?.stop();
  await models?.remove();
});

/** With another input. */
function other(): GraphBuilder {
  const graph = new GraphBuilder({ name: "other" });
  graph.input("z", "FP32", ["batch", 1]);
  graph.output("y", "FP32", ["batch", 1]);
  graph.node("Identity", ["z"], {}, "y");
  return graph;
}

const aliasAt = (model: string, alias: string, coordinator = 0): string =>
  `${cluster.urls[coordinator]}/v1/models/${model}/aliases/${alias}`;

const set = (model: string, alias: string, target: unknown, coordinator = 0): Promise<Answer> =>
  call(aliasAt(model, alias, coordinator), { method: "PUT", body: target });

const infer = (model: string, version: string | undefined, coordinator = 0): Promise<Answer> =>
  call(`${cluster.urls[coordinator]}/v2/models/${model}${version === undefined ? "" : `/versions/${version}`}/infer`, {
    body: zeroRequest,
  });

/** The version that answered. */
async function versionOf(model: string, version?: string, coordinator = 0): Promise<number> {
  const answer = await infer(model, version, coordinator);
  assert.equal(answer.status, 200, `${answer.bytes}`);
  const { model_version, outputs } = answer.json();
  assert.equal(outputs[0].data[0], 10 * Number(model_version));
  return Number(model_version);
}

test("an alias may stand wherever a version is named, and as the default", async () => {
  assert.equal(await versionOf("named"), 3);
  assert.deepEqual((await set("named", "stable", { version: 1 })).json().target, { version: 1 });
  assert.equal(await versionOf("named", "stable"), 1);
  assert.equal(await until("the other coordinator", async () => (await infer("named", "stable", 1)).status === 200 && 1), 1);
  const job = await call(`${cluster.url}/v1/jobs`, { body: { model: "named", version: "stable", ...zeroRequest } });
  assert.equal(job.status, 202, `${job.bytes}`);
  assert.equal((await jobView(cluster.url, job.json().id, 60)).version, 1);
  assert.equal((await call(`${cluster.url}/v1/models/named/versions/stable`)).json().version, 1);
  assert.equal((await call(`${cluster.url}/v1/models/named/versions/stable/estimates`)).json().version, 1);
  assert.equal((await call(`${cluster.url}/v2/models/named/versions/stable/ready`)).status, 200);

  await set("named", "default", { alias: "stable" });
  assert.equal(await versionOf("named"), 1);
  const unnamed = await call(`${cluster.url}/v1/jobs`, { body: { model: "named", ...zeroRequest } });
  assert.equal((await jobView(cluster.url, unnamed.json().id, 60)).version, 1);
  await set("named", "stable", { version: 2 });
  assert.equal(await versionOf("named"), 2, "the default follows");
  const listed = (await call(`${cluster.url}/v1/models/named/aliases`)).json().items;
  assert.deepEqual(
    listed.map((one: { name: string; target: unknown }) => [one.name, one.target]),
    [
      ["default", { alias: "stable" }],
      ["stable", { version: 2 }],
    ],
  );
  assert.equal((await call(aliasAt("named", "stable"), { method: "DELETE" })).status, 400, "the default stands for it");
  assert.equal((await call(aliasAt("named", "default"), { method: "DELETE" })).status, 204);
  assert.equal(await versionOf("named"), 3);
  assert.equal((await call(aliasAt("named", "stable"), { method: "DELETE" })).status, 204);
  assert.equal((await infer("named", "stable")).status, 404);
});

test("what an alias cannot stand for is refused with the reason", async () => {
  const wrong: [string, string, unknown, number, RegExp][] = [
    ["one", "Stable", { version: 1 }, 400, /small letter/],
    ["one", "stable", {}, 400, /exactly one of version, split and alias/],
    ["one", "stable", { version: "1" }, 400, /version/],
    ["one", "stable", Object.fromEntries(Array.from({ length: 5_000 }, (_, at) => [`k${at}`, 1])), 400, /k19: .*and 4981 more/],
    ["one", "stable", { version: 9 }, 404, /version 9 is not found/],
    ["nobody", "stable", { version: 1 }, 404, /nobody/],
    ["one", "stable", { alias: "canary" }, 400, /a version or a split/],
    ["one", "default", { alias: "canary" }, 404, /no alias 'canary'/],
    ["one", "default", { alias: "stable", shadow: { version: 2, share: 1 } }, 400, /no shadow beside an alias/],
    ["one", "stable", { split: { 1: 1, 4: 1 } }, 400, /same inputs/],
    ["one", "stable", { version: 1, shadow: { version: 4, share: 1 } }, 400, /same inputs/],
    ["one", "stable", { version: 1, shadow: { version: 1, share: 1 } }, 400, /no requests itself/],
  ];
  for (const [model, alias, target, status, detail] of wrong) {
    const answer = await set(model, alias, target);
    assert.equal(answer.status, status, `${JSON.stringify(target)}: ${answer.bytes}`);
    assert.match(answer.json().detail, detail);
  }
  const deep = `{"version":${"[".repeat(30_000)}${"]".repeat(30_000)}}`;
  const tooDeep = await fetch(aliasAt("one", "stable"), { method: "PUT", body: deep });
  assert.equal(tooDeep.status, 400, await tooDeep.text());
  const job = await call(`${cluster.url}/v1/jobs`, { body: { model: "one", version: "No Such", ...zeroRequest } });
  assert.deepEqual([job.status, job.json().errors[0].pointer], [400, "/version"]);
  assert.equal((await call(`${cluster.url}/v1/jobs`, { body: { model: "one", version: "nope", ...zeroRequest } })).status, 404);
  assert.equal((await call(`${aliasAt("one", "nope")}/rollback`, { method: "POST" })).status, 404);
});

test("the command line and the SDK take the version that requests without one get, though a higher one has other inputs", async () => {
  await set("one", "default", { version: 2 });
  const items = async (url: string) => (await call(url)).json().items as { model: string; version: number; default?: boolean }[];
  const marked = (views: { model: string; version: number; default?: boolean }[]) =>
    views.filter((view) => view.default && view.model === "one").map(({ version }) => version);
  assert.deepEqual(marked(await items(`${cluster.url}/v1/models/one`)), [2]);
  assert.deepEqual(marked(await items(`${cluster.url}/v1/models`)), [2]);
  assert.equal((await new Switchyard({ url: cluster.url }).model("one")).version, 2);

  const commands = startCommandHost({ SWITCHYARD_URL: cluster.url, COLUMNS: "120" });
  try {
    const inferred = await commands.run(["infer", "one", "--input", "x=[[0]]", "--json"]);
    assert.deepEqual([inferred.code, JSON.parse(inferred.out || "{}").model_version], [0, "2"], inferred.err);
    const measured = await commands.run(["bench", "one", "--concurrency", "1", "--seconds", "0.2", "--warmup", "0", "--json"]);
    const report = JSON.parse(measured.out || "{}");
    assert.deepEqual([measured.code, report.version, report.points[0].failed], [0, 2, 0], measured.err);
    assert.equal((await call(`${cluster.url}/v2/models/one/versions/4/stats`)).json().model_stats[0].inference_count, 0);
  } finally {
    await commands.stop();
    await call(aliasAt("one", "default"), { method: "DELETE" });
  }
  assert.deepEqual(marked(await items(`${cluster.url}/v1/models/one`)), [4]);
});

test("whoever looks at a model without naming a version sees the one with the largest share, whichever a request gets", async () => {
  await set("split", "default", { split: { 1: 45, 2: 55 } });
  await set("split", "canary", { split: { 1: 55, 3: 45 } });
  const seen = async (path: string, pick: (body: Record<string, unknown>) => unknown): Promise<unknown[]> => {
    const answers = await Promise.all(Array.from({ length: 12 }, () => call(`${cluster.url}${path}`)));
    return [...new Set(answers.map((answer) => JSON.stringify(pick(answer.json()))))];
  };
  assert.deepEqual(await seen("/v1/models/split/estimates", ({ version }) => version), ["2"]);
  assert.deepEqual(await seen("/v1/models/split/versions/canary/estimates", ({ version }) => version), ["1"]);
  assert.deepEqual(await seen("/v1/models/split/versions/canary", ({ version }) => version), ["1"]);
  assert.deepEqual(await seen("/v2/models/split/config", ({ version_policy: policy }) => policy), ['{"specific":{"versions":[2]}}']);
  assert.equal(
    (
      await seen("/v2/models/split/versions/canary/stats", (body) =>
        (body.model_stats as { version: string }[]).map(({ version }) => version),
      )
    ).length,
    1,
  );
  const drawn = new Set<number>();
  while (drawn.size < 2) drawn.add(await versionOf("split"));
  await call(aliasAt("split", "canary"), { method: "DELETE" });
  await call(aliasAt("split", "default"), { method: "DELETE" });
});

test("a model's tool is that of the version with the largest share, whichever version a call gets", async () => {
  await set("split", "default", { split: { 1: 40, 2: 60 } });
  const seen = new Set<unknown>();
  for (let times = 0; times < 12; times++) {
    const { result } = await ask(cluster.urls[0]!, { method: "tools/list" });
    seen.add(result.tools.find(({ name }: { name: string }) => name === "infer_split")._meta["switchyard/version"]);
  }
  assert.deepEqual([...seen], [2]);
});

test("a split sends each version its share of the requests", async () => {
  await set("split", "default", { split: { 1: 80, 2: 20 } });
  const counts = new Map<number, number>();
  for (let at = 0; at < 400; at += 25) {
    for (const version of await Promise.all(Array.from({ length: 25 }, () => versionOf("split"))))
      counts.set(version, (counts.get(version) ?? 0) + 1);
  }
  const second = counts.get(2) ?? 0;
  // 80 expected; six standard deviations are 48
  assert.ok(second > 32 && second < 128, JSON.stringify([...counts]));
  assert.equal((counts.get(1) ?? 0) + second, 400);
});

test("a shadow runs its share on another version, and nobody who asks is told", async () => {
  await set("shadowed", "stable", { version: 1, shadow: { version: 2, share: 1 } });
  const before = await shadows();
  for (let at = 0; at < 20; at++) assert.equal(await versionOf("shadowed", "stable"), 1);
  await until("the shadows to be counted", async () => (await shadows()) - before === 20);
  const listed = await call(`${cluster.url}/v1/jobs?model=shadowed&tag=shadow_of%3Dstable&limit=200`);
  const jobs = listed.json().items as { version: number; class: string }[];
  assert.equal(jobs.length, 20);
  assert.ok(jobs.every((job) => job.version === 2 && job.class === "batch"));
});

async function shadows(): Promise<number> {
  const metrics = /"listening".*?"metrics":"(http:\/\/[^"]+)"/.exec(cluster.coordinators[0]!.log())![1];
  const text = await (await fetch(`${metrics}/metrics`)).text();
  const line = /switchyard_shadow_requests_total\{model="shadowed",result="succeeded"\} (\d+)/.exec(text);
  return Number(line?.[1] ?? 0);
}

test("promoting and rolling back under load fails no request, and every coordinator follows", { timeout: 150_000 }, async () => {
  await set("promoted", "stable", { version: 1 });
  await set("promoted", "default", { alias: "stable" });
  await until("both coordinators to know", async () => (await infer("promoted", "stable", 1)).status === 200);
  let stopped = false;
  const failures: string[] = [];
  const seen: { atMs: number; version: number }[] = [];
  const lane = async (number: number): Promise<void> => {
    const coordinator = number % 2;
    while (!stopped) {
      const answer = await infer("promoted", number % 4 < 2 ? "stable" : undefined, coordinator);
      const version = answer.status === 200 ? Number(answer.json().model_version) : 0;
      if (answer.status !== 200 || answer.json().outputs[0].data[0] !== 10 * version) failures.push(`${answer.status} ${answer.bytes}`);
      seen.push({ atMs: performance.now(), version });
      await sleep(15); // a load, not a measurement
    }
  };
  const load = Promise.all(Array.from({ length: 8 }, (_, number) => lane(number)));
  const settle = async (version: number): Promise<void> => {
    const sinceMs = performance.now();
    await until(`version ${version} everywhere`, async () => {
      const late = seen.filter(({ atMs }) => atMs > sinceMs).slice(-40);
      return late.length === 40 && late.every((one) => one.version === version);
    });
  };
  await settle(1);
  for (let round = 0; round < 3; round++) {
    const promoted = await call(`${aliasAt("promoted", "stable", round % 2)}/promote`, { body: { version: 2 } });
    assert.equal(promoted.status, 200, `${promoted.bytes}`);
    assert.deepEqual(promoted.json().previous, { version: 1 });
    await settle(2);
    const back = await call(`${aliasAt("promoted", "stable", (round + 1) % 2)}/rollback`, { method: "POST" });
    assert.equal(back.status, 200, `${back.bytes}`);
    assert.deepEqual(back.json().target, { version: 1 });
    await settle(1);
  }
  await set("promoted", "canary", { version: 3 });
  assert.deepEqual((await call(`${aliasAt("promoted", "stable")}/promote`, { body: { from: "canary" } })).json().target, { version: 3 });
  await settle(3);
  await until("some hundred requests", async () => seen.length > 500);
  stopped = true;
  await load;
  assert.deepEqual(failures, []);
  console.log(`# ${seen.length} requests through 3 promotions, 3 roll backs and a canary's promotion, none failed`);
  assert.ok(seen.length > 500);
});

test("a version that does not load is not promoted: the alias stays as it was", async () => {
  await set("broken", "stable", { version: 1 });
  const refused = await call(`${aliasAt("broken", "stable")}/promote`, { body: { version: 4 } });
  assert.ok(refused.status >= 400 && refused.status < 600, `${refused.bytes}`);
  assert.equal(refused.json().code, "model_failed");
  assert.match(refused.json().detail, /NoSuchOperator/);
  assert.deepEqual((await call(aliasAt("broken", "stable"))).json().target, { version: 1 });
  assert.equal(await versionOf("broken", "stable"), 1);
});

test("of two roll backs at once one goes one step, and the other is told", async () => {
  for (const version of [1, 2, 3]) await set("one", "contended", { version });
  const answers = await Promise.all(
    [0, 1].map((coordinator) => call(`${aliasAt("one", "contended", coordinator)}/rollback`, { method: "POST" })),
  );
  const won = answers.filter(({ status }) => status === 200);
  const { target } = (await call(aliasAt("one", "contended"))).json();
  if (won.length === 1) assert.deepEqual(target, { version: 2 });
  else assert.deepEqual(target, { version: 1 }, "one came after the other");
});
