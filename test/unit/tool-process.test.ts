/** The end of a tool server's process, and what its watch is given. Real processes. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { type TestContext, test } from "node:test";
import { ToolProcess } from "../../coordinator/src/adapters/tool-process.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { until } from "../support/until.ts";

/** Reads nothing, and does not end by itself. */
const stubborn = ["-e", "process.on('SIGTERM', () => {}); setInterval(() => {}, 1_000); console.log('{}');"];

async function started(test: TestContext) {
  const told: string[] = [];
  const events = {
    line: (text: string): void => void told.push(text),
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

test("a server that ends only by force is not told of as one that remains", { timeout: 30_000 }, async (t) => {
  const { server, told } = await started(t);
  await server.close();
  assert.equal(told.filter((line) => line.startsWith("remains")).length, 0);
  assert.ok(told.at(-1)?.startsWith("ended: "), told.join());
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
