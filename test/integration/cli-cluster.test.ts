/** The commands for looking at a cluster, against a real one: each at least once as a process, and what it says of other arguments in one process for all. */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { call, floats, jobView } from "../support/calls.ts";
import { type CommandHost, type CommandOutcome, startCommandHost } from "../support/command-host.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { until } from "../support/until.ts";

const main = fileURLToPath(new URL("../../client-sdk/src/cli/main.ts", import.meta.url));
const inputs = [floats("image", [1, 64], new Float32Array(64))];

let cluster: Processes;
let commands: CommandHost;
const env = (): Record<string, string> => ({ SWITCHYARD_URL: cluster.url, COLUMNS: "120" });
before(async () => {
  cluster = await startProcesses();
  commands = startCommandHost(env());
});
after(async () => {
  await commands?.stop();
  await cluster?.stop();
});

/** As a process of its own. */
function start(args: readonly string[], program = [process.execPath, main]): Promise<CommandOutcome> {
  const [command, ...first] = program as [string, ...string[]];
  const child = spawn(command, [...first, ...args], {
    env: { ...process.env, ...env() },
    stdio: "pipe",
  });
  const outcome: CommandOutcome = { code: null, out: "", err: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    outcome.out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    outcome.err += text;
  });
  return new Promise((resolve) => child.once("close", (code) => resolve({ ...outcome, code })));
}

const run = (args: readonly string[]): Promise<CommandOutcome> => commands.run(args);

async function submit(tag: string): Promise<string> {
  const answer = await call(`${cluster.url}/v1/jobs`, { body: { model: "digits", inputs, tags: { run: tag } } });
  assert.equal(answer.status, 202, answer.bytes.toString());
  return answer.json().id;
}

test("top shows once, where no terminal is, what ran during one interval, and programs get an object", async () => {
  const look = async () => {
    let isOver = false;
    const ended = Promise.all([
      start(["top", "--interval", "1500ms"]),
      run(["top", "--json", "--interval", "1500ms", "--model", "digits"]),
    ]).finally(() => {
      isOver = true;
    });
    while (!isOver) {
      await call(`${cluster.url}/v2/models/digits/infer`, { body: { inputs } }); // one caller, one after the other
      await sleep(20);
    }
    return await ended;
  };
  // where this machine stood still for so long, nothing ran in an interval
  const [table, json] = await until("an interval in which something ran", async () => {
    const both = await look();
    return both[0].out.includes("digits@1") && JSON.parse(both[1].out).models[0]?.jobs_per_second > 0 && both;
  });
  assert.deepEqual([table.code, table.err], [0, ""]);
  assert.match(table.out, /jobs\/s .* hosts 1 ready\n\nMODEL +JOBS\/S +TREND +FAILED\/S +WAITING +QUEUE +RUN +BATCH\ndigits@1 +\d/);
  assert.match(table.out, /HOST +STATE +DEVICE +WARM +HEARTBEAT +FAILED\nworker-1 +ready /);
  assert.equal(table.out.includes("\x1b"), false);
  const { hosts, models } = JSON.parse(json.out);
  assert.equal(hosts[0].id, "worker-1");
  assert.deepEqual([models.length, models[0].model, models[0].version, models[0].failed_per_second], [1, "digits", 1, 0]);
  assert.ok(models[0].waiting <= 1, "one caller, who may be met while it waits");
  assert.ok(models[0].jobs_per_second > 0 && models[0].run_ms > 0, json.out);
});

test("top refuses what it cannot do, by name", async () => {
  const cases = [
    [["top", "--interval", "10ms"], 2, /Give 500ms or more/],
    [["top", "--count", "0"], 2, /whole number of at least 1/],
    [["top", "--model", "nothing"], 4, /no model nothing/],
    [["top", "--url", "http://127.0.0.1:9"], 5, /cannot reach http:\/\/127\.0\.0\.1:9/],
  ] as const;
  const refused = async ([args, code, pattern]: (typeof cases)[number]): Promise<void> => {
    const outcome = await run(args);
    assert.equal(outcome.code, code, outcome.err);
    assert.match(outcome.err, pattern);
  };
  await Promise.all(cases.map(refused));
});

const hasTerminals = spawnSync("script", ["--version"]).error === undefined;
test("top on a terminal draws a screen of its own, and leaves the terminal as it was", {
  skip: hasTerminals ? false : "needs the command script",
}, async () => {
  const command = `"${process.execPath}" "${main}" top --interval 500ms --count 2`;
  const { code, out } = await start([], ["script", "-qefc", command, "/dev/null"]);
  assert.equal(code, 0, out);
  assert.equal(out.indexOf("\x1b[?1049h"), 0);
  assert.ok(out.trimEnd().endsWith("\x1b[?25h\x1b[?1049l"), JSON.stringify(out.slice(-60)));
  assert.equal(out.split("\x1b[H").length - 1, 3, "the first look and two rounds");
  assert.match(out, /digits@1/);
});

test("jobs shows one with where its time went, and lists those of the last minutes", async () => {
  const id = await submit("shown");
  await jobView(cluster.url, id, 60);
  const shown = await start(["jobs", id]);
  assert.deepEqual([shown.code, shown.err], [0, ""]);
  assert.match(shown.out, new RegExp(`^id +${id}\nstate +succeeded\n`));
  assert.match(
    shown.out,
    /\nwaited +[█░]{30} .*\nran +[█░]{30} .* on worker-1 in a batch of 1\n(the rest +[█░]{30} .*\n)?succeeded .* before its deadline\n$/,
  );
  assert.equal(JSON.parse((await run(["jobs", id, "--json"])).out).id, id);
  const listed = await run(["jobs", "--since", "5m", "--tag", "run=shown", "--json"]);
  assert.deepEqual(
    listed.out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).id),
    [id],
  );
  const both = await run(["jobs", id, "--state", "failed"]);
  assert.equal(both.code, 2);
  assert.match(both.err, /--state is a filter of lists/);
  assert.equal((await run(["jobs", "nothing"])).code, 4);
});

test("hosts shows one with all that is known of it", async () => {
  const { code, out } = await start(["hosts", "worker-1"]);
  assert.equal(code, 0);
  assert.match(out, /^id +worker-1\nstate +ready\n/);
  assert.match(out, /\nwarm +digits@1/);
  const missing = await run(["hosts", "worker-9"]);
  assert.deepEqual([missing.code, missing.err], [4, "switchyard: no host worker-9 is registered [host_not_found]\n"]);
});

test("watch follows several jobs, and its exit code is that of the worst", async () => {
  const ids = await Promise.all(["a", "b"].map(submit));
  const well = await start(["watch", ...ids]);
  assert.equal(well.code, 0, well.err);
  for (const id of ids) assert.match(well.out, new RegExp(`^${id}  succeeded`, "m"));
  const nowhere = { require: { labels: { site: "nowhere" } }, wait_for_host: true };
  const late = await call(`${cluster.url}/v1/jobs`, { body: { model: "digits", inputs, timeout_ms: 300, ...nowhere } });
  assert.equal(late.status, 202, late.bytes.toString());
  const worst = await run(["watch", ids[0]!, late.json().id, "--json"]);
  assert.equal(worst.code, 124, worst.out);
  const states = worst.out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line).state);
  assert.ok(states.includes("succeeded") && states.includes("expired"), worst.out);
  const unknown = await run(["watch", ids[0]!, "nothing"]);
  assert.equal(unknown.code, 4);
});
