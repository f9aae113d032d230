/** What was decided about tools, and which calls asked for it. The same sentences on memory and on a real Redis. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { keys } from "@switchyard/protocol/redis";
import { RedisConnection } from "../../coordinator/src/adapters/redis-connection.ts";
import { RedisToolAudit } from "../../coordinator/src/adapters/redis-tool-audit.ts";
import { RedisToolConsents } from "../../coordinator/src/adapters/redis-tool-consents.ts";
import { localCaller } from "../../coordinator/src/application/caller.ts";
import { ToolConsentDesk } from "../../coordinator/src/application/tool-consent-desk.ts";
import type { KnownTool, ToolServer } from "../../coordinator/src/application/tool-server.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import type { AuditedAct } from "../../coordinator/src/ports/tool-audit.ts";
import type { Decided, ToolConsents } from "../../coordinator/src/ports/tool-consents.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { memoryConsents } from "../support/tool-rig.ts";

let server: TestRedis;
let redis: RedisConnection;

before(async () => {
  server = await startTestRedis();
  redis = new RedisConnection(server.url, "consents", systemClock);
  await redis.open();
});

after(async () => {
  await redis?.close();
  await server?.stop();
});

const of = { server: "s", tool: "t" };
const allowed = (by: string, atMs: number): Decided => ({ consent: { decision: "allow", pin: "p", origin: "o", by, atMs } });

const stores: [string, () => Promise<ToolConsents>][] = [
  ["memory", async () => memoryConsents()],
  [
    "redis",
    async () => {
      await redis.sendAll([["del", keys.toolConsents]]);
      return new RedisToolConsents(redis);
    },
  ],
];

for (const [name, open] of stores) {
  describe(name, () => {
    test("what was decided stands until it is forgotten, by tool", async () => {
      const consents = await open();
      assert.equal(await consents.get("s", "t"), undefined);
      await consents.change(of, (was, nowMs) => (was ? undefined : allowed("ops", nowMs)));
      assert.equal((await consents.get("s", "t"))?.consent?.by, "ops");
      assert.deepEqual([...(await consents.ofServer("s", ["t", "u"])).keys()], ["t"]);
      await consents.change(of, () => undefined);
      assert.equal(await consents.get("s", "t"), undefined);
    });

    test("what was asked is counted by definition, and answered by a decision", async () => {
      const consents = await open();
      for (const pin of ["p", "p", "q", "q", "q"]) await consents.ask(of, { by: "k1", pin });
      const { asked } = (await consents.get("s", "t"))!;
      assert.deepEqual([asked?.by, asked?.pin, asked?.times], ["k1", "q", 3]);
      await consents.change(of, (_, nowMs) => allowed("ops", nowMs));
      assert.equal((await consents.get("s", "t"))?.asked, undefined);
      await consents.ask(of, { by: "k1", pin: "p" });
      assert.equal((await consents.get("s", "t"))?.asked?.times, 1);
      await consents.change(of, () => undefined);
      assert.equal(await consents.get("s", "t"), undefined, "forgotten with it");
    });

    test("a hundred calls that ask are all told that consent is needed, and no decision waits for them", async () => {
      const consents = await open();
      const log = { info: () => {}, warn: () => {}, error: () => {} };
      const desk = new ToolConsentDesk({ consents, log, audit: { append: async () => {}, read: async () => [] } });
      const settings = { name: "s", trust: "none", allowTools: [], denyTools: [] };
      const asked = { settings, origin: "o", tools: new Map() } as unknown as ToolServer;
      const annotations = { destructiveHint: false, openWorldHint: false };
      const tool = { pin: "p", definition: { name: "t", inputSchema: {}, annotations } } as unknown as KnownTool;
      const call = () => desk.admit(asked, tool, { caller: localCaller, check: () => {} });
      const alone = await Promise.allSettled(Array.from({ length: 100 }, call));
      const codes = new Set(alone.map((one) => (one.status === "rejected" ? one.reason.code : "admitted")));
      assert.deepEqual([...codes], ["consent_required"]);
      const calls = Promise.allSettled(Array.from({ length: 100 }, call));
      for (let times = 0; times < 20; times++) {
        await desk.decide(asked, tool, { caller: localCaller, decision: "allow", pin: "p" });
        await desk.forget(asked, tool, localCaller);
      }
      for (const { reason, status } of (await calls) as PromiseRejectedResult[]) {
        if (status === "rejected") assert.equal(reason.code, "consent_required");
      }
    });
    test("a first use pins what the configuration allows, says so, and overrules no other first use", async () => {
      const consents = await open();
      const acts: AuditedAct[] = [];
      const log = { info: () => {}, warn: () => {}, error: () => {} };
      const audit = { append: async (act: AuditedAct) => void acts.push(act), read: async () => [] };
      const desk = new ToolConsentDesk({ consents, log, audit });
      const server = { settings: { name: "s", trust: "full", allowTools: [], denyTools: [] }, origin: "o" } as unknown as ToolServer;
      const tool = (pin: string) => ({ pin, definition: { name: "t", inputSchema: {} } }) as unknown as KnownTool;
      // two coordinators see two definitions, and both judge before either has pinned
      const firsts = await Promise.allSettled(
        ["p", "q"].map((pin) => desk.admit(server, tool(pin), { caller: localCaller, check: () => {} })),
      );
      const refused = firsts.flatMap((one) => (one.status === "rejected" ? [one.reason.code] : []));
      assert.deepEqual(refused, ["consent_required"]);
      const { consent } = (await consents.get("s", "t"))!;
      assert.deepEqual(
        acts.map(({ by, event, outcome, pin }) => [event, by, outcome, pin]),
        [["consent", "(configuration)", "allow", consent?.pin]],
      );
    });
  });
}

test("of two who decide at once on Redis, one is told", async () => {
  const consents = new RedisToolConsents(redis);
  await consents.change(of, () => undefined);
  const both = await Promise.allSettled(["a", "b"].map((by) => consents.change(of, (_, nowMs) => allowed(by, nowMs))));
  const [refused, ...more] = both.flatMap((one) => (one.status === "rejected" ? [one.reason.code] : []));
  assert.deepEqual([refused, more.length], ["changed_meanwhile", 0]);
});

test("no number of calls pushes out of the trail who consented, and both are read in the order of time", async () => {
  const trail = new RedisToolAudit(redis);
  const about = { server: "log", tool: "add", tenant: "default", by: "anna", via: "http" };
  await trail.append({ ...about, event: "call", outcome: "consent_required" });
  await trail.append({ ...about, event: "consent", outcome: "allow" });
  for (let sent = 0; sent < 12_000; sent += 500) {
    await Promise.all(Array.from({ length: 500 }, () => trail.append({ ...about, event: "call", outcome: "ok" })));
  }
  await trail.append({ ...about, event: "consent", outcome: "deny" });
  const [newest, next] = await trail.read({ limit: 2 });
  assert.deepEqual([newest?.outcome, next?.outcome], ["deny", "ok"]);
  const all: AuditedAct[] = [];
  for (let before: string | undefined; ; ) {
    const page = await trail.read({ limit: 1_000, ...(before !== undefined && { before }) });
    if (page.length === 0) break;
    all.push(...page);
    before = page.at(-1)!.id;
  }
  assert.ok(all.length < 11_000, `${all.length} are kept`);
  assert.deepEqual(
    all.filter(({ event }) => event === "consent").map(({ outcome }) => outcome),
    ["deny", "allow"],
  );
});
