import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type DeviceRuns,
  deviceTimeReport,
  loadReports,
  overheadReport,
  type RunReport,
  readRunReports,
  sampleReports,
} from "@switchyard/protocol";

const read = (reports: readonly RunReport[]): Map<string, DeviceRuns> =>
  readRunReports(reports.flatMap(([field, , text]) => [field, text]));

test("what a host tells is what a coordinator reads, by device, size class and bucket", () => {
  const device = "cpu ünïx %41 8×";
  const runs = read([
    ...sampleReports(device, 0, [
      { items: 1, runMs: 1.25, atMs: 1_700_000_000_000 },
      { items: 3, runMs: 4.5, atMs: 1_700_000_000_100 },
      { items: 4, runMs: 5, atMs: 1_700_000_000_200 },
    ]),
    ...sampleReports(device, 12, [{ items: 1, runMs: 90, atMs: 1_700_000_000_300 }]),
    ...loadReports(device, {
      warmUp: [
        [1, 2],
        [8, 9.125],
      ],
      loadMs: 321.5,
    }),
    overheadReport(device, 1.75),
    deviceTimeReport(device, {
      atMs: 1_700_000_000_400,
      runs: 7,
      ownMs: 12.25,
      othersMs: 30.5,
      idleMs: 1.5,
      idleRuns: 3,
      sharers: 2,
      host: 77,
    }),
    overheadReport("gpu", 3),
  ]);
  assert.deepEqual([...runs.keys()], [device, "gpu"]);
  assert.deepEqual(runs.get(device), {
    device,
    windows: new Map([
      [
        0,
        [
          { bucket: 1, runs: [{ items: 1, runMs: 1.25, atMs: 1_700_000_000_000 }] },
          {
            bucket: 4,
            runs: [
              { items: 3, runMs: 4.5, atMs: 1_700_000_000_100 },
              { items: 4, runMs: 5, atMs: 1_700_000_000_200 },
            ],
          },
        ],
      ],
      [12, [{ bucket: 1, runs: [{ items: 1, runMs: 90, atMs: 1_700_000_000_300 }] }]],
    ]),
    warmUp: [
      [1, 2],
      [8, 9.125],
    ],
    loadMs: 321.5,
    overheadMs: 1.75,
    times: [{ atMs: 1_700_000_000_400, runs: 7, ownMs: 12.25, othersMs: 30.5, idleMs: 1.5, idleRuns: 3, sharers: 2, host: 77 }],
  });
  assert.deepEqual(runs.get("gpu"), { device: "gpu", windows: new Map(), warmUp: [], loadMs: undefined, overheadMs: 3, times: [] });
});

test("a model that would not run on random inputs has a load and no warm-up", () => {
  const runs = read(loadReports("cpu", { warmUp: [], loadMs: 5 })).get("cpu");
  assert.deepEqual([runs?.loadMs, runs?.warmUp], [5, []]);
});

const good = sampleReports("cpu", 0, [{ items: 1, runMs: 2, atMs: 5 }]).flatMap(([field, , text]) => [field, text]);
const unreadable: [what: string, flat: string[]][] = [
  ["a device that is no name", ["%E0%A4%A runs 0 1", "5,1,2"]],
  ["a field of an unknown kind", ["cpu colour", "red"]],
  ["a field without a kind", ["cpu", "5,1,2"]],
  ["an empty field", ["", ""]],
  ["a load that is no number", ["cpu load", "soon"]],
  ["an overhead that is no number", ["cpu overhead", ""]],
  ["a warm-up of words", ["cpu warmup", "one,two"]],
  ["an empty warm-up", ["cpu warmup", ""]],
  ["samples of words", ["cpu runs 0 2", "now,1,fast"]],
  ["no samples", ["cpu runs 0 2", ""]],
  ["a bucket that is no number", ["cpu runs 0 many", "5,1,2"]],
  ["a size class that is none", ["cpu runs", "5,1,2"]],
  ["times of too few numbers", ["cpu times", "5,1,2,3"]],
  ["a run of no items", ["cpu runs 0 2", "5,0,2"]],
  ["a run of less than no time", ["cpu runs 0 2", "5,1,-2"]],
];
for (const [what, flat] of unreadable) {
  test(`${what} is left out, and the rest is read`, () => {
    assert.deepEqual(readRunReports([...flat, ...good]), readRunReports(good));
  });
}

test("times of hosts of the release before stand beside those of this one", () => {
  const times = readRunReports(["cpu times", "5,1,2,3,1,7 6,1,2,3,1,8,0.5,1 7,1,2,3,1,8,0.5"]).get("cpu")?.times;
  const common = { runs: 1, ownMs: 2, othersMs: 3, sharers: 1 };
  assert.deepEqual(times, [
    { ...common, atMs: 5, idleMs: 0, idleRuns: 0, host: 7 },
    { ...common, atMs: 6, idleMs: 0.5, idleRuns: 1, host: 8 },
  ]);
});

test("one sample that cannot be read is left out of its window", () => {
  const windows = readRunReports(["cpu runs 0 1", "5,1,2 6,x,3 7,1 8,1,4"]).get("cpu")?.windows.get(0);
  assert.deepEqual(windows, [
    {
      bucket: 1,
      runs: [
        { atMs: 5, items: 1, runMs: 2 },
        { atMs: 8, items: 1, runMs: 4 },
      ],
    },
  ]);
});
