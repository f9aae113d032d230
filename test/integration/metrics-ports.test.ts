/** The metrics ports of coordinators and workers take no keys: who may read them by which name. */

import assert from "node:assert/strict";
import { request } from "node:http";
import { type TestContext, test } from "node:test";
import { createMetricsServer } from "../../coordinator/src/doors/metrics-server.ts";
import { freePort } from "../../coordinator/src/embedded/redis-server.ts";
import { openHealthServer } from "../../worker/src/health-server.ts";

const figures = "figures 1\n";

const servers: Record<string, (t: TestContext, host: string) => Promise<number>> = {
  coordinator: async (t, host) => {
    const server = createMetricsServer({ contentType: "text/plain", text: async () => figures }, () => undefined);
    t.after(() => server.close());
    return (await server.listen({ host, port: 0 })).port;
  },
  worker: async (t, host) => {
    const metrics = { text: async () => figures, contentType: () => "text/plain" };
    const { port, serve, server } = await openHealthServer({ host, port: 0 });
    t.after(() => server.close());
    serve({ metrics, unready: () => undefined, started: () => true });
    return port;
  },
};

function ask(port: number, path: string, host: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", port, path, headers: { host, connection: "close" } }, async (answer) => {
      let text = "";
      for await (const part of answer) text += part;
      resolve({ status: answer.statusCode ?? 0, text });
    });
    sent.on("error", reject).end();
  });
}

for (const [name, start] of Object.entries(servers)) {
  test(`a ${name} tells its figures to nobody who was led to its loopback address by a foreign name`, async (t) => {
    const port = await start(t, "127.0.0.1");
    for (const host of ["evil.example", `evil.example:${port}`, "127.0.0.1.evil.example", "evil.example."]) {
      const { status, text } = await ask(port, "/metrics", host);
      assert.equal(status, 403, host);
      assert.doesNotMatch(text, /figures/);
    }
    for (const host of [`127.0.0.1:${port}`, `localhost:${port}`, "[::1]", "coordinator"]) {
      assert.deepEqual(await ask(port, "/metrics", host), { status: 200, text: figures }, host);
    }
    assert.equal((await ask(port, "/livez", "probe.example")).status, 200, "a probe tells nothing");
  });

  test(`a ${name} that is asked for what is no address says that it is not there, and goes on`, async (t) => {
    const port = await start(t, "127.0.0.1");
    for (const path of ["//", "///", "//[", "/\\\\[", "http://[", "/__proto__", "/constructor"]) {
      assert.match(String((await ask(port, path, "localhost")).status), /^40[04]$/, path);
    }
    assert.equal((await ask(port, "/livez", "localhost")).status, 200);
  });

  test(`a ${name} that listens beyond loopback is read by any name`, async (t) => {
    const port = await start(t, "0.0.0.0");
    assert.deepEqual(await ask(port, "/metrics", "switchyard.cluster.example"), { status: 200, text: figures });
  });
}

test("workers of one machine that are started by hand get ports beside each other, and each the same again", async (t) => {
  const taken: { close: () => unknown }[] = [];
  t.after(() => taken.forEach((server) => void server.close()));
  const open = async (port: number) => {
    const opened = await openHealthServer({ host: "127.0.0.1", port }, { inTurn: 8 });
    taken.push(opened.server);
    return opened;
  };
  const { port: first, server } = await open(await freePort());
  const second = await open(first);
  assert.ok(second.port > first && second.port <= first + 7, `${second.port} beside ${first}`);
  await new Promise((resolve) => server.close(resolve));
  assert.equal((await open(first)).port, first);
});

test("a worker that has not begun lives and is not ready", async (t) => {
  const { port, server } = await openHealthServer({ host: "127.0.0.1", port: 0 });
  t.after(() => server.close());
  const statuses = await Promise.all(
    ["/livez", "/readyz", "/startupz", "/metrics", "/none"].map(async (path) => (await ask(port, path, "a")).status),
  );
  assert.deepEqual(statuses, [200, 503, 503, 503, 404]);
});

test("a coordinator says on its metrics port what it lacks itself, where others answer at its public address, too", async (t) => {
  let lacks: string | undefined = "its address is not open yet";
  const server = createMetricsServer({ contentType: "text/plain", text: async () => figures }, () => lacks);
  t.after(() => server.close());
  const { port } = await server.listen({ host: "127.0.0.1", port: 0 });
  const before = await ask(port, "/readyz", "localhost");
  assert.deepEqual([before.status, JSON.parse(before.text)], [503, { ready: false, detail: "its address is not open yet" }]);
  lacks = undefined;
  const now = await ask(port, "/readyz", "localhost");
  assert.deepEqual([now.status, JSON.parse(now.text)], [200, { ready: true }]);
});
