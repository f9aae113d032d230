/** The command line against a server that plays the protocol: as a process, and where many commands are run, several in one. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { decodeInferRequest, encodeInferResponse, type JobLogView, type JobView, tensor } from "@switchyard/protocol";
import { PNG } from "pngjs";
import { type CommandHost, type CommandOutcome, startCommandHost } from "../support/command-host.ts";
import { jobView, modelView } from "../support/job-views.ts";
import { answerJson, type ScriptedServer, type SeenRequest, startScriptedServer } from "../support/scripted-server.ts";

const main = fileURLToPath(new URL("../../client-sdk/src/cli/main.ts", import.meta.url));
const labels = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

/** A process of its own. */
function start(args: readonly string[], options: { input?: string | Uint8Array; url?: string } = {}): Promise<CommandOutcome> {
  const env = { ...process.env, SWITCHYARD_URL: options.url ?? server.url, SWITCHYARD_API_KEY: "" };
  const child = spawn(process.execPath, [main, ...args], { env, stdio: "pipe" });
  const outcome: CommandOutcome = { code: null, out: "", err: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    outcome.out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    outcome.err += text;
  });
  child.stdin.end(options.input ?? "");
  return new Promise((resolve) => child.once("close", (code) => resolve({ ...outcome, code })));
}

const run: CommandHost["run"] = (args, how) => commands.run(args, how);

let server: ScriptedServer;
let commands: CommandHost;
let folder: string;
let infers: SeenRequest[] = [];

const model = modelView({
  labels: { probabilities: labels },
  config: { image: { size: [8, 8], layout: "FLAT", scale: 16 / 255, invert: "bright-border" } },
});

const views: Record<string, JobView> = {
  done: jobView("succeeded", { id: "done", timings: { queue_ms: 1.25, run_ms: 2, total_ms: 1500, batch_items: 4 }, tags: { run: "7" } }),
  broken: jobView("failed", { id: "broken", error: { code: "run_failed", detail: "node Add failed", retryable: true } }),
  late: jobView("expired", { id: "late" }),
};

const failure = { attempt: 1, end: "retried", code: "run_failed", detail: 'no "memory"' };
const log: JobLogView = {
  id: "done",
  lines: [
    { at: "2026-01-31T00:00:00.000Z", level: "info", source: "coordinator", event: "job_queued", fields: { model: "digits" } },
    { at: "2026-01-31T00:00:01.000Z", level: "warn", source: "host", host: "gpu-1", event: "attempt_ended", fields: failure },
  ],
  untold_attempts: 2,
};

function answerDigits(response: ServerResponse, binary: boolean): void {
  const probabilities = Float32Array.from(labels, (_, index) => (index === 5 ? 0.992 : index === 3 ? 0.005 : 0.000375));
  const outputs = [tensor("probabilities", probabilities, [1, 10]), tensor("label", BigInt64Array.of(5n))];
  const encoded = encodeInferResponse({ response: { modelName: "digits", modelVersion: "1", outputs }, wishes: { binaryDefault: binary } });
  const length: Record<string, string> =
    encoded.headerLength === undefined ? {} : { "inference-header-content-length": String(encoded.headerLength) };
  response.writeHead(200, { "content-type": encoded.contentType, ...length }).end(Buffer.concat(encoded.parts));
}

/** What the caller's time limit leaves, which is less than the limit by what passed before the request went out. */
const leftOf = ({ headers }: SeenRequest): number => Number(headers["x-request-timeout-ms"] ?? Number.POSITIVE_INFINITY);

function notFound(response: ServerResponse, code: string): void {
  answerJson(response, 404, { code, detail: `there is no such thing (${code})`, retryable: false });
}

function answer(request: SeenRequest, response: ServerResponse): void {
  const { pathname, searchParams } = new URL(request.url, "http://any");
  const [, version, kind, id = "", rest] = pathname.split("/");
  if (version === "v2") {
    infers.push(request);
    const sent = decodeInferRequest({ body: request.body, headerLength: Number(request.headers["inference-header-content-length"]) });
    const leftMs = leftOf(request);
    if (leftMs <= 2_000) {
      response.writeHead(503, { "content-type": "application/json", "retry-after": "3" }).end('{"error":"the deadline cannot be met"}');
    } else if (leftMs <= 20_000) {
      response.writeHead(504, { "content-type": "application/json" }).end('{"error":"the deadline passed"}');
    } else if (leftMs <= 70_000) {
      response.writeHead(503, { "content-type": "application/json", "x-switchyard-error": "model_failed" });
      response.end('{"error":"model digits version 1 failed to load: opset 99"}');
    } else answerDigits(response, sent.binaryDefault);
  } else if (kind === "models") {
    if (id === "")
      answerJson(response, 200, { items: [model, modelView({ model: "bad", state: "failed", reason: "opset 99" })], links: {} });
    else if (id === "digits") answerJson(response, 200, { items: [model], links: {} });
    else notFound(response, "model_not_found");
  } else if (kind === "hosts") answerJson(response, 200, { items: [], links: {} });
  else if (request.method === "POST") answerJson(response, 202, views.done);
  else if (id === "")
    answerJson(response, 200, { items: Object.values(views), links: searchParams.has("cursor") ? {} : { next: "/v1/jobs?cursor=2" } });
  else if (views[id] === undefined) notFound(response, "job_not_found");
  else if (rest === "result") answerDigits(response, request.headers.accept === "application/octet-stream");
  else if (rest === "log") answerJson(response, 200, log);
  else if (rest === "events") {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(`id: 1\nevent: running\ndata: ${JSON.stringify({ ...views[id], state: "running" })}\n\n`);
    response.end(`id: 2\nevent: ${views[id].state}\ndata: ${JSON.stringify(views[id])}\n\n`);
  } else if (request.method === "DELETE" && id !== "late") {
    answerJson(response, 409, { code: "job_already_ended", detail: "the job has already ended", retryable: false });
  } else answerJson(response, 200, views[id]);
}

before(async () => {
  server = await startScriptedServer(answer);
  commands = startCommandHost({ SWITCHYARD_URL: server.url, SWITCHYARD_API_KEY: "" });
  folder = await mkdtemp(path.join(tmpdir(), "switchyard-cli-"));
  const image = new PNG({ width: 16, height: 16 });
  for (let at = 0; at < 256; at++) image.data.fill(at % 16 === 8 ? 0 : 255, at * 4, at * 4 + 3).fill(255, at * 4 + 3, at * 4 + 4);
  await writeFile(path.join(folder, "one.png"), PNG.sync.write(image));
  await writeFile(path.join(folder, "photo.jpg"), Buffer.from("ffd8ffe000104a464946", "hex"));
});

after(async () => {
  await commands.stop();
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

test("infer prints the likeliest class of a picture, and the next ones", async () => {
  const { code, out, err } = await start(["infer", "digits", "--image", path.join(folder, "one.png")]);
  assert.deepEqual([code, err], [0, ""]);
  assert.equal(out, "five  99.2 %\n\n#  CLASS  PROBABILITY\n1  five        99.2 %\n2  three        0.5 %\n3  zero         0.0 %\n");
  const request = infers.at(-1)!;
  const sent = decodeInferRequest({ body: request.body, headerLength: Number(request.headers["inference-header-content-length"]) });
  assert.deepEqual(sent.inputs[0]?.shape, [1, 64]);
});

test("infer reads pictures and tensors from standard input", async () => {
  const image = await readFile(path.join(folder, "one.png"));
  assert.equal((await start(["infer", "digits", "--image", "-"], { input: image })).code, 0);
  const flat = JSON.stringify(Array(64).fill(1));
  for (const args of [
    ["--input", "image=-"],
    ["--input", "-"],
    ["--inputs", "-"],
  ]) {
    const input = args[0] === "--inputs" ? `{"inputs": [{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": ${flat}}]}` : flat;
    infers = [];
    const { code, err } = await run(["infer", "digits", ...args], { input });
    assert.equal(code, 0, err);
    const sent = decodeInferRequest({ body: infers[0]!.body, headerLength: Number(infers[0]!.headers["inference-header-content-length"]) });
    assert.deepEqual([sent.inputs[0]?.datatype, sent.inputs[0]?.shape], ["FP32", [1, 64]], "flat data takes the model's shape");
  }
});

test("infer --json prints the body as the server wrote it, --raw the bytes of an output", async () => {
  const input = ["--input", `image=${JSON.stringify([Array(64).fill(0)])}`];
  const json = await run(["infer", "digits", ...input, "--json"]);
  assert.equal(JSON.parse(json.out).outputs[1].data[0], 5);
  const raw = await start(["infer", "digits", ...input, "--raw", "label"]);
  assert.deepEqual(Buffer.from(raw.out), Buffer.from([5, 0, 0, 0, 0, 0, 0, 0]));
});

test("the programs that a command starts print their own help, and refuse by name what only calls take", async () => {
  for (const [name, flag] of [
    ["up", "--verbose"],
    ["coordinator", "--redis-url"],
    ["worker", "--host-id"],
    ["doctor", "--json"],
  ] as const) {
    const ways = [
      [name, "--help"],
      ["help", name],
    ];
    const helped = async (args: readonly string[]): Promise<void> => {
      const { code, out, err } = await start(args);
      assert.deepEqual([code, err], [0, ""], args.join(" "));
      assert.match(out, new RegExp(`^Usage: switchyard ${name} `));
      assert.ok(out.includes(flag), `${name} --help names ${flag}`);
    };
    await Promise.all(ways.map(helped));
  }
  for (const args of [
    ["--json", "up"],
    ["up", "--json"],
    ["coordinator", "--url", "http://127.0.0.1:9"],
    ["--api-key=x", "doctor"],
  ]) {
    const { code, err } = await run(args);
    assert.equal(code, 2, args.join(" "));
    assert.match(err, /^switchyard: --(json|url|api-key) is for commands that call a server; `switchyard \w+` does not take it[^\n]*\n$/);
  }
});

test("exit codes tell what kind of failure it was", async () => {
  const image = ["--input", `image=${JSON.stringify([Array(64).fill(0)])}`];
  const away = await startScriptedServer(() => {});
  await away.stop();
  const cases: [number, RegExp, string[], string?][] = [
    [2, /unknown command 'frob'/, ["frob"]],
    [2, /not built yet/, ["train", "--quick"]],
    [2, /needs inputs: image \(FP32 \[-1,64\]\)/, ["infer", "digits"]],
    [2, /photo\.jpg is a JPEG image; only PNG images can be read/, ["infer", "digits", "--image", path.join(folder, "photo.jpg")]],
    [2, /cannot read .*missing\.png/, ["infer", "digits", "--image", path.join(folder, "missing.png")]],
    [2, /has no input picture; it has image/, ["infer", "digits", "--input", "picture=[1]"]],
    [2, /'--timeout <time>' argument 'soon' is invalid/, ["infer", "digits", "--timeout", "soon"]],
    [4, /model_not_found/, ["infer", "nothing", ...image]],
    [4, /version_not_found/, ["infer", "digits", "--version", "9", ...image]],
    [3, /the deadline cannot be met; try again in 3 s/, ["infer", "digits", ...image, "--timeout", "2s"]],
    [124, /the deadline passed/, ["infer", "digits", ...image, "--timeout", "20s"]],
    [1, /failed to load: opset 99 \[model_failed\]/, ["infer", "digits", ...image, "--timeout", "70s"]],
    [4, /job_not_found/, ["get", "nothing"]],
    [1, /node Add failed/, ["result", "broken"]],
    [124, /expired/, ["result", "late"]],
    [1, /already ended/, ["cancel", "done"]],
    [5, /cannot reach http:\/\/127\.0\.0\.1:\d+: is it running\? start it with `npm start`/, ["jobs"], away.url],
  ];
  for (const [code, pattern, args, url] of cases) {
    const outcome = await (url === undefined ? run(args) : start(args, { url }));
    assert.equal(outcome.code, code, `${args.join(" ")}: ${outcome.err}`);
    assert.match(outcome.err, pattern, args.join(" "));
    assert.doesNotMatch(outcome.err, / at .*\.ts:/, "no stack");
  }
  const failing = infers.filter((request) => leftOf(request) > 20_000 && leftOf(request) <= 70_000);
  assert.equal(failing.length, 1, "a model that does not load is asked for once");
});

test("submit prints the id alone, so that scripts can keep it", async () => {
  const submit = ["submit", "digits", "--input", `image=${JSON.stringify([Array(64).fill(0)])}`, "--tag", "run=7"];
  assert.deepEqual(await start(submit), { code: 0, out: "done\n", err: "" });
  const waited = await run([...submit, "--wait"]);
  assert.match(waited.out, /^five {2}99\.2 %/);
});

test("submit sends the durability that was asked for, and refuses a word that is none", async () => {
  const submit = ["submit", "digits", "--input", `image=${JSON.stringify([Array(64).fill(0)])}`, "--durability"];
  assert.equal((await run([...submit, "replicated"])).code, 0);
  assert.match(String(server.seen.at(-1)!.body), /"durability":"replicated"/);
  const { code, err } = await run([...submit, "best"]);
  assert.equal(code, 2);
  assert.match(err, /--durability.*fast, fsync, replicated/);
});

test("watch prints each state, and its exit code says how the job ended", async () => {
  const text = await start(["watch", "broken"]);
  assert.deepEqual([text.code, text.out.split("\n").length], [1, 3]);
  assert.match(text.out, /failed +node Add failed \[run_failed\]/);
  const json = await run(["watch", "done", "--json"]);
  assert.equal(json.code, 0);
  assert.deepEqual(
    json.out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).state),
    ["running", "succeeded"],
  );
});

test("lists are tables for people and one JSON value a line for programs", async () => {
  const table = await run(["jobs", "--limit", "4"]);
  assert.equal(table.out.trim().split("\n").length, 5);
  assert.match(table.out, /^ID +STATE +MODEL/);
  const lines = (await run(["jobs", "--state", "failed", "--limit", "4", "--json"])).out.trim().split("\n");
  assert.deepEqual(
    lines.map((line) => JSON.parse(line).id),
    ["done", "broken", "late", "done"],
  );
  assert.ok(server.seen.some((request) => request.url === "/v1/jobs?state=failed&limit=4"));
  assert.match((await run(["models"])).out, /bad +1 +failed .* opset 99/);
  assert.match((await run(["models", "digits"])).out, /input {3}image {2}FP32 \[-1,64\]/);
  assert.deepEqual(await run(["hosts"]), { code: 0, out: "", err: "no hosts: no worker is registered\n" });
});

test("get shows a job, result saves its answer", async () => {
  assert.match((await run(["get", "done"])).out, /ran +2\.0 ms in a batch of 4/);
  assert.equal(
    (await run(["get", "done", "--log"])).out,
    `2 earlier attempts of which nothing is kept
2026-01-31T00:00:00.000Z info  coordinator job_queued model=digits
2026-01-31T00:00:01.000Z warn  host gpu-1 attempt_ended attempt=1 end=retried code=run_failed detail="no \\"memory\\""
`,
  );
  assert.deepEqual(JSON.parse((await run(["get", "done", "--log", "--json"])).out), log);
  const file = path.join(folder, "answer.json");
  assert.equal((await run(["result", "done", "-o", file])).code, 0);
  assert.equal(JSON.parse(await readFile(file, "utf8")).model_name, "digits");
});

test("commands explain themselves with examples", async () => {
  const { out } = await start(["--help"]);
  for (const name of ["up", "infer", "submit", "get", "result", "watch", "cancel", "jobs", "hosts", "models"]) {
    assert.match(out, new RegExp(`^ {2}${name} `, "m"));
  }
  for (const name of ["infer", "jobs"]) {
    const help = await run([name, "--help"]);
    assert.equal(help.code, 0);
    assert.match(help.out, /Examples:\n {2}\$ switchyard /);
  }
});
