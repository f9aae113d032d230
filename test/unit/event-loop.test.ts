import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { prometheusMetrics } from "../../coordinator/src/adapters/prometheus-metrics.ts";
import { HostMetrics } from "../../worker/src/host-metrics.ts";
import type { LoopTurns } from "../support/loop-turns-program.ts";

const names = ["", "_min", "_max", "_mean", "_stddev", "_p50", "_p90", "_p99"].map((of) => `nodejs_eventloop_lag${of}_seconds`);

/** Milliseconds, by what stands between `lag` and `seconds`. */
function lagIn(page: string): Record<string, number> {
  const lines = names.map((name) => {
    const found = page.match(new RegExp(`^${name} (.*)$`, "gm")) ?? [];
    assert.equal(found.length, 1, `${name} stands ${found.length} times on the page`);
    return [name.slice("nodejs_eventloop_lag".length, -"_seconds".length), 1_000 * Number(found[0]!.split(" ")[1])];
  });
  return Object.fromEntries(lines) as Record<string, number>;
}

const pages = {
  coordinator: () => prometheusMetrics({ version: "1" }),
  worker: () => new HostMetrics({ version: "1", host: "one" }),
};

for (const [name, open] of Object.entries(pages)) {
  test(`the ${name}'s page tells how long turns took since the page before, under the names that dashboards know`, async () => {
    const metrics = open();
    // each stands for its share of the time: 20 ms of it for one look
    for (const tookMs of [...Array(1_000).fill(2), 40, 60]) metrics.turnTook({ tookMs, sleptMs: 0 });
    const lag = lagIn(await metrics.text());
    const near = (value: number | undefined, wanted: number) => assert.ok(Math.abs(value! / wanted - 1) < 0.01, JSON.stringify(lag));
    near(lag[""], 60);
    near(lag._min, 2);
    near(lag._max, 60);
    near(lag._mean, (100 * 2 + 2 * 40 + 3 * 60) / 105);
    near(lag._p50, 2);
    near(lag._p90, 2);
    near(lag._p99, 60);
    assert.ok(lag._stddev! > 0);
    metrics.turnTook({ tookMs: 30, sleptMs: 5 });
    near(lagIn(await metrics.text())._max, 30);
    assert.deepEqual(Object.values(lagIn(await metrics.text())), Array(8).fill(0), "no turn since");
  });
}

test("long turns show by the time that they take, however many short ones there are, and so does sleep", async () => {
  const metrics = pages.coordinator();
  for (let round = 0; round < 20; round++) {
    metrics.turnTook({ tookMs: 50, sleptMs: 0 });
    for (let turn = 0; turn < 500; turn++) metrics.turnTook({ tookMs: 0.1, sleptMs: 0.1 });
  }
  const { _p50, _p90, _p99 } = lagIn(await metrics.text());
  assert.ok(_p50! < 1 && _p90! >= 49 && _p99! >= 49, `${_p50}, ${_p90}, ${_p99}`);
  metrics.turnTook({ tookMs: 30, sleptMs: 9_000 });
  const asleep = lagIn(await metrics.text());
  assert.ok(asleep._p99! < 0.01 && asleep._max! >= 29, JSON.stringify(asleep));
});

const clocks = { coordinator: "../../coordinator/src/clock.ts", worker: "../../worker/src/clock.ts" };
for (const [name, clock] of Object.entries(clocks)) {
  // in a process of its own: what other tests leave behind would be turns too
  test(`turns of a ${name} are told without what the loop slept, and nothing is woken for it`, async () => {
    const [program, clockFile] = ["../support/loop-turns-program.ts", clock].map((file) => fileURLToPath(new URL(file, import.meta.url)));
    const { stdout } = await promisify(execFile)(process.execPath, [program!, clockFile!]);
    const { resting, working } = JSON.parse(stdout) as LoopTurns;
    assert.ok(resting.turns.length <= 5, `${resting.turns.length} turns while nothing was to be done`);
    const awakeMs = resting.awakeMs + working.awakeMs;
    for (const { turns } of [resting, working]) {
      assert.ok(Math.max(...turns) < awakeMs + 300, `a sleep was told as a turn: ${turns}, and it was awake for ${awakeMs} ms`);
    }
    assert.ok(Math.max(...working.turns) >= 149.9, `${working.turns}`);
  });
}
