/** The life of one server of tools over a scripted connection and a clock that jumps: no process is started. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { prometheusMetrics } from "../../coordinator/src/adapters/prometheus-metrics.ts";
import { checkToolServers } from "../../coordinator/src/adapters/tool-server-settings.ts";
import { ToolServer } from "../../coordinator/src/application/tool-server.ts";
import { ToolServers } from "../../coordinator/src/application/tool-servers.ts";
import type { Clock } from "../../coordinator/src/clock.ts";
import { type ToolConnection, type ToolConnector, type ToolDefinition, ToolFailure } from "../../coordinator/src/ports/tool-servers.ts";

const silent = { info() {}, warn() {}, error() {} };

/** Time passes only by `advance`. */
function steppedClock() {
  let nowMs = 0;
  const waiting = new Set<{ atMs: number; wake: () => void }>();
  const clock: Clock = {
    nowMs: () => nowMs,
    monotonicMs: () => nowMs,
    jitter: () => 0.5,
    after(ms, run) {
      const timer = { atMs: nowMs + ms, wake: run };
      waiting.add(timer);
      return () => void waiting.delete(timer);
    },
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted) return resolve();
        const stop = clock.after(ms, resolve);
        signal?.addEventListener("abort", () => {
          stop();
          resolve();
        });
      }),
  };
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
  };
  async function advance(ms: number): Promise<void> {
    await settle();
    const untilMs = nowMs + ms;
    for (;;) {
      const next = [...waiting].filter(({ atMs }) => atMs <= untilMs).sort((one, other) => one.atMs - other.atMs)[0];
      if (next === undefined) break;
      waiting.delete(next);
      nowMs = Math.max(nowMs, next.atMs);
      next.wake();
      await settle();
    }
    nowMs = untilMs;
    await settle();
  }
  return { clock, advance };
}

type How = Parameters<ToolConnector["connect"]>[1];

function scripted() {
  const { advance, clock } = steppedClock();
  const seen = { connects: 0, closes: 0, lists: 0, asked: 0, atMs: [] as number[] };
  const script: { fails: string | undefined; answers: boolean; listed: string[]; how: How | undefined } = {
    fails: undefined,
    answers: true,
    listed: ["a"],
    how: undefined,
  };
  const connection: ToolConnection = {
    era: "modern",
    protocolVersion: "2026-07-28",
    server: { name: "scripted", version: "1" },
    async tools() {
      seen.lists++;
      return script.listed.map(definition);
    },
    call: async () => ({ content: [], isError: false }),
    async answers() {
      seen.asked++;
      return script.answers;
    },
    async close() {
      seen.closes++;
    },
  };
  const connector: ToolConnector = {
    async connect(_settings, how) {
      seen.connects++;
      seen.atMs.push(clock.nowMs());
      if (script.fails !== undefined) throw new ToolFailure("unsent", script.fails);
      script.how = how;
      return connection;
    },
  };
  const metrics = prometheusMetrics({ version: "1", processMetrics: false });
  const parts = { connector: async () => connector, clock, log: silent, metrics };
  return { advance, clock, connection, parts, script, seen };
}

const definition = (name: string): ToolDefinition => ({ name, inputSchema: {}, checkArguments: () => [], checkOutput: () => [] });

function settings(more: Record<string, unknown> = {}) {
  return checkToolServers({ mcpServers: { s: { command: "x", ...more } } }, { env: {}, folder: "/" }).servers[0]!;
}

const never = new AbortController().signal;

test("a server that is lost is connected again, later and later, and left alone after six times", async () => {
  const { advance, parts, script, seen } = scripted();
  script.fails = "no such program";
  const server = new ToolServer(settings(), { ...parts, onTools() {} });
  assert.equal(server.view().state, "idle");
  server.start();
  await advance(0);
  assert.equal(server.view().state, "degraded");
  await advance(60_000);
  assert.deepEqual(seen.atMs, [0, 500, 1_500, 3_500, 7_500, 15_500]);
  assert.equal(server.view().rests, true);
  await assert.rejects(
    server.connected(never),
    (error: unknown) => error instanceof ToolFailure && error.kind === "unsent" && /no such program/.test(error.message),
  );
  script.fails = undefined;
  await advance(300_000);
  assert.equal(server.view().state, "ready", "it is tried again after the rest");
  assert.equal(server.view().rests, false);
  await server.close();
  assert.equal(server.view().state, "closed");
});

test("a server that has run for a minute begins anew when it is lost", async () => {
  const { advance, parts, script } = scripted();
  const server = new ToolServer(settings(), { ...parts, onTools() {} });
  server.start();
  for (let losses = 1; losses <= 8; losses++) {
    await advance(61_000);
    assert.equal(server.view().state, "ready");
    script.how!.lost("crashed");
    await advance(0);
    assert.equal(server.view().losses, losses);
    assert.equal(server.view().nextAttemptMs! - parts.clock.nowMs(), 500, "as after the first");
  }
  await server.close();
});

test("a call waits for a server that is on its way, and not for ever", async () => {
  const { advance, connection, parts, script } = scripted();
  const server = new ToolServer(settings(), { ...parts, onTools() {} });
  script.fails = "starting";
  server.start();
  await advance(0);
  const waiting = server.connected(never);
  script.fails = undefined;
  await advance(500);
  assert.equal(await waiting, connection);
  script.fails = "away";
  script.how!.lost("crashed");
  const late = server.connected(never);
  late.catch(() => {});
  const leaving = new AbortController();
  const left = server.connected(leaving.signal);
  left.catch(() => {});
  leaving.abort();
  await advance(15_000);
  await assert.rejects(left, (error: unknown) => error instanceof ToolFailure && error.kind === "aborted");
  await assert.rejects(late, (error: unknown) => error instanceof ToolFailure && error.kind === "unsent");
  await server.close();
});

test("what is lost is asked by nobody any more, from that moment on", async () => {
  const { advance, connection, parts, script } = scripted();
  const server = new ToolServer(settings(), { ...parts, onTools() {} });
  server.start();
  await advance(0);
  assert.equal(await server.connected(never), connection);
  script.how!.lost("crashed");
  let got = false;
  void server.connected(never).then(() => {
    got = true;
  });
  await advance(0);
  assert.equal(got, false);
  await advance(1_000);
  assert.equal(got, true);
  await server.close();
});

test("tools are listed when they are said to have changed, once a second at most, and once a minute anyway", async () => {
  const { advance, parts, script, seen } = scripted();
  let told = 0;
  const server = new ToolServer(settings(), { ...parts, onTools: () => told++ });
  server.start();
  await advance(0);
  assert.deepEqual([seen.lists, told], [1, 1]);
  script.listed = ["a", "b"];
  for (let at = 0; at < 5_000; at += 50) {
    script.how!.changed();
    await advance(50);
  }
  assert.ok(seen.lists >= 4 && seen.lists <= 7, `${seen.lists} lists in five seconds`);
  assert.equal(told, 2, "an equal list is no news");
  await advance(2_000);
  const before = seen.lists;
  await advance(130_000);
  assert.equal(seen.lists - before, 2);
  await server.close();
});

test("a server that is suspected is asked, and replaced only if it does not answer", async () => {
  const { advance, parts, script, seen } = scripted();
  const server = new ToolServer(settings(), { ...parts, onTools() {} });
  server.start();
  await advance(0);
  await advance(60_000);
  const lists = seen.lists;
  const suspect = (): void => {
    const sent = server.began();
    server.suspect(sent);
    server.ended(sent);
  };
  suspect();
  await advance(100);
  assert.deepEqual([seen.asked, server.view().state, seen.lists], [1, "ready", lists]);
  script.answers = false;
  suspect();
  await advance(100);
  assert.equal(server.view().state, "degraded");
  assert.equal(seen.closes, 1);
  await advance(1_000);
  assert.equal(server.view().state, "ready");
  await server.close();
});

test("a server that has said something since a call went out is not suspected for it", async () => {
  const { advance, parts, script, seen } = scripted();
  const server = new ToolServer(settings({ timeoutMs: 5_000 }), { ...parts, onTools() {} });
  server.start();
  await advance(10);
  const sent = server.began();
  await advance(3_000);
  script.how!.heard();
  await advance(2_000);
  server.suspect(sent);
  await advance(1_000);
  assert.equal(seen.asked, 0);
  await server.close();
});

test("a silent server is asked when the calls that are within their time have had it, and not later than that", async () => {
  const { advance, parts, script, seen } = scripted();
  script.answers = false;
  const server = new ToolServer(settings({ timeoutMs: 5_000 }), { ...parts, onTools() {} });
  server.start();
  await advance(10);
  const silent = server.began();
  await advance(3_000);
  const working = server.began();
  await advance(2_000);
  server.suspect(silent);
  server.ended(silent);
  await advance(2_000);
  assert.deepEqual([seen.asked, server.view().state], [0, "ready"], "it may be at work on the other");
  script.how!.heard();
  server.ended(working);
  await advance(1_000);
  assert.deepEqual([seen.asked, server.view().state], [0, "ready"], "it was");
  const again = server.began();
  server.began();
  await advance(5_000);
  server.suspect(again);
  await advance(4_000);
  assert.equal(seen.asked, 0);
  await advance(1_100);
  assert.deepEqual([seen.asked, seen.closes], [1, 1], "a call that never ends is no excuse");
  await server.close();
});

test("one list that fails ends nothing, and several in a row do", async () => {
  const { advance, connection, parts, script, seen } = scripted();
  const { tools } = connection;
  const server = new ToolServer(settings(), { ...parts, onTools() {} });
  server.start();
  await advance(0);
  connection.tools = async () => {
    seen.lists++;
    throw new ToolFailure("lost", "it answers HTTP 503");
  };
  script.how!.changed();
  await advance(1_000);
  assert.deepEqual([seen.lists, server.view().state], [2, "ready"]);
  connection.tools = tools;
  await advance(6_000);
  assert.deepEqual([seen.lists, server.view().state], [3, "ready"]);
  connection.tools = async () => {
    throw new ToolFailure("lost", "it answers HTTP 503");
  };
  await advance(90_000);
  assert.ok(server.view().losses > 0);
  await server.close();
});

test("a server that is not to be restarted stays away, and one that is disabled is not started", async () => {
  const { advance, parts, script, seen } = scripted();
  const server = new ToolServer(settings({ restart: false }), { ...parts, onTools() {} });
  server.start();
  await advance(0);
  script.how!.lost("crashed");
  await advance(600_000);
  assert.deepEqual([server.view().state, seen.connects, server.view().nextAttemptMs], ["degraded", 1, undefined]);
  await server.close();
  const disabled = new ToolServer(settings({ disabled: true }), { ...parts, onTools() {} });
  disabled.start();
  await advance(1_000);
  assert.deepEqual([disabled.view().state, seen.connects], ["idle", 1]);
  await assert.rejects(disabled.connected(never), /disabled/);
  await disabled.close();
});

test("a new entry for a name waits until the old server is gone", async () => {
  const { advance, connection, parts, seen } = scripted();
  const gone = Promise.withResolvers<void>();
  connection.close = () => {
    seen.closes++;
    return gone.promise;
  };
  const servers = new ToolServers(parts);
  servers.configure([settings()]);
  await advance(0);
  assert.equal(seen.connects, 1);
  servers.configure([settings({ args: ["other"] })]);
  servers.configure([settings({ args: ["another"] })]);
  await advance(10_000);
  assert.deepEqual([seen.connects, seen.closes], [1, 1], "there is never a second one beside it");
  gone.resolve();
  await advance(0);
  assert.equal(seen.connects, 2);
  assert.equal(servers.get("s").view().state, "ready");
  servers.configure([settings({ args: ["another"], timeoutMs: 5 })]);
  await advance(0);
  assert.equal(seen.connects, 2, "limits need no new connection");
  assert.equal(servers.get("s").settings.timeoutMs, 5);
  const closed = servers.close();
  await advance(10_000);
  await closed;
});

test("a server's figures follow its connection, and go with its entry", async () => {
  const { advance, parts, script } = scripted();
  const figures = async (): Promise<(string | undefined)[]> => {
    const text = await parts.metrics.text();
    return ["switchyard_mcp_server_connected", "switchyard_mcp_server_losses_total"].map(
      (name) => new RegExp(`^${name}\\{server="s"\\} (\\d+)$`, "m").exec(text)?.[1],
    );
  };
  const servers = new ToolServers(parts);
  script.fails = "no such program";
  servers.configure([settings()]);
  assert.deepEqual(await figures(), ["0", "0"], "from the start on");
  await advance(0);
  assert.deepEqual(await figures(), ["0", "1"]);
  script.fails = undefined;
  await advance(500);
  assert.deepEqual(await figures(), ["1", "1"]);
  script.how!.lost("crashed");
  assert.equal((await figures())[0], "0", "from that moment on");
  await advance(2_000);
  assert.deepEqual(await figures(), ["1", "2"]);
  servers.configure([settings({ args: ["other"] })]);
  await advance(10_000);
  assert.deepEqual(await figures(), ["1", "2"], "another program of that name counts on");
  servers.configure([settings({ args: ["other"], disabled: true })]);
  assert.deepEqual(await figures(), [undefined, undefined], "nobody is to be called for one that is switched off");
  servers.configure([settings()]);
  await advance(10_000);
  assert.deepEqual(await figures(), ["1", "0"]);
  servers.configure([]);
  parts.metrics.toolCalled("s", "ok", 1);
  await advance(10_000);
  assert.doesNotMatch(await parts.metrics.text(), /server="s"/, "what ends late brings nothing back");
  await servers.close();
});
