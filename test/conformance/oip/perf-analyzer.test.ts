/** Triton's perf_analyzer, unchanged, against a whole cluster: it asks for metadata, configuration and statistics, and measures a sweep. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { call } from "../../support/calls.ts";
import { startCluster } from "../../support/cluster.ts";
import { perfAnalyzer } from "../../support/perf-analyzer.ts";

const analyzer = await perfAnalyzer();
const giveUpMs = 240_000;

interface Statistics {
  inference_count: number;
  execution_count: number;
  inference_stats: Record<string, { count: number; ns: number }>;
}

async function statisticsOf(url: string): Promise<Statistics> {
  return (await call(`${url}/v2/models/digits/stats`)).json().model_stats[0];
}

/** Its rows, one for each step of the sweep, and what it printed. */
async function analyze(
  context: TestContext,
  door: { way: "http" | "grpc"; address: string },
  args: readonly string[],
): Promise<{ rows: Record<string, string>[]; said: string }> {
  assert.ok("command" in analyzer);
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-perf-"));
  context.after(() => rm(folder, { recursive: true, force: true }));
  const file = path.join(folder, "sweep.csv");
  const [command = "", ...first] = analyzer.command;
  const child = spawn(command, [...first, "-m", "digits", "-u", door.address, "-i", door.way, "-f", file, ...args], { cwd: folder });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (said += String(chunk)));
  const late = setTimeout(() => child.kill("SIGKILL"), giveUpMs);
  const code = await new Promise((resolve) => child.once("close", resolve));
  clearTimeout(late);
  assert.equal(code, 0, said);
  const [head = "", ...lines] = (await readFile(file, "utf8")).split("\n\n")[0]!.trim().split("\n");
  const names = head.split(",");
  return { rows: lines.map((line) => Object.fromEntries(line.split(",").map((value, at) => [names[at], value]))), said };
}

for (const { way, concurrency, more } of [
  { way: "http", concurrency: 1, more: [] },
  { way: "http", concurrency: 2, more: [] },
  { way: "http", concurrency: 4, more: [] },
  { way: "grpc", concurrency: 1, more: [] },
  { way: "grpc", concurrency: 4, more: [] },
  { way: "grpc", concurrency: 4, more: ["--streaming"] },
] as const) {
  test(`perf_analyzer measures ${concurrency} at a time over ${[way, ...more].join(" ")}, and the server's statistics agree with it`, {
    skip: "missing" in analyzer && analyzer.missing,
  }, async (context) => {
    await using cluster = await startCluster();
    const before = await statisticsOf(cluster.url);
    // how steady this machine is is not the question
    const windows = ["--measurement-interval", "1000", "--stability-percentage", "999", "--max-trials", "6"];
    const { rows, said } = await analyze(context, { way, address: way === "grpc" ? cluster.grpc : cluster.url.replace("http://", "") }, [
      ...["--concurrency-range", String(concurrency), ...windows, ...more],
    ]);
    context.diagnostic(
      said
        .split("\n")
        .filter((line) => /Throughput|latency|count/i.test(line))
        .join("\n"),
    );
    assert.deepEqual(
      rows.map((row) => row.Concurrency),
      [String(concurrency)],
      said,
    );
    const number = (name: string): number => {
      const value = Number(rows[0]![name]);
      assert.ok(rows[0]![name] !== undefined && Number.isFinite(value) && value >= 0, `${name}: ${JSON.stringify(rows[0])}`);
      return value;
    };
    assert.ok(number("Inferences/Second") > 0);
    const server = ["Server Queue", "Server Compute Input", "Server Compute Infer", "Server Compute Output"].map(number);
    const [queue, , infer] = server;
    assert.ok(infer! > 0 && queue! >= 0, "microseconds of each request");
    const latency = /Avg latency: (\d+) usec/.exec(said)?.[1];
    const within = server.reduce((sum, part) => sum + part, 0);
    assert.ok(latency !== undefined && within <= Number(latency), `${within} of ${latency} usec are the server's\n${said}`);
    // queue is counted in whole milliseconds of the store's clock, and evens out over many requests only
    const counts = /Inference count: (\d+)\s+Execution count: (\d+)\s+Successful request count: (\d+)/.exec(said)?.slice(1).map(Number);
    assert.ok(counts !== undefined, said);
    const [inferences = 0, executions = 0, successes = 0] = counts;
    const requests = Number(/Request count: (\d+)/.exec(said)?.[1]);
    assert.ok(inferences > 0 && executions > 0 && executions <= inferences && successes === inferences, said); // each request has one item
    assert.ok(successes >= requests / 2 && successes <= requests * 2, `${requests} requests there, ${successes} successes here`);
    const after = await statisticsOf(cluster.url);
    const grown = (name: string): number => after.inference_stats[name]!.count - before.inference_stats[name]!.count;
    assert.ok(grown("success") >= successes && grown("fail") === 0);
    for (const name of ["queue", "compute_input", "compute_infer", "compute_output"]) assert.equal(grown(name), grown("success"), name);
    assert.equal(after.inference_count - before.inference_count, grown("success"));
  });
}
