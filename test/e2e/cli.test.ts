/** The command line and the SDK against the real thing: Redis, coordinator, worker, ONNX. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Switchyard, TimeoutError } from "switchyard";
import { type Cluster, cliMain, startCluster } from "../support/cluster.ts";
import { until } from "../support/until.ts";

const at = (file: string) => fileURLToPath(new URL(`../../${file}`, import.meta.url));
const accuracy: { correct: number } = JSON.parse(readFileSync(at("test/data/digits/accuracy.json"), "utf8"));
const heldOut: { images: string[]; labels: string } = JSON.parse(readFileSync(at("test/data/digits/held-out.json"), "utf8"));

let cluster: Cluster;
let switchyard: Switchyard;

before(async () => {
  cluster = await startCluster();
  switchyard = new Switchyard({ url: cluster.url });
});

after(async () => {
  assert.equal(await cluster.stop(), 0, "up ends with 0 when it is asked to end");
});

interface Outcome {
  code: number | null;
  out: string;
  err: string;
}

async function run(...args: string[]): Promise<Outcome> {
  const child = spawn(process.execPath, [cliMain, ...args], {
    env: { ...process.env, SWITCHYARD_URL: cluster.url },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [out, err] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, out, err };
}

const picture = (name: string): string[] => ["--image", at(`examples/digits/${name}.png`)];

function pixels(image: string): Float32Array {
  return Float32Array.from(image, (pixel) => Number.parseInt(pixel, 17));
}

test("infer names the digit in each example picture, on white and on black", async () => {
  const read = async (file: string, label: string): Promise<void> => {
    const { code, out, err } = await run("infer", "digits", ...picture(file));
    assert.equal(code, 0, `${err}\n${cluster.log()}`);
    assert.match(out, new RegExp(`^${label} {2}\\d+\\.\\d %\n`));
  };
  await Promise.all([read("five", "5"), read("three", "3"), read("eight-on-black", "8")]);
});

test("infer --json prints the protocol's answer", async () => {
  const { out } = await run("infer", "digits", ...picture("five"), "--json");
  const answer = JSON.parse(out);
  assert.deepEqual([answer.model_name, answer.model_version], ["digits", "1"]);
  assert.deepEqual(
    answer.outputs.map((output: { name: string; shape: number[] }) => [output.name, output.shape]),
    [
      ["probabilities", [1, 10]],
      ["label", [1]],
    ],
  );
});

test("all held-out digits come through the queue as the model alone names them", async () => {
  const work = [...heldOut.images.entries()];
  let correct = 0;
  const caller = async (): Promise<void> => {
    for (let next = work.pop(); next !== undefined; next = work.pop()) {
      const answer = await switchyard.infer("digits", { image: { data: pixels(next[1]), shape: [1, 64] } });
      if (answer.outputs.label?.data[0] === BigInt(heldOut.labels[next[0]]!)) correct++;
    }
  };
  await Promise.all(Array.from({ length: 16 }, caller));
  assert.equal(correct, accuracy.correct);
});

test("a submitted job can be followed, looked at, fetched and found by its tag", async () => {
  const submitted = await run("submit", "digits", ...picture("three"), "--tag", "run=e2e", "--class", "interactive", "--timeout", "60s");
  const id = submitted.out.trim();
  assert.match(id, /^[a-z2-7]{10}-[a-z2-7]{26}$/, submitted.err);

  const watched = await run("watch", id, "--json");
  assert.equal(watched.code, 0, watched.err);
  const states = watched.out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line).state);
  assert.equal(states.at(-1), "succeeded");

  const file = path.join(cluster.dataFolder, "answer.json");
  const [got, shown, saved, found] = await Promise.all([
    run("get", id, "--json"),
    run("result", id),
    run("result", id, "-o", file),
    run("jobs", "--tag", "run=e2e", "--json"),
  ]);
  const job = JSON.parse(got.out);
  assert.deepEqual([job.state, job.class, job.attempt, job.tags], ["succeeded", "interactive", 1, { run: "e2e" }]);
  assert.ok(job.timings.run_ms > 0 && job.timings.batch_items >= 1);

  assert.match(shown.out, /^3 {2}\d+\.\d %/);
  assert.equal(saved.code, 0);
  assert.equal(JSON.parse(await readFile(file, "utf8")).id, id);

  const listed = found.out.trim().split("\n");
  assert.deepEqual(
    listed.map((line) => JSON.parse(line).id),
    [id],
  );
  const cancelled = await run("cancel", id);
  assert.equal(cancelled.code, 1);
  assert.match(cancelled.err, /already ended/);
});

test("models and hosts are shown", async () => {
  const [models, hosts] = await Promise.all([run("models"), run("hosts", "--json")]);
  assert.match(models.out, /digits +1 +(ready|available) +64/);
  const host = JSON.parse(hosts.out);
  assert.equal(host.state, "ready");
});

test("what cannot work is said with the field and the right exit code", async () => {
  const [shape, ...missing] = await Promise.all([
    run("infer", "digits", "--input", "image=[[1,2]]"),
    run("infer", "nothing", ...picture("five")),
    run("infer", "digits", "--version", "7", ...picture("five")),
    run("get", "aaaaaaaaaa-aaaaaaaaaaaaaaaaaaaaaaaaaa"),
  ]);
  assert.equal(shape.code, 2);
  assert.match(shape.err, /image.*\[-1,64\].*\[1,2\]/);
  assert.deepEqual(
    missing.map(({ code }) => code),
    [4, 4, 4],
  );
});

test("one key is one job, and another body under it is refused", async () => {
  const image = { data: pixels(heldOut.images[0]!), shape: [1, 64] };
  const first = await switchyard.submit("digits", { image }, { idempotencyKey: "e2e-once" });
  const again = await switchyard.submit("digits", { image }, { idempotencyKey: "e2e-once" });
  assert.equal(again.id, first.id);
  const other = switchyard.submit("digits", { image: { ...image, data: pixels(heldOut.images[1]!) } }, { idempotencyKey: "e2e-once" });
  await assert.rejects(other, { code: "idempotency_key_reused", status: 422 });
});

test("events end with the outcome, and go on from where they were left", async () => {
  const image = { data: pixels(heldOut.images[2]!), shape: [1, 64] };
  const job = await switchyard.submit("digits", { image });
  const events = await Array.fromAsync(job.events());
  assert.equal(events.at(-1)?.type, "succeeded");
  const ids = events.map((event) => Number(event.id));
  assert.deepEqual(
    ids,
    [...ids].sort((a, b) => a - b),
  );
  assert.deepEqual(await Array.fromAsync(job.events({ lastEventId: events.at(-1)!.id })), []);
});

test("without a host a job waits, can be cancelled, and expires on time", async () => {
  const [worker] = cluster.pidsOf("worker");
  process.kill(worker!, "SIGSTOP");
  try {
    const image = { data: pixels(heldOut.images[3]!), shape: [1, 64] };
    const job = await switchyard.submit("digits", { image });
    await assert.rejects(job.result({ timeoutMs: 100 }), TimeoutError);
    assert.equal((await job.cancel()).state, "cancelled");
    await assert.rejects(job.result(), { code: "cancelled" });

    // the first that is told in time will do: where nobody watches the deadline, none is
    const tookMs: number[] = [];
    while (tookMs.length < 5 && !(Math.min(...tookMs) < 300 + 250 + 200)) {
      const late = await switchyard.submit("digits", { image }, { timeoutMs: 300 });
      const startedMs = performance.now();
      await assert.rejects(late.result(), { code: "expired" });
      tookMs.push(Math.round(performance.now() - startedMs));
    }
    assert.ok(Math.min(...tookMs) < 300 + 250 + 200, `told after ${tookMs} ms`);
  } finally {
    process.kill(worker!, "SIGCONT");
  }
  await until("the host to be there again", async () => (await switchyard.hosts()).some(({ state }) => state === "ready"));
});

test("results outlive the coordinator: callers that wait when it is killed get each theirs once", async () => {
  const expected = await Promise.all(
    heldOut.images
      .slice(0, 40)
      .map(async (image) => (await switchyard.infer("digits", { image: { data: pixels(image), shape: [1, 64] } })).outputs.label?.data[0]),
  );
  const [worker] = cluster.pidsOf("worker");
  process.kill(worker!, "SIGSTOP"); // so that all of them wait
  const jobs = await Promise.all(
    heldOut.images.slice(0, 40).map((image) => switchyard.submit("digits", { image: { data: pixels(image), shape: [1, 64] } })),
  );
  const results = jobs.map((job) => job.result());
  const [coordinator] = cluster.pidsOf("coordinator");
  process.kill(coordinator!, "SIGKILL");
  process.kill(worker!, "SIGCONT");
  const labels = (await Promise.all(results)).map((result) => result.outputs.label?.data[0]);
  assert.deepEqual(labels, expected);
  assert.notDeepEqual(cluster.pidsOf("coordinator"), [coordinator], "it was started again");
});
