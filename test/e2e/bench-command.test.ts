/** `switchyard bench` as users call it, against a whole Switchyard. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type Cluster, cliMain, startCluster } from "../support/cluster.ts";

let cluster: Cluster;
before(async () => {
  cluster = await startCluster();
});
after(() => cluster.stop());

interface Started {
  child: ChildProcess;
  out(): string;
  err(): string;
}

function start(...args: string[]): Started {
  const env = { ...process.env, SWITCHYARD_URL: cluster.url };
  const child = spawn(process.execPath, [cliMain, "bench", ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
  let [out, err] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  return { child, out: () => out, err: () => err };
}

async function run(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const { child, out, err } = start(...args);
  const [code] = (await once(child, "close")) as [number | null];
  return { code, out: out(), err: err() };
}

const short = ["--seconds", "0.4", "--warmup", "0.1"];
/** Where the machine was busy with others for as long as a short one lasts, a longer one tells more. */
const lengths = [short, ["--seconds", "4", "--warmup", "0.1"]];

describe("switchyard bench", { concurrency: 3 }, () => {
  test("a sweep over clients prints a line for each, bars, and a picture", async () => {
    const file = path.join(cluster.dataFolder, "sweep.svg");
    let [out, err] = ["", ""];
    let rates: (readonly [clients: number, rate: number])[] = [];
    for (const length of lengths) {
      let code: number | null;
      ({ code, out, err } = await run("digits", "--concurrency", "1:4", ...length, "--svg", file));
      assert.equal(code, 0, `${err}\n${cluster.log()}`);
      const lines = [...out.matchAll(/^ +([124]) +([\d.]+) +[\d.]+ +[\d.]+/gm)];
      rates = lines.map(([, clients, rate]) => [Number(clients), Number(rate)]);
      if (rates.every(([, rate]) => rate > 0)) break;
    }
    assert.deepEqual(
      rates.map(([clients]) => clients),
      [1, 2, 4],
    );
    for (const [, rate] of rates) assert.ok(rate > 0, out);
    assert.match(out, /jobs\/s in time over clients\n +1 │[█▏▎▍▌▋▊▉]+ [\d.]+\n/);
    assert.equal(err, "", "no progress where no terminal is");
    const picture = await readFile(file, "utf8");
    assert.match(picture, /^<svg [\s\S]*<\/svg>\n$/);
    assert.equal(picture.match(/<polyline /g)?.length, 5);
    assert.equal(picture.match(/<circle /g)?.length, 15);
  });

  test("--json says what became of every job of an open load with a deadline", async () => {
    const { code, out, err } = await run("digits", "--rate", "20,40", "--deadline", "5s", ...short, "--json");
    assert.equal(code, 0, err);
    const report = JSON.parse(out);
    assert.deepEqual([report.model, report.version, report.deadline_ms], ["digits", 1, 5000]);
    assert.deepEqual(
      report.points.map((point: { rate: number }) => point.rate),
      [20, 40],
    );
    for (const point of report.points) {
      const { in_time, late, expired, refused, failed, not_sent, jobs } = point;
      assert.equal(in_time + late + expired + refused + failed + not_sent, jobs);
      assert.equal(failed, 0, out);
    }
    assert.ok(report.points[1].in_time > 0);
  });

  test("a deadline that cannot be met is not taken for success", async () => {
    const { out } = await run("digits", "--concurrency", "8", "--deadline", "1ms", ...short, "--json");
    const [point] = JSON.parse(out).points;
    assert.ok(point.late + point.expired + point.refused > point.in_time, out);
  });

  test("Ctrl-C prints what was measured so far", async () => {
    const many = Array.from({ length: 12 }, (_, at) => at + 1); // more than are measured before the signal is there
    const { child, out, err } = start("digits", "--concurrency", `${many},1000`, "--seconds", "1", "--warmup", "0");
    let isTold = false;
    child.stdout!.on("data", () => {
      if (!isTold && /^ +1 +\d/m.test(out())) isTold = child.kill("SIGINT");
    });
    const [code] = (await once(child, "close")) as [number | null];
    assert.equal(code, 130, err());
    assert.match(out(), /jobs\/s in time over clients\n +1 │█+ [\d.]+/);
    assert.doesNotMatch(out(), /^ +1000 /m);
  });

  test("what cannot work is said before anything is measured", async () => {
    for (const [args, why, expected] of [
      [["nothing"], /model_not_found/, 4],
      [["digits", "--input", "image=[[1,2]]"], /image.*\[-1,64\]/, 2],
      [["digits", "--concurrency", "0"], /--concurrency.*above 0/, 2],
      [["digits", "--concurrency", "1:100000"], /2048 clients at most/, 2],
      [["digits", "--rate", "8:2"], /--rate/, 2],
      [["digits", "--deadline", "soon"], /--deadline/, 2],
      [["digits", "--seconds", "0"], /--seconds/, 2],
      [["digits", "--rate", "5", "--concurrency", "5", "--svg", "x.svg"], /--svg draws one sweep/, 2],
      [["digits", "--url", "http://127.0.0.1:9"], /is it running/, 5],
    ] as const) {
      const { code, out, err } = await run(...args);
      assert.match(err, why);
      assert.equal(code, expected, err);
      assert.equal(out, "");
    }
  });

  test("the picture's folder is the caller's business, and a missing one is an error of the command", async () => {
    const file = fileURLToPath(new URL("no-such-folder/x.svg", import.meta.url));
    const { code, err } = await run("digits", "--concurrency", "1", ...short, "--svg", file);
    assert.equal(code, 2);
    assert.match(err, /cannot write .*no-such-folder/);
  });
});
