/** The end of a tool server's process, and what its watch is given. Real processes. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, type TestContext, test } from "node:test";
import { OpenRequests } from "../../coordinator/src/adapters/open-requests.ts";
import { ToolProcess } from "../../coordinator/src/adapters/tool-process.ts";
import { type Clock, systemClock } from "../../coordinator/src/clock.ts";
import { until } from "../support/until.ts";

/** Reads nothing, and does not end by itself. */
const stubborn = ["-e", "process.on('SIGTERM', () => {}); setInterval(() => {}, 1_000); console.log('{}');"];

async function started(test: TestContext) {
  const told: string[] = [];
  const events = {
    line: (text: string): boolean => told.push(text) > 0,
    said: () => {},
    ended: (why: string): void => void told.push(`ended: ${why}`),
    remains: (why: string): void => void told.push(`remains: ${why}`),
  };
  const server = new ToolProcess({ command: process.execPath, args: stubborn, env: {}, maxLineBytes: 1_000 }, events, systemClock);
  await server.start();
  const pid = server.pid!;
  test.after(() => {
    try {
      process.kill(-pid, "SIGKILL");
    } catch {} // it has ended
  });
  await until("its first line", async () => told.includes("{}"));
  return { server, told, pid };
}

test("a server that may not be ended does not hold who ends it, and is told of", { timeout: 30_000 }, async (t) => {
  const { pid, server, told } = await started(t);
  const kill = t.mock.method(process, "kill", () => {
    throw Object.assign(new Error("kill EPERM"), { code: "EPERM" });
  });
  await server.close();
  kill.mock.restore();
  assert.deepEqual(told.slice(1), [`remains: process group ${pid} does not end (EPERM)`, "ended: it was ended"]);
});

test("the watch over a server has no variables of ours", { timeout: 30_000 }, async (t) => {
  process.env.SWITCHYARD_TEST_SECRET = "s3cret";
  t.after(() => delete process.env.SWITCHYARD_TEST_SECRET);
  const { pid, server } = await started(t);
  const children = await readFile(`/proc/self/task/${process.pid}/children`, "utf8").catch(() => undefined);
  if (children === undefined) return t.skip("no /proc");
  const own = children
    .trim()
    .split(" ")
    .filter((child) => child !== String(pid));
  const texts = await Promise.all(own.map((child) => readFile(`/proc/${child}/environ`, "utf8").catch(() => "")));
  assert.ok(own.length > 0, "a watch");
  assert.ok(!texts.some((text) => text.includes("s3cret")));
  await server.close();
});

/** Ten times as fast as the system's, so that half a minute is one of three seconds. */
const fast: Clock = {
  ...systemClock,
  monotonicMs: () => systemClock.monotonicMs() * 10,
  after: (ms, run) => systemClock.after(ms / 10, run),
  sleep: (ms, signal) => systemClock.sleep(ms / 10, signal),
};

// they wait, each for the end of its own server
describe("servers that do not end by themselves", { concurrency: 3 }, () => {
  test("a server that ends only by force is not told of as one that remains", { timeout: 30_000 }, async (t) => {
    const { server, told } = await started(t);
    await server.close();
    assert.equal(told.filter((line) => line.startsWith("remains")).length, 0);
    assert.ok(told.at(-1)?.startsWith("ended: "), told.join());
  });

  for (const isAsked of [true, false]) {
    const what = isAsked ? "answers much is slowed down, and lives" : "sends what nobody waits for is ended after half a minute";
    test(`a server that ${what}`, { timeout: 60_000 }, async () => {
      const talk = "const more = () => process.stdout.write('{}\\n'.repeat(1_000), more); more();";
      let lines = 0;
      let why: string | undefined;
      const events = {
        line(): boolean {
          lines++;
          return isAsked;
        },
        said: () => {},
        ended(reason: string): void {
          why = reason;
        },
        remains: () => {},
      };
      const server = new ToolProcess({ command: process.execPath, args: ["-e", talk], env: {}, maxLineBytes: 1_000 }, events, fast);
      const startMs = fast.monotonicMs();
      await server.start();
      if (isAsked) await fast.sleep(60_000);
      else await until("its end", async () => why !== undefined, { withinMs: 30_000 });
      const tookS = (fast.monotonicMs() - startMs) / 1_000;
      assert.equal(why, isAsked ? undefined : "it floods its output");
      assert.ok(tookS > 29, `${tookS} s`);
      assert.ok(lines < 1_000 + 500 * tookS + 1_000, `it is read at its pace: ${lines} lines in ${tookS} s`);
      await server.close();
    });
  }
});

test("what is asked for is the answer to an open request, once, and its progress", () => {
  const open = new OpenRequests();
  open.sent({ jsonrpc: "2.0", id: 1, method: "tools/call", params: { _meta: { progressToken: "one" } } });
  open.sent({ jsonrpc: "2.0", id: 2, method: "tools/call" });
  open.sent({ jsonrpc: "2.0", id: 9, result: {} }); // our answer is no request
  const progress = (progressToken: unknown) => ({ jsonrpc: "2.0", method: "notifications/progress", params: { progressToken } });
  assert.deepEqual([open.take(progress("one")), open.take(progress("other")), open.take(progress(undefined))], [true, false, false]);
  assert.deepEqual(
    [open.take({ id: 1, result: {} }), open.take({ id: 1, result: {} }), open.take({ id: 9, result: {} })],
    [true, false, false],
  );
  assert.equal(open.take(progress("one")), false, "of a call that has ended");
  open.sent({ jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 2 } });
  assert.equal(open.take({ id: 2, result: {} }), false, "nobody waits for it any more");
  assert.equal(open.take({ id: 3, method: "ping" }), false);
  assert.equal(open.take({ method: "notifications/message", params: {} }), false);
});
