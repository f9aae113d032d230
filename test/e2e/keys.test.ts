/** Keys from making to revoking, as an operator and two tenants go through it: the command line against `switchyard up`. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type Cluster, cliMain, startCluster } from "../support/cluster.ts";
import { until } from "../support/until.ts";

const five = fileURLToPath(new URL("../../examples/digits/five.png", import.meta.url));
let folder: string;
let file: string;
let cluster: Cluster;
const secrets: Record<string, string> = {};

interface Outcome {
  code: number | null;
  out: string;
  err: string;
}

function run(secret: string | undefined, ...args: string[]): Promise<Outcome> {
  const env = { ...process.env, SWITCHYARD_URL: cluster?.url, SWITCHYARD_API_KEY: secret ?? "", SWITCHYARD_API_KEYS: file };
  const child = spawn(process.execPath, [cliMain, ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
  const outcome: Outcome = { code: null, out: "", err: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    outcome.out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    outcome.err += text;
  });
  return new Promise((resolve) => child.once("close", (code) => resolve({ ...outcome, code })));
}

async function newKey(id: string, ...options: string[]): Promise<void> {
  const made = await run(undefined, "keys", "new", "--id", id, "--file", file, ...options);
  assert.equal(made.code, 0, made.err);
  secrets[id] = made.out.trim();
}

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "switchyard-e2e-keys-"));
  file = path.join(folder, "keys.yaml");
  await Promise.all([newKey("red", "--tenant", "red", "--weight", "2"), newKey("ops", "--tenant", "ops", "--scopes", "read,operate")]);
  cluster = await startCluster({ env: { SWITCHYARD_API_KEYS: file } });
});

after(async () => {
  await cluster?.stop();
  await rm(folder, { recursive: true, force: true });
});

test("up passes its key file on: calls with a key are answered, calls without one are told what is missing", async () => {
  const [answered, refused, flag] = await Promise.all([
    run(secrets.red, "infer", "digits", "--image", five),
    run(undefined, "infer", "digits", "--image", five),
    run(undefined, "models", "--api-key", secrets.red!, "--json"),
  ]);
  assert.equal(answered.code, 0, `${answered.err}\n${cluster.log()}`);
  assert.match(answered.out, /^5 /);
  assert.deepEqual([refused.code, /An API key is required.*\[unauthenticated\]/.test(refused.err)], [2, true], refused.err);
  assert.equal(JSON.parse(flag.out).model, "digits");
  assert.match(cluster.up.log(), /Try: SWITCHYARD_API_KEY=<secret> npx switchyard infer/);
});

test("a tenant follows its own job and an operator sees hosts and tenants, but not that job", async () => {
  const id = (await run(secrets.red, "submit", "digits", "--image", five)).out.trim();
  const watched = await run(secrets.red, "watch", id, "--json");
  assert.equal(watched.code, 0, watched.err);
  const [result, hidden, jobs, forbidden, hosts, tenants] = await Promise.all([
    run(secrets.red, "result", id),
    run(secrets.ops, "get", id),
    run(secrets.ops, "jobs", "--json"),
    run(secrets.red, "hosts"),
    run(secrets.ops, "hosts", "--json"),
    run(secrets.ops, "tenants"),
  ]);
  assert.deepEqual([result.code, hidden.code, jobs.out], [0, 4, ""]);
  assert.match(forbidden.err, /The API key red lacks the scope 'operate' \[forbidden\]/);
  assert.equal(JSON.parse(hosts.out).state, "ready");
  assert.match(tenants.out, /^red +2 +0 +red$/m, tenants.err);
  assert.match(tenants.out, /^ops +1 +0 +ops$/m);
});

test("a key made while it runs is good within a second, and a revoked one is not", async () => {
  await newKey("blue", "--tenant", "blue", "--scopes", "read");
  await until("the new key", async () => (await run(secrets.blue, "models")).code === 0);
  assert.equal((await run(undefined, "keys", "revoke", "blue")).code, 0);
  await until("the revoked key to be refused", async () => (await run(secrets.blue, "models")).code === 2);
  assert.doesNotMatch(await readFile(file, "utf8"), /swy_/);
  for (const secret of Object.values(secrets)) assert.ok(!cluster.log().includes(secret), "a secret is in a log");
});

test("doctor tells how many keys there are, and up refuses a file with mistakes before it starts anything", async () => {
  const [doctor, refused] = await Promise.all([
    run(undefined, "doctor", "--json"),
    run(undefined, "up", "--api-keys", path.join(folder, "none.yaml"), "--data", path.join(folder, "data"), "--workers", "x"),
  ]);
  const findings: { subject: string; state: string; found: string }[] = JSON.parse(doctor.out).findings;
  const keys = findings.find(({ subject }) => subject === "api keys");
  assert.deepEqual([keys?.state, keys?.found], ["ok", `2 keys of 2 tenants in ${file}`]);
  assert.equal(refused.code, 2);
  assert.match(refused.err, /--workers: expected/);
  assert.match(refused.err, /--api-keys: .*none\.yaml: expected a readable file, got ENOENT/);
});
