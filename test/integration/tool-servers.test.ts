/** /v1/mcp on real coordinators: keys, consent across coordinators, the trail, bound arguments, reloading, and what outlives a coordinator that is killed. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import type {
  JobView,
  Problem,
  ToolAuditView,
  ToolCallView,
  ToolConsentView,
  ToolServerDetails,
  ToolServerView,
  ToolView,
} from "@switchyard/protocol";
import { digestOfSecret } from "@switchyard/protocol/api-keys";
import { run } from "../../client-sdk/src/cli/command-line.ts";
import { Switchyard } from "../../client-sdk/src/index.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { fixture } from "../support/tool-rig.ts";
import { until } from "../support/until.ts";

let folder: string;
let cluster: Processes;
let file: string;
let rows: string;
let child: string;

const keys = { operator: "[submit, read, operate]", submitter: "[submit]", reader: "[read]", worker: "[submit, read]" } as const;
type Key = keyof typeof keys;

async function configure(mcpServers: Record<string, unknown>): Promise<void> {
  await writeFile(file, JSON.stringify({ mcpServers }));
}

const servers = () => ({
  log: fixture({ trust: "none", env: { rows } }),
  open: fixture({ timeoutMs: 60_000, env: { child } }),
  bad: fixture({ env: { start: "crash" } }),
  mute: fixture({ env: { start: "hang" } }),
});

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "switchyard-mcp-"));
  [file, rows, child] = ["servers.json", "rows", "child"].map((name) => path.join(folder, name)) as [string, string, string];
  const keyFile = path.join(folder, "keys.yaml");
  const entry = ([id, scopes]: [string, string]): string =>
    `- {id: ${id}, sha256: ${digestOfSecret(id)}, tenant: night, weight: 1, scopes: ${scopes}}\n`;
  await writeFile(keyFile, Object.entries(keys).map(entry).join(""));
  await configure(servers());
  cluster = await startProcesses({
    coordinators: 2,
    workers: 1,
    apiKey: "operator",
    env: { SWITCHYARD_API_KEYS: keyFile, SWITCHYARD_MCP_SERVERS: file },
  });
  await ready("log");
  await ready("open");
});

after(async () => {
  await cluster?.stop();
  await rm(folder, { recursive: true, force: true });
});

interface Asked {
  as?: Key;
  at?: number;
  method?: string;
  body?: unknown;
  signal?: AbortSignal;
}

async function ask<T>(where: string, { as = "operator", at = 0, body, method = body === undefined ? "GET" : "POST", signal }: Asked = {}) {
  const headers = { authorization: `Bearer ${as}`, "content-type": "application/json" };
  const init: RequestInit = { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }), ...(signal && { signal }) };
  const answer = await fetch(`${cluster.urls[at]}${where}`, init);
  const text = await answer.text();
  return { status: answer.status, value: (text === "" ? undefined : JSON.parse(text)) as T, headers: answer.headers };
}

const call = <T = ToolCallView>(server: string, tool: string, args: Record<string, unknown>, asked: Asked = {}) =>
  ask<T>(`/v1/mcp/servers/${server}/tools/${tool}`, { ...asked, body: { arguments: args } });

async function ready(name: string): Promise<void> {
  for (const at of [0, 1]) {
    await until(
      `${name} to be ready`,
      async () => (await ask<ToolServerDetails>(`/v1/mcp/servers/${name}`, { at })).value.state === "ready",
      {
        withinMs: 60_000,
        show: () => cluster.log(),
      },
    );
  }
}

const consentOf = (tool: string): string => `/v1/mcp/servers/log/tools/${tool}/consent`;

async function infer(): Promise<JobView> {
  const inputs = [{ name: "image", datatype: "FP32", shape: [1, 64], data: Array.from({ length: 64 }, (_, index) => index % 17) }];
  const headers = { authorization: "Bearer worker", prefer: "wait=60", "content-type": "application/json" };
  const answer = await fetch(`${cluster.url}/v1/jobs`, {
    method: "POST",
    headers,
    body: JSON.stringify({ model: "digits", inputs, tags: { site: "north" } }),
  });
  const job = (await answer.json()) as JobView;
  assert.equal(job.state, "succeeded", JSON.stringify(job));
  return job;
}

test("servers are listed with their state, and one that crashes or says nothing is only itself", async () => {
  const { value } = await ask<{ items: ToolServerView[] }>("/v1/mcp/servers");
  const states = new Map(value.items.map((server) => [server.name, server]));
  assert.deepEqual([...states.keys()], ["bad", "log", "mute", "open"]);
  assert.equal(states.get("log")?.state, "ready");
  assert.equal(states.get("log")?.era, "modern");
  assert.equal(states.get("log")?.endpoint, process.execPath);
  assert.equal(states.get("mute")?.state, "connecting");
  await until("the broken one to be lost twice", async () => (await ask<ToolServerView>("/v1/mcp/servers/bad")).value.losses >= 2);
  const bad = (await ask<ToolServerView>("/v1/mcp/servers/bad")).value;
  assert.match(bad.last_error?.detail ?? "", /ended with code 3/);
  assert.equal((await infer()).state, "succeeded");
  assert.equal((await call("open", "echo", { text: "x" })).status, 200);
});

test("keys with the scope operate see and decide, those with submit call", async () => {
  for (const as of ["submitter", "reader"] as const) {
    assert.equal((await ask("/v1/mcp/servers", { as })).status, 403);
    assert.equal((await ask(consentOf("echo"), { as, method: "PUT", body: { decision: "allow" } })).status, 403);
    assert.equal((await ask("/v1/mcp/audit", { as })).status, 403);
  }
  assert.equal((await call("open", "echo", { text: "x" }, { as: "reader" })).status, 403);
  const { status, value } = await call("open", "echo", { text: "x" }, { as: "submitter" });
  assert.equal(status, 200);
  assert.deepEqual(value.structured_content, { text: "x" });
  assert.equal(value.is_error, false);
});

test("a tool that asks is refused until somebody consents, at any coordinator, and the trail says who", async () => {
  const refused = await call<Problem & { consent: string; pin: string }>("log", "add_row", { job: "a", output: 1 }, { as: "submitter" });
  assert.equal(refused.status, 403);
  assert.equal(refused.value.code, "consent_required");
  assert.equal(refused.value.consent, consentOf("add_row"));
  const { value: tool } = await ask<ToolView>("/v1/mcp/servers/log/tools/add_row", { at: 1 });
  assert.equal(tool.decision, "ask");
  assert.deepEqual([tool.asked?.by, tool.asked?.times], ["submitter", 1]);
  const other = await ask<Problem>(consentOf("add_row"), { at: 1, method: "PUT", body: { decision: "allow", pin: "0".repeat(64) } });
  assert.deepEqual([other.status, other.value.code], [409, "changed_meanwhile"]);
  const given = await ask<ToolConsentView>(consentOf("add_row"), { at: 1, method: "PUT", body: { decision: "allow", pin: tool.pin } });
  assert.deepEqual([given.value.decision, given.value.consent?.by, given.value.asked], ["allow", "operator", undefined]);
  for (const at of [0, 1]) assert.equal((await call("log", "add_row", { job: "a", output: at }, { as: "submitter", at })).status, 200);
  await ask(consentOf("add_row"), { at: 0, method: "PUT", body: { decision: "deny" } });
  const denied = await call<Problem>("log", "add_row", { job: "a", output: 1 }, { as: "submitter", at: 1 });
  assert.deepEqual([denied.status, denied.value.code], [403, "forbidden"]);
  assert.equal((await ask(consentOf("add_row"), { method: "DELETE" })).status, 204);
  const page = await ask<{ items: ToolAuditView[]; links: { next?: string } }>("/v1/mcp/audit?limit=4");
  const rest = await ask<{ items: ToolAuditView[] }>(page.value.links.next!);
  const trail = [...page.value.items, ...rest.value.items].filter(({ server }) => server === "log");
  assert.deepEqual(
    trail.map(({ by, event, outcome }) => `${by} ${event} ${outcome}`),
    [
      "operator consent forget",
      "submitter call forbidden",
      "operator consent deny",
      "submitter call ok",
      "submitter call ok",
      "operator consent allow",
      "submitter call consent_required",
    ],
  );
  assert.ok(
    trail
      .filter(({ event }) => event === "call")
      .every(
        ({ arguments_sha256, ms, tenant, via }) =>
          arguments_sha256?.length === 64 && ms !== undefined && tenant === "night" && via === "http",
      ),
  );
  assert.match(cluster.log(), /"mcp_tool_called".*"by":"submitter"/);
});

test("what a request has wrong is told by its place", async () => {
  const wrong: [unknown, string][] = [
    [{ arguments: [] }, "/arguments"],
    [{ argumets: {} }, "/argumets"],
    [{ arguments: {}, timeout_ms: 0 }, "/timeout_ms"],
    [{ bindings: { "/a": { job: 5, pointer: "" } } }, "/bindings/~1a/job"],
    [{ bindings: { "/a": "x" } }, "/bindings/~1a"],
    [{ arguments: { text: 7 } }, "/arguments/text"],
  ];
  for (const [body, pointer] of wrong) {
    const { status, value } = await ask<Problem>("/v1/mcp/servers/open/tools/echo", { body });
    assert.equal(status, 400, JSON.stringify(value));
    assert.equal(value.errors?.[0]?.pointer, pointer);
  }
  assert.equal((await call("absent", "echo", {})).status, 404);
  assert.equal((await call("open", "absent", {})).status, 404);
  assert.equal((await ask("/v1/mcp/audit?limit=0")).status, 400);
  assert.equal((await ask(consentOf("echo"), { method: "PUT", body: { decision: "maybe" } })).status, 400);
  const deep = `{"arguments":{"text":${"[".repeat(5_000)}${"]".repeat(5_000)}}}`;
  const answer = await fetch(`${cluster.url}/v1/mcp/servers/open/tools/echo`, {
    method: "POST",
    headers: { authorization: "Bearer operator" },
    body: deep,
  });
  assert.equal(answer.status, 400);
});

test("results of jobs are bound to arguments, and each job is one row", async () => {
  await ask(consentOf("add_row"), { method: "PUT", body: { decision: "allow" } });
  const before = readFileSync(rows, "utf8").trim().split("\n").length;
  const jobs = await Promise.all(Array.from({ length: 6 }, () => infer()));
  const bindings = (id: string) => ({ "/job": { job: id, pointer: "/id" }, "/output": { job: id, pointer: "/outputs/label/0" } });
  for (const { id } of jobs) {
    const { status, value } = await ask<ToolCallView>("/v1/mcp/servers/log/tools/add_row", {
      as: "worker",
      body: { bindings: bindings(id) },
    });
    assert.equal(status, 200, JSON.stringify(value));
  }
  const written = readFileSync(rows, "utf8")
    .trim()
    .split("\n")
    .slice(before)
    .map((line) => JSON.parse(line) as { job: string; output: number });
  assert.deepEqual(
    written.map(({ job }) => job),
    jobs.map(({ id }) => id),
  );
  assert.ok(written.every(({ output }) => Number.isInteger(output)));
  const unread = await ask<Problem>("/v1/mcp/servers/log/tools/slow", { as: "worker", body: { bindings: bindings("no-such-job") } });
  assert.deepEqual([unread.status, unread.value.code], [403, "consent_required"], "no job is read for a tool that may not be called");
  const hidden = await ask<Problem>("/v1/mcp/servers/log/tools/add_row", { as: "submitter", body: { bindings: bindings(jobs[0]!.id) } });
  assert.equal(hidden.status, 403, "a key that may not read jobs reads none by a tool");
  const wrong = await ask<Problem>("/v1/mcp/servers/log/tools/add_row", {
    as: "worker",
    body: { bindings: { "/output": { job: jobs[0]!.id, pointer: "/outputs/absent" } } },
  });
  assert.deepEqual([wrong.status, wrong.value.errors?.[0]?.pointer], [400, "/bindings/~1output/pointer"]);
});

test("a client that goes away cancels its call", async () => {
  const leaving = new AbortController();
  const gone = call("open", "slow", { ms: 30_000 }, { signal: leaving.signal });
  await until("the call to run", async () => (await ask<ToolServerView>("/v1/mcp/servers/open")).value.calls.running === 1);
  leaving.abort();
  await assert.rejects(gone);
  await until("it to be cancelled", async () => {
    const { value } = await ask<{ items: ToolAuditView[] }>("/v1/mcp/audit?limit=1");
    return value.items[0]?.tool === "slow" && value.items[0].outcome === "cancelled";
  });
});

test("the SDK and the command line see, call and decide", async (t) => {
  const client = new Switchyard({ url: cluster.url, apiKey: "operator" });
  assert.deepEqual(
    (await client.toolServers.list()).map(({ name }) => name),
    ["bad", "log", "mute", "open"],
  );
  assert.deepEqual((await client.toolServers.call("open", "echo", { text: "sdk" })).structured_content, { text: "sdk" });
  const printed: string[] = [];
  const write = process.stdout.write;
  t.after(() => {
    process.stdout.write = write;
  });
  const cli = async (...args: string[]): Promise<{ code: number; out: string }> => {
    printed.length = 0;
    process.stdout.write = ((text: string) => printed.push(text) > 0) as typeof process.stdout.write;
    const code = await run(["tools", ...args, "--url", cluster.url, "--api-key", "operator"]).finally(() => {
      process.stdout.write = write;
    });
    return { code, out: printed.join("") };
  };
  assert.match((await cli()).out, /^SERVER[^\n]*\n[\s\S]*\nlog +ready +modern +1\d /m);
  assert.match((await cli("list", "log")).out, /add_row +allowed +allowed by operator/);
  assert.match((await cli("show", "log", "add_row")).out, /pin [0-9a-f]{64}/);
  assert.deepEqual(await cli("call", "open", "echo", "--args", '{"text": "cli"}'), { code: 0, out: "cli\n" });
  assert.deepEqual(await cli("call", "open", "fail"), { code: 1, out: "the tool failed:\nthe table is locked\n" });
  const { id } = await infer();
  const bound = await cli("call", "log", "add_row", "--bind", `/job=${id}:/id`, "--bind", `/output=${id}:/outputs/label/0`, "--json");
  assert.equal((JSON.parse(bound.out) as ToolCallView).is_error, false);
  assert.match((await cli("consent", "log", "hang", "--deny")).out, /calls are refused: refused by operator/);
  assert.equal((await cli("consent", "log", "hang", "--forget")).code, 0);
  assert.equal((await cli("consent", "log", "hang")).code, 2);
  const audit = (await cli("audit", "--limit", "3", "--json")).out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as ToolAuditView);
  assert.deepEqual(
    audit.map(({ event, outcome }) => `${event} ${outcome}`),
    ["consent forget", "consent deny", "call ok"],
  );
});

test("while servers flood, hang and crash, jobs run as ever", async (t) => {
  const latencies = async (count: number): Promise<number[]> => {
    const took: number[] = [];
    for (let index = 0; index < count; index++) {
      const startedMs = performance.now();
      await infer();
      took.push(performance.now() - startedMs);
    }
    return took.sort((one, other) => one - other);
  };
  await configure({ ...servers(), flood: fixture(), lines: fixture(), stuck: fixture() });
  for (const name of ["flood", "lines", "stuck"]) await ready(name);
  const quiet = await latencies(40);
  await Promise.all([call("flood", "flood", { with: "notes" }), call("lines", "flood", { with: "garbage" })]);
  const hanging = Array.from({ length: 8 }, () => call("stuck", "hang", {}, { signal: AbortSignal.timeout(20_000) }).catch(() => {}));
  const loud = await latencies(40);
  const [p50, p95] = [loud[20]!, loud[38]!];
  t.diagnostic(
    `a job takes ${quiet[20]!.toFixed(1)} ms (p95 ${quiet[38]!.toFixed(1)}) alone, ${p50.toFixed(1)} ms (p95 ${p95.toFixed(1)}) beside them`,
  );
  assert.ok(p95 < 1_000, `p95 ${p95} ms`);
  await configure(servers());
  await Promise.all(hanging);
});

test("a file that is broken changes nothing, and a right one is taken over where it differs", async () => {
  const pid = async (server: string): Promise<string> =>
    String((await call("open" === server ? "open" : server, "pid", {})).value.content[0]?.text);
  const before = await pid("open");
  await writeFile(file, '{"mcpServers": {"open": {"command": ');
  await until("the complaint", async () => /"mcp_servers_kept"/.test(cluster.log()));
  assert.equal(await pid("open"), before);
  await configure({ ...servers(), more: fixture() });
  await ready("more");
  assert.equal(await pid("open"), before);
  await configure(servers());
  await until("it to be gone", async () => (await ask("/v1/mcp/servers/more")).status === 404);
});

test("a coordinator that is killed leaves no server behind, and one that ends none either", async () => {
  const [first, second] = cluster.coordinators;
  const pids: number[] = [];
  for (const at of [0, 1]) pids.push(Number((await call("open", "pid", {}, { at })).value.content[0]?.text));
  assert.notEqual(pids[0], pids[1], "each coordinator has its own");
  const grandchild = Number(readFileSync(child, "utf8"));
  const lives = (id: number): boolean => {
    try {
      return !/^State:\s+Z/m.test(readFileSync(`/proc/${id}/status`, "utf8"));
    } catch {
      return false;
    }
  };
  assert.ok(lives(pids[0]!) && lives(pids[1]!) && lives(grandchild));
  await first!.kill();
  const ended = second!.stop();
  await until("the server of the first to end", async () => !lives(pids[0]!));
  assert.equal(await ended, 0);
  await until("the other to end", async () => !lives(pids[1]!) && !lives(grandchild));
});
