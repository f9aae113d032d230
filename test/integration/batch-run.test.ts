/** A model over a file of items, with what may die on the way: the coordinator, the command, the connection. Each item is answered once. */

import assert from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { appendFile, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { ClientError, Switchyard } from "switchyard";
import { checkAnswers, doublingModel, itemLine, startCli, writeItems } from "../support/batch-items.ts";
import { startCommandHost } from "../support/command-host.ts";
import { fixedPort } from "../support/fixed-port.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, type Repository } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

let models: Repository;
let cluster: Processes;
let folder: string;
let items: string;
let answers: string;
before(async () => {
  models = await emptyRepository();
  await models.add("double", doublingModel(), { settings: "max_batch_items: 64\nbatch_axis: 0\n" });
  const address = `127.0.0.1:${await fixedPort()}`; // where it comes back
  cluster = await startProcesses({
    models: models.folder,
    envOf: (name) => (name === "coordinator-1" ? { SWITCHYARD_HTTP: address } : {}) as Record<string, string>,
  });
});
after(async () => {
  await cluster?.stop();
  await models.remove();
});
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "switchyard-batch-"));
  items = path.join(folder, "items.ndjson");
  answers = path.join(folder, "answers.ndjson");
});

const command = (...more: string[]): string[] => ["batch", "run", items, "--model", "double", "--output", answers, ...more];
const run = (...more: string[]) => startCli(cluster.url, command(...more)).ended;

function answeredSoFar(): number {
  try {
    return readFileSync(answers, "utf8").split("\n").length - 1;
  } catch {
    return 0;
  }
}

async function jobsOf(tag: string): Promise<number> {
  let jobs = 0;
  for await (const _job of new Switchyard({ url: cluster.url }).jobs.each({ tag, limit: 200 })) jobs++;
  return jobs;
}

test("every item of a file is answered, and what is wrong with one is its own failure", async (t) => {
  t.after(() => rm(folder, { recursive: true }));
  const odd = new Map<number, string>([
    [3, "{broken"],
    [4, "[1]"],
    [5, '{"inputs":[]}'],
    [6, '{"model":"none","inputs":[]}'],
    [7, '{"x":[[7]]}'],
    [8, '{"x":[8]}'],
    [9, '{"z":[9]}'],
    [10, `${itemLine(10).slice(0, -1)},"tags":{"a":"b"},"class":"standard","idempotency_key":"mine"}`],
  ]);
  await writeItems(items, 1_500, (index) => odd.get(index) ?? itemLine(index));
  const { code, out, err } = await run();
  assert.equal(code, 1, err);
  const found = await checkAnswers(answers, 1_500);
  assert.deepEqual(Object.fromEntries(found.failed), {
    3: "invalid_request",
    4: "invalid_request",
    5: "signature_mismatch",
    6: "model_not_found",
    9: "invalid_request",
  });
  assert.match(out, /1,495 succeeded, 5 failed, of 1,500/);

  const sizeBefore = statSync(answers).size;
  const again = await run("--json");
  assert.deepEqual([again.code, statSync(answers).size], [1, sizeBefore]);
  assert.deepEqual(JSON.parse(again.out), { output: answers, items: 1_500, succeeded: 1_495, failed: 5, unanswered: 0, seconds: 0 });
});

test("a command that is killed goes on where it was: each item is answered once and run once", async (t) => {
  t.after(() => rm(folder, { recursive: true }));
  const count = 4_000;
  await writeItems(items, count);
  let killed = 0;
  for (;;) {
    const before = answeredSoFar();
    const cli = startCli(cluster.url, command("--tag", "test=killed", "--concurrency", "250"));
    let isOver = false;
    void cli.ended.then(() => {
      isOver = true;
    });
    const isFarther = async () => isOver || answeredSoFar() > before + 500;
    await until("some answers", isFarther, { withinMs: 60_000, everyMs: 5, show: cli.said });
    if (isOver) {
      const { code, err } = await cli.ended;
      assert.equal(code, 0, err);
      break;
    }
    cli.child.kill("SIGKILL");
    await cli.ended;
    killed++;
    if (killed === 2) await appendFile(answers, '{"index":12,"job":"half of a li');
  }
  assert.ok(killed >= 3, `killed only ${killed} times`);
  assert.deepEqual((await checkAnswers(answers, count)).succeeded, count);
  assert.equal(await jobsOf("test=killed"), count, "an item was submitted as two jobs");
});

test("Ctrl-C keeps what is answered and says how to go on; the journal counts what the file of answers has", async (t) => {
  t.after(() => rm(folder, { recursive: true }));
  const count = 3_000;
  await writeItems(items, count);
  const cli = startCli(cluster.url, command());
  await until("some answers", async () => answeredSoFar() > 500, { withinMs: 60_000, everyMs: 5, show: cli.said });
  cli.child.kill("SIGINT");
  const { code, out, err } = await cli.ended;
  assert.equal(code, 130, err);
  assert.match(err, /items are not answered yet: the same command goes on/);
  const journal = JSON.parse(await readFile(`${answers}.journal`, "utf8"));
  const answered = journal.answered.reduce((sum: number, [from, to]: [number, number]) => sum + to - from, 0);
  assert.deepEqual([answered, journal.succeeded, journal.output_bytes], [answeredSoFar(), answered, statSync(answers).size]);
  assert.ok(answered < count && journal.submitted >= answered && journal.submitted <= count, out);

  // a file of answers that lost its end, as after a power cut, is counted anew
  await truncate(answers, Math.floor(statSync(answers).size / 2));
  const rest = await run();
  assert.equal(rest.code, 0, rest.err);
  assert.match(rest.err, /items are answered already/);
  assert.equal((await checkAnswers(answers, count)).succeeded, count);
});

test("a coordinator that is killed and comes back is waited for", async (t) => {
  t.after(() => rm(folder, { recursive: true }));
  const count = 4_000;
  await writeItems(items, count);
  const cli = startCli(cluster.url, command("--tag", "test=restart"));
  for (const least of [500, 1_700]) {
    await until("some answers", async () => answeredSoFar() > least, { withinMs: 60_000, everyMs: 5, show: cli.said });
    await cluster.coordinators[0]!.kill();
    await cluster.coordinators[0]!.respawn();
    assert.equal(cli.child.exitCode, null, `it ended before the coordinator was killed: ${cli.said()}`);
  }
  const { code, err } = await cli.ended;
  assert.equal(code, 0, err);
  assert.equal((await checkAnswers(answers, count)).succeeded, count);
  assert.equal(await jobsOf("test=restart"), count, "an item was submitted as two jobs");
});

test("what cannot work is said before anything is sent", async (t) => {
  const commands = startCommandHost({ SWITCHYARD_URL: cluster.url, SWITCHYARD_API_KEY: "" });
  t.after(async () => {
    await commands.stop();
    await rm(folder, { recursive: true });
  });
  const run = (...more: string[]) => commands.run(command(...more));
  await writeItems(items, 10);
  const cases: [number, RegExp, string[]][] = [
    [4, /none/, ["batch", "run", items, "--model", "none", "--output", answers]],
    [2, /cannot read .*missing\.ndjson/, ["batch", "run", path.join(folder, "missing.ndjson"), "--model", "double", "--output", answers]],
    [2, /cannot write .*no-folder/, ["batch", "run", items, "--model", "double", "--output", path.join(folder, "no-folder", "a.ndjson")]],
    [2, /--concurrency is at most/, command("--concurrency", "10001")],
    [2, /required option '--output/, ["batch", "run", items, "--model", "double"]],
  ];
  for (const [code, pattern, args] of cases) {
    const ended = await commands.run(args);
    assert.deepEqual([ended.code, pattern.test(ended.err)], [code, true], ended.err);
  }
  const away = await commands.run(command(), { env: { SWITCHYARD_URL: "http://127.0.0.1:9" } });
  assert.equal(away.code, 5, away.err);

  await writeFile(answers, "something else\n");
  assert.match((await run()).err, /exists, and no answers\.ndjson\.journal says what it is of/);
  assert.equal(await readFile(answers, "utf8"), "something else\n");
  await rm(answers);
  assert.equal((await run()).code, 0);
  assert.match((await run("--class", "standard")).err, /was begun with .*"class":"batch".*, not with .*"class":"standard"/);
  await appendFile(items, `${itemLine(10)}\n`);
  assert.match((await run()).err, /is of another file, or of one that has changed/);
  await writeFile(`${answers}.lock`, String(process.pid));
  assert.match((await run()).err, new RegExp(`process ${process.pid} writes`));
});

test("the SDK runs items from any iterable, with an error for each that cannot be run", async () => {
  const client = new Switchyard({ url: cluster.url });
  async function* inputs() {
    for (let index = 0; index < 500; index++) {
      if (index === 100) await new Promise((resolve) => setTimeout(resolve, 50));
      if (index === 7) yield { x: { data: [[1, 2]], datatype: "FP32" as const } };
      else if (index === 8) yield { x: { data: [1] } };
      else yield { x: { data: Float32Array.of(index), shape: [1, 1] } };
    }
  }
  const seen = new Map<number, number | string>();
  for await (const { index, result, error } of client.batch(inputs(), { model: "double", atOnce: 40, key: "sdk-batch" })) {
    assert.ok(!seen.has(index));
    seen.set(index, error === undefined ? (result.outputs.y!.data[0] as number) : error.code);
    if (error === undefined) assert.ok(result.timings!.batchItems! >= 1);
  }
  assert.equal(seen.size, 500);
  assert.deepEqual([seen.get(7), seen.get(8), seen.get(9), seen.get(499)], ["signature_mismatch", "invalid_request", 19, 999]);

  const stopped = new AbortController();
  const endless = (function* () {
    for (let index = 0; ; index++) yield { x: { data: Float32Array.of(index), shape: [1, 1] } };
  })();
  let answered = 0;
  await assert.rejects(
    async () => {
      for await (const _ of client.batch(endless, { model: "double", atOnce: 50, signal: stopped.signal }))
        if (++answered === 200) stopped.abort();
    },
    { name: "AbortError" },
  );
  const unknown = client.batch([{ x: { data: [1], datatype: "FP32" } }], { model: "nothing" });
  assert.equal((await unknown.next()).value!.error?.code, "model_not_found");
  await assert.rejects(client.batch([], { model: "double", atOnce: 0 }).next(), ClientError);
  const away = new Switchyard({ url: "http://127.0.0.1:9", retry: { giveUpAfterMs: 300 } });
  await assert.rejects(away.batch([{ x: "a" }], { model: "double" }).next(), { code: "connection_failed" });
});

/** Largest memory that a process has held, in MB. */
function peakMb(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
}

const long = process.env.SWITCHYARD_TEST_LONG !== undefined;

test("a hundred thousand items go through in memory that does not grow with their number", {
  skip: !long && "takes a minute or more: set SWITCHYARD_TEST_LONG=1",
  timeout: 900_000,
}, async (t) => {
  t.after(() => rm(folder, { recursive: true }));
  const count = Number(process.env.SWITCHYARD_TEST_ITEMS ?? 100_000);
  await writeItems(items, count);
  const cli = startCli(cluster.url, command("--json"));
  const [coordinator] = cluster.coordinators;
  const before = peakMb(coordinator!.pid);
  let [cliMb, coordinatorMb] = [0, 0];
  const watch = setInterval(() => {
    if (cli.child.exitCode === null) [cliMb, coordinatorMb] = [peakMb(cli.child.pid!), peakMb(coordinator!.pid)];
  }, 500);
  const { code, out, err } = await cli.ended;
  clearInterval(watch);
  assert.equal(code, 0, err);
  assert.equal((await checkAnswers(answers, count)).succeeded, count);
  const { seconds } = JSON.parse(out);
  t.diagnostic(
    `${count} items in ${seconds} s, ${Math.round(count / seconds)}/s; peak of the command ${Math.round(cliMb)} MB, of the coordinator ${Math.round(coordinatorMb)} MB (before ${Math.round(before)} MB)`,
  );
  assert.ok(cliMb < 400, `the command held ${cliMb} MB`);
});
