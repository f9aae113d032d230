/** The host of MCP servers against real ones, as processes and over HTTP: both eras, checks, limits, and servers that misbehave. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { describe, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type ErrorCode, SwitchyardError } from "@switchyard/protocol";
import { exposedTools } from "../../coordinator/src/application/exposed-tools.ts";
import { fixture, httpServer, toolRig, toolServerProgram } from "../support/tool-rig.ts";
import { until } from "../support/until.ts";

const failsWith =
  (code: ErrorCode, text: RegExp = /./) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof SwitchyardError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, text);
    return true;
  };

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
};

/** The transport of 2024: events come by one GET, messages go by POST to the place that the first event names. */
async function oldServer(t: TestContext): Promise<string> {
  let events: ServerResponse | undefined;
  const answers: Record<string, unknown> = {
    initialize: { protocolVersion: "2024-11-05", capabilities: { tools: {} }, serverInfo: { name: "old", version: "0.1" } },
    "tools/list": { tools: [{ name: "greet", inputSchema: { type: "object" } }] },
    "tools/call": { content: [{ type: "text", text: "good day" }] },
  };
  const http = createServer((request, response) => {
    if (request.method === "GET") {
      events = response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("event: endpoint\ndata: /messages\n\n");
      return;
    }
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => {
      response.writeHead(202).end("accepted");
      const { id, method } = JSON.parse(body) as { id?: number; method: string };
      if (id !== undefined)
        events?.write(`event: message\ndata: ${JSON.stringify({ jsonrpc: "2.0", id, result: answers[method] ?? {} })}\n\n`);
    });
  });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    http.closeAllConnections();
    http.close();
  });
  return `http://127.0.0.1:${(http.address() as AddressInfo).port}/sse`;
}

test("a coordinator without servers loads nothing of the protocol's client", () => {
  const script = `
    import { registerHooks } from "node:module";
    const loaded = [];
    registerHooks({ load: (url, context, next) => { loaded.push(url); return next(url, context); } });
    await import("./coordinator/src/compose.ts");
    const before = loaded.filter((url) => url.includes("modelcontextprotocol/client")).length;
    await import("./coordinator/src/adapters/mcp-client.ts");
    console.log(JSON.stringify([loaded.length > 100, before, loaded.some((url) => url.includes("modelcontextprotocol/client"))]));`;
  const cwd = fileURLToPath(new URL("../..", import.meta.url));
  const { stdout } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { cwd, encoding: "utf8" });
  assert.deepEqual(JSON.parse(stdout), [true, 0, true]);
});

test("a schema with a pattern that runs for hours holds nobody up, however often it is called", async (t) => {
  const rig = await toolRig(t);
  rig.configure({ a: fixture(), asked: fixture({ trust: "none" }), b: fixture() });
  await rig.ready("a", "asked", "b");
  assert.equal(rig.text(await rig.call("a", "pattern", { text: "aaa" })), "ran pattern");
  const evil = { text: `${"a".repeat(40)}b` };
  await assert.rejects(rig.call("asked", "pattern", evil), failsWith("consent_required"));
  const delays = monitorEventLoopDelay({ resolution: 5 });
  delays.enable();
  const startedMs = performance.now();
  for (let round = 0; round < 20; round++) {
    await assert.rejects(rig.call("a", "pattern", evil), failsWith("tool_failed", /checking it takes too long/));
    assert.equal((await rig.call("b", "echo", { text: "x" })).isError, false);
  }
  const tookMs = performance.now() - startedMs;
  delays.disable();
  const [p90, most] = [delays.percentile(90) / 1e6, delays.max / 1e6];
  t.diagnostic(
    `20 rounds in ${tookMs.toFixed(0)} ms; the event loop was late by ${p90.toFixed(0)} ms (p90), ${most.toFixed(0)} ms at most`,
  );
  assert.ok(p90 < 100, `the event loop was late by ${p90} ms`);
});

test("servers that flood, each in its own way, slow nobody down", async (t) => {
  const rig = await toolRig(t);
  const floods = ["notes", "garbage", "one_line", "stderr"];
  rig.configure({ ...Object.fromEntries(floods.map((what) => [what, fixture()])), b: fixture() });
  await rig.ready(...floods, "b");
  const before = process.memoryUsage.rss();
  await Promise.all(floods.map((what) => rig.call(what, "flood", { with: what }).catch(() => {})));
  const tookMs: number[] = [];
  const endMs = performance.now() + 3_000;
  const cpu = process.cpuUsage();
  const startedMs = performance.now();
  while (performance.now() < endMs) {
    const callMs = performance.now();
    await rig.call("b", "echo", { text: "x" });
    tookMs.push(performance.now() - callMs);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const used = process.cpuUsage(cpu);
  const share = (used.user + used.system) / 1_000 / (performance.now() - startedMs);
  tookMs.sort((one, other) => one - other);
  const p95 = tookMs[Math.floor(tookMs.length * 0.95)]!;
  const grownMb = (process.memoryUsage.rss() - before) / 2 ** 20;
  t.diagnostic(
    `${tookMs.length} calls, p50 ${tookMs[tookMs.length >> 1]!.toFixed(1)} ms, p95 ${p95.toFixed(1)} ms, ${(100 * share).toFixed(0)} % of a core, ${grownMb.toFixed(0)} MB more`,
  );
  assert.ok(p95 < 500, `p95 ${p95} ms`);
  assert.ok(grownMb < 200, `what they say is not kept: ${grownMb} MB`);
});

/** Beside one another: most of their time is that of processes which start, are silent and end. Those with the longest begin. */
describe("clients of tool servers", { concurrency: 4 }, () => {
  test("a server that answers nothing any more is noticed and started again", async (t) => {
    const rig = await toolRig(t);
    rig.configure({ a: fixture({ timeoutMs: 1_000 }) });
    await rig.ready("a");
    const pid = Number(rig.text(await rig.call("a", "pid")));
    process.kill(pid, "SIGSTOP");
    await assert.rejects(rig.call("a", "echo", { text: "x" }), failsWith("expired"));
    await until("it to be lost", async () => rig.servers.get("a").view().losses === 1);
    await rig.ready("a");
    assert.equal(isAlive(pid), false, "the old one is gone");
    assert.notEqual(Number(rig.text(await rig.call("a", "pid"))), pid);
  });

  test("a new configuration touches only what it changes, and a server that leaves ends with all that it has started", async (t) => {
    const rig = await toolRig(t);
    const child = path.join(rig.folder, "child");
    const deaf = path.join(rig.folder, "deaf");
    const kept = fixture();
    rig.configure({
      kept,
      gone: fixture({ env: { child } }),
      deaf: fixture({ env: { child: deaf, start: "deaf" } }),
      changed: fixture(),
      limited: fixture(),
    });
    await rig.ready("kept", "gone", "deaf", "changed", "limited");
    const pidOf = async (server: string): Promise<number> => Number(rig.text(await rig.call(server, "pid")));
    const before = {
      kept: await pidOf("kept"),
      gone: await pidOf("gone"),
      changed: await pidOf("changed"),
      limited: await pidOf("limited"),
    };
    const deafPid = await pidOf("deaf");
    rig.configure({
      kept,
      changed: fixture({ env: { rows: "other" } }),
      limited: fixture({ denyTools: ["wipe"], maxConcurrency: 2 }),
      fresh: fixture(),
    });
    await rig.ready("changed", "fresh");
    assert.equal(await pidOf("kept"), before.kept);
    assert.equal(await pidOf("limited"), before.limited, "limits are taken over where it runs");
    await assert.rejects(rig.call("limited", "wipe"), failsWith("forbidden"));
    assert.notEqual(await pidOf("changed"), before.changed);
    await assert.rejects(rig.call("gone", "pid"), failsWith("not_found"));
    const children = [child, deaf].map((file) => Number(readFileSync(file, "utf8")));
    const everyone = [before.gone, before.changed, deafPid, ...children];
    await until("everybody to be gone", async () => everyone.every((pid) => !isAlive(pid)), {
      show: () => everyone.filter(isAlive).join(),
    });
  });

  test("tools of servers of both eras are listed and called, over pipes and over HTTP", async (t) => {
    const rig = await toolRig(t);
    const url = await httpServer(t);
    const near = { url: `${url}/mcp`, allowPrivate: ["127.0.0.1"], trust: "full" };
    rig.configure({
      modern: fixture(),
      legacy: fixture({ protocolEra: "legacy", env: { era: "legacy" } }),
      "asked-modern": fixture({ protocolEra: "auto" }),
      "asked-legacy": fixture({ protocolEra: "auto", env: { era: "legacy" } }),
      "dies-when-asked": fixture({ protocolEra: "auto", env: { era: "legacy", start: "strict" } }),
      noisy: fixture({ env: { start: "noise" } }),
      "http-modern": { ...near, protocolEra: "auto" },
      "http-legacy": { ...near, protocolEra: "legacy" },
    });
    const eras = {
      modern: "modern",
      legacy: "legacy",
      "asked-modern": "modern",
      "asked-legacy": "legacy",
      "dies-when-asked": "legacy",
      noisy: "modern",
      "http-modern": "modern",
      "http-legacy": "legacy",
    };
    await rig.ready(...Object.keys(eras));
    for (const [name, era] of Object.entries(eras)) {
      const server = rig.servers.get(name);
      assert.equal(server.view().era, era, name);
      assert.equal(server.view().server?.name, "fixture");
      assert.ok(server.tools.size > 10, name);
      const called = await rig.call(name, "echo", { text: `hello ${name}` });
      assert.deepEqual(called.structuredContent, { text: `hello ${name}` });
      assert.equal(called.isError, false);
    }
  });

  test("a server's process has nothing of ours in its environment, and what the configuration gives it", async (t) => {
    const rig = await toolRig(t);
    process.env.SWITCHYARD_TEST_SECRET = "not for others";
    t.after(() => delete process.env.SWITCHYARD_TEST_SECRET);
    rig.configure({ a: fixture({ env: { rows: "given" } }) });
    const env = JSON.parse(rig.text(await rig.call("a", "environment"))) as Record<string, string>;
    assert.equal(env.FIXTURE_ROWS, "given");
    assert.equal(env.SWITCHYARD_TEST_SECRET, undefined);
    assert.ok(env.PATH);
  });

  test("arguments are checked before the call and structured answers after it", async (t) => {
    const rig = await toolRig(t);
    rig.configure({ a: fixture() });
    await assert.rejects(rig.call("a", "echo", { text: 5 }), (error: unknown) => {
      assert.ok(error instanceof SwitchyardError);
      assert.equal(error.code, "invalid_request");
      assert.deepEqual(error.facts.fields, [{ pointer: "/arguments/text", expected: "must be string", got: "5" }]);
      return true;
    });
    await assert.rejects(rig.call("a", "echo"), failsWith("invalid_request", /must have required property 'text'/));
    await assert.rejects(
      rig.call("a", "lie"),
      failsWith("tool_failed", /it ran, and its answer is not what its output schema promises: \/text must be string/),
    );
    await assert.rejects(rig.call("a", "absent"), failsWith("not_found", /it lists echo, add_row/));
    await assert.rejects(rig.call("b", "echo"), failsWith("not_found", /configured are a/));
    const failed = await rig.call("a", "fail");
    assert.equal(failed.isError, true);
    assert.equal(rig.text(failed), "the table is locked");
  });

  test("a call that is not answered ends by time, progress keeps one alive, and the total ends that", async (t) => {
    const rig = await toolRig(t);
    rig.configure({ a: fixture({ timeoutMs: 2_500, maxTotalMs: 60_000 }) });
    await rig.ready("a");
    await assert.rejects(rig.call("a", "hang"), failsWith("expired", /no sign of life.*may have run/));
    assert.equal(rig.text(await rig.call("a", "slow", { ms: 5_000 })), "done", "longer than the silence that is allowed");
    await assert.rejects(rig.call("a", "slow", { ms: 10_000 }, { timeoutMs: 700 }), failsWith("expired", /within 700 ms/));
    assert.equal(rig.state("a"), "ready", "the server itself answers");
  });

  test("a caller who goes away cancels the call", async (t) => {
    const rig = await toolRig(t);
    rig.configure({ a: fixture({ maxConcurrency: 1 }) });
    await rig.ready("a");
    const leaving = new AbortController();
    const call = rig.call("a", "slow", { ms: 30_000 }, { signal: leaving.signal });
    const waiting = rig.call("a", "echo", { text: "next" });
    await until("the call to run", async () => rig.servers.get("a").slots.running === 1 && rig.servers.get("a").slots.waiting === 1);
    leaving.abort();
    await assert.rejects(call, failsWith("cancelled"));
    assert.deepEqual((await waiting).structuredContent, { text: "next" }, "its place is free");
    assert.deepEqual(
      rig.acts.filter(({ event }) => event === "call").map(({ outcome, tool }) => [tool, outcome]),
      [
        ["slow", "cancelled"],
        ["echo", "ok"],
      ],
    );
  });

  test("a server that crashes fails its own calls, comes back, and nobody else notices", async (t) => {
    const rig = await toolRig(t);
    rig.configure({ a: fixture(), b: fixture() });
    await rig.ready("a", "b");
    const other = rig.call("b", "slow", { ms: 1_000 });
    await assert.rejects(rig.call("a", "crash"), (error: unknown) => {
      assert.ok(failsWith("tool_failed", /ended with code 7/)(error));
      assert.equal((error as SwitchyardError).facts.extra?.may_have_run, true);
      return true;
    });
    assert.equal((await rig.call("a", "echo", { text: "again" })).isError, false, "a call waits for a server that is started again");
    assert.equal(rig.servers.get("a").view().losses, 1);
    assert.equal(rig.text(await other), "done");
  });

  test("only what is harmless to repeat is repeated, once, and a row is written once", async (t) => {
    const rig = await toolRig(t);
    const rows = path.join(rig.folder, "rows");
    const mark = path.join(rig.folder, "mark");
    rig.configure({ a: fixture({ env: { rows, mark } }) });
    await rig.ready("a");
    assert.equal(rig.text(await rig.call("a", "crash_once")), "this time it works");
    await assert.rejects(rig.call("a", "crash"), failsWith("tool_failed"));
    assert.equal(rig.servers.get("a").view().losses, 2, "it was not tried a second time");
    for (let index = 0; index < 20; index++) await rig.call("a", "add_row", { job: `job-${index}`, output: index });
    const written = readFileSync(rows, "utf8").trim().split("\n");
    assert.deepEqual(
      written.map((line) => (JSON.parse(line) as { job: string }).job),
      Array.from({ length: 20 }, (_, index) => `job-${index}`),
    );
  });

  test("hints of a server that nobody trusts make nothing repeatable", async (t) => {
    const rig = await toolRig(t);
    rig.configure({ a: fixture({ trust: "none", allowTools: ["*"], env: { mark: path.join(rig.folder, "mark") } }) });
    await rig.ready("a");
    await assert.rejects(rig.call("a", "crash_once"), failsWith("tool_failed"));
  });

  test("a server that cannot start is tried more and more seldom, and says why", async (t) => {
    const rig = await toolRig(t);
    rig.configure({
      broken: fixture({ env: { start: "crash" } }),
      absent: { command: "/no/such/program" },
      once: fixture({ restart: false, env: { start: "crash" } }),
      b: fixture(),
    });
    await rig.ready("b");
    await until("it to be tried again", async () => rig.servers.get("broken").view().losses >= 2);
    assert.match(rig.servers.get("broken").view().lastError?.detail ?? "", /ended with code 3/);
    await until("the other to fail", async () => rig.servers.get("absent").view().losses >= 1);
    assert.match(rig.servers.get("absent").view().lastError?.detail ?? "", /cannot be started: ENOENT \(no such file/);
    assert.equal((await rig.call("b", "echo", { text: "x" })).isError, false);
    await until("the third to fail", async () => rig.state("once") === "degraded");
    await assert.rejects(rig.call("once", "echo", { text: "x" }), failsWith("tool_unavailable", /was not called: it ended with code 3/));
    assert.equal(rig.servers.get("once").view().losses, 1, "it is not started again");
  });

  test("an answer that is too large costs the server its connection, and others nothing", async (t) => {
    const rig = await toolRig(t);
    const url = await httpServer(t);
    rig.configure({
      a: fixture({ maxMessageBytes: 100_000 }),
      h: { url: `${url}/mcp`, allowPrivate: ["127.0.0.1"], trust: "full", protocolEra: "modern", maxMessageBytes: 100_000 },
      b: fixture(),
    });
    await rig.ready("a", "h", "b");
    assert.equal(rig.text(await rig.call("a", "huge", { bytes: 50_000 })).length, 50_000);
    for (const server of ["a", "h"]) {
      await assert.rejects(rig.call(server, "huge", { bytes: 5_000_000 }), failsWith("tool_failed", /more than 100000 bytes/));
      assert.equal((await rig.call(server, "echo", { text: "again" })).isError, false);
    }
    assert.equal(rig.servers.get("b").view().losses, 0);
  });

  test("a definition that changes is asked for again, and what was consented to by its pin holds for that one only", async (t) => {
    const rig = await toolRig(t);
    rig.configure({ a: fixture({ trust: "none", allowTools: ["change"], protocolEra: "legacy", env: { era: "legacy" } }) });
    await rig.ready("a");
    await assert.rejects(rig.call("a", "echo", { text: "x" }), failsWith("consent_required", /nobody has consented yet/));
    await assert.rejects(rig.call("a", "echo", { text: "x" }), failsWith("consent_required"));
    assert.equal(rig.consents.entries.get("a/echo")?.asked?.times, 2);
    const server = rig.servers.get("a");
    const caller = { tenant: "t", weight: 1, scopes: new Set(["operate"] as const), keyId: "ops" };
    const seen = server.tools.get("echo")!;
    await rig.desk.decide(server, seen, { decision: "allow", pin: seen.pin, caller });
    assert.equal((await rig.call("a", "echo", { text: "x" })).isError, false);
    await rig.call("a", "change", { description: "Sends what it is told to somebody else" });
    await until("the change to be seen", async () => server.tools.get("echo")!.pin !== seen.pin);
    await assert.rejects(
      rig.call("a", "echo", { text: "x" }),
      failsWith("consent_required", /definition has changed since somebody consented/),
    );
    await assert.rejects(
      rig.desk.decide(server, server.tools.get("echo")!, { decision: "allow", pin: seen.pin, caller }),
      failsWith("changed_meanwhile"),
    );
    await rig.desk.decide(server, server.tools.get("echo")!, { decision: "deny", pin: undefined, caller });
    await assert.rejects(rig.call("a", "echo", { text: "x" }), failsWith("forbidden", /refused by ops/));
    await rig.desk.forget(server, server.tools.get("echo")!, caller);
    await assert.rejects(rig.call("a", "echo", { text: "x" }), failsWith("consent_required", /nobody has consented yet/));
    await assert.rejects(rig.call("a", "wipe"), failsWith("forbidden", /may destroy/));
    const outcomes = rig.acts.map(({ event, outcome, tool }) => `${event} ${tool} ${outcome}`);
    assert.deepEqual(outcomes, [
      "call echo consent_required",
      "call echo consent_required",
      "consent echo allow",
      "call echo ok",
      "consent change allow",
      "call change ok",
      "call echo consent_required",
      "consent echo deny",
      "call echo forbidden",
      "consent echo forget",
      "call echo consent_required",
      "call wipe forbidden",
    ]);
    assert.ok(rig.acts.every(({ argumentsSha256, event }) => event === "consent" || /^[0-9a-f]{64}$/.test(argumentsSha256 ?? "")));
    assert.ok(!JSON.stringify(rig.acts).includes("somebody else"), "the trail has no arguments");
  });

  test("what a server asks of this client is refused, or answered by the configuration", async (t) => {
    const rig = await toolRig(t);
    const old = { protocolEra: "legacy", env: { era: "legacy" } };
    rig.configure({ off: fixture(old), decline: fixture({ ...old, elicitation: "decline" }), modern: fixture() });
    await rig.ready("off", "decline", "modern");
    await assert.rejects(rig.call("off", "ask"), failsWith("tool_failed", /was refused by its server/));
    assert.deepEqual(JSON.parse(rig.text(await rig.call("decline", "ask"))), { action: "decline" });
    await assert.rejects(rig.call("modern", "ask"), failsWith("tool_failed"));
  });

  test("an upstream over HTTP is dialled only where it may be, gets its own credentials, and is not followed elsewhere", async (t) => {
    const rig = await toolRig(t);
    const url = await httpServer(t, { FIXTURE_TOKEN: "t0ken" });
    const more = { trust: "full", protocolEra: "modern", allowPrivate: ["127.0.0.0/8", "::1"] };
    const headers = { Authorization: "Bearer t0ken" };
    rig.configure({
      good: { ...more, url: `${url}/mcp`, headers },
      private: { ...more, url: `${url}/mcp`, headers, allowPrivate: false },
      named: { ...more, url: `${url.replace("127.0.0.1", "localhost")}/mcp`, headers, allowPrivate: ["10.0.0.0/8"] },
      wrong: { ...more, url: `${url}/mcp`, headers: { Authorization: "Bearer other" } },
      moved: { ...more, url: `${url}/moved`, headers },
      nobody: { ...more, url: "http://127.0.0.1:1/mcp" },
    });
    await rig.ready("good");
    assert.equal((await rig.call("good", "echo", { text: "x" })).isError, false);
    for (const [name, why] of [
      ["private", /127\.0\.0\.1 is not a public address/],
      ["named", /is not a public address/],
      ["wrong", /does not accept the configured credentials \(HTTP 401\)/],
      ["moved", /redirects are not followed/],
      ["nobody", /ECONNREFUSED/],
    ] as const) {
      await until(`${name} to fail`, async () => rig.servers.get(name).view().losses > 0, {
        show: () => JSON.stringify(rig.servers.get(name).view()),
      });
      assert.match(rig.servers.get(name).view().lastError?.detail ?? "", why, name);
    }
  });

  test("a server of the oldest transport is called, too", async (t) => {
    const rig = await toolRig(t);
    rig.configure({ old: { type: "sse", url: await oldServer(t), allowPrivate: true, trust: "full", protocolEra: "legacy" } });
    await rig.ready("old");
    assert.equal(rig.text(await rig.call("old", "greet")), "good day");
  });

  test("calls that are under way when their server leaves may end", async (t) => {
    const rig = await toolRig(t);
    rig.configure({ a: fixture() });
    await rig.ready("a");
    const call = rig.call("a", "slow", { ms: 800 });
    await until("the call to run", async () => rig.servers.get("a").slots.running === 1);
    rig.configure({});
    assert.equal(rig.text(await call), "done");
  });

  test("tools are offered on only where the configuration says so, cleaned, and not those that are refused", async (t) => {
    const rig = await toolRig(t);
    rig.configure({
      shown: fixture({
        expose: ["echo", "wipe", "slow"],
        denyTools: ["slow"],
        env: { description: "Hidden\u200b \u202eorders\n\nfor you" },
      }),
      hidden: fixture(),
    });
    await rig.ready("shown", "hidden");
    const offered = await exposedTools(rig);
    assert.deepEqual(
      offered.map(({ description, name, server, tool }) => ({ description, name, server, tool })),
      [
        {
          name: "shown__echo",
          server: "shown",
          tool: "echo",
          description: "A tool of the MCP server 'shown', described by it as: Hidden orders for you",
        },
        {
          name: "shown__wipe",
          server: "shown",
          tool: "wipe",
          description: "A tool of the MCP server 'shown', described by it as: nothing",
        },
      ],
    );
  });

  test("a server is needed for readiness only until it was reached once", async (t) => {
    const rig = await toolRig(t);
    const gate = path.join(rig.folder, "gate");
    const script = `until [ -e "$GATE" ]; do sleep 0.05; done; exec "$0" "$1"`;
    rig.configure({
      slow: {
        command: "/bin/sh",
        args: ["-c", script, process.execPath, toolServerProgram],
        env: { GATE: gate },
        required: true,
        protocolEra: "modern",
        trust: "full",
      },
      other: fixture(),
    });
    await rig.ready("other");
    assert.match(rig.servers.unready()[0]?.detail ?? "", /required MCP server slow is connecting/);
    assert.ok(!existsSync(gate));
    writeFileSync(gate, "");
    await rig.ready("slow");
    assert.deepEqual(rig.servers.unready(), []);
    await rig.call("slow", "crash").catch(() => {});
    assert.deepEqual(rig.servers.unready(), []);
  });
});
