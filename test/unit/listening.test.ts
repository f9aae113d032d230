import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer, get, type IncomingMessage, type ServerResponse } from "node:http";
import { type AddressInfo, createServer as createNetServer } from "node:net";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { listenOn, type Place, WideAddress } from "../../coordinator/src/doors/listening.ts";

const any: Place = { host: "127.0.0.1", port: 0 };

async function listening(
  t: TestContext,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<{ address: WideAddress; close: () => Promise<void>; place: Place; accepted: () => number[] }> {
  const turns = new Map<number, number>();
  let turn = 0;
  const http = createServer(answer).on("connection", () => turns.set(turn, (turns.get(turn) ?? 0) + 1));
  const count = (): void => {
    turn++;
    next = setImmediate(count).unref();
  };
  let next = setImmediate(count).unref();
  const address = new WideAddress(http);
  const place = await address.listen(any, (where) => listenOn(http, where));
  const close = async (): Promise<void> => {
    const closed = once(http, "close");
    http.close();
    await Promise.all([address.close(), closed]);
  };
  t.after(async () => {
    clearImmediate(next);
    http.closeAllConnections();
    if (http.listening) await close();
  });
  return { address, close, place, accepted: () => [...turns.values()] };
}

const onLinux = { skip: process.platform !== "linux" && "elsewhere an address has one socket" };

test("clients that come together are accepted several at a time", onLinux, async (t) => {
  const { accepted, place } = await listening(t, (_request, response) => response.end("here"));
  const clients = 128;
  const connect = `
    let connected = 0;
    for (let client = 0; client < ${clients}; client++)
      require("node:net").connect(${place.port}, "127.0.0.1", () => ++connected === ${clients} && process.exit());`;
  // this process accepts none meanwhile
  assert.equal(spawnSync(process.execPath, ["-e", connect], { timeout: 60_000 }).status, 0);
  const count = (): number => accepted().reduce((sum, one) => sum + one, 0);
  for (const late = performance.now() + 20_000; count() < clients; await sleep(5)) assert.ok(performance.now() < late, `${count()}`);
  // dealt out by chance: the fullest of the sixteen has 8 in the mean, and 16 hardly ever
  assert.ok(accepted().length <= clients / 4, `in ${accepted().length} turns`);
});

test("all who came are answered before the address has closed, and nobody comes any more", async (t) => {
  const waiting: ServerResponse[] = [];
  const { close, place } = await listening(t, (_request, response) => void waiting.push(response));
  const url = `http://127.0.0.1:${place.port}/`;
  const clients = 40;
  const asked = `
    const { get } = require("node:http");
    let answers = 0, began = 0;
    for (let client = 0; client < ${clients}; client++)
      get("${url}", { agent: false, headers: { connection: "close" } }, (answer) => answer.resume().on("end", () => answers++))
        .on("error", (error) => console.log(String(error)));
    process.on("exit", () => console.log(answers));`;
  const child = spawn(process.execPath, ["-e", asked], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  let said = "";
  child.stdout.on("data", (text) => {
    said += text;
  });
  for (const late = performance.now() + 20_000; waiting.length < clients; await sleep(5)) assert.ok(performance.now() < late);
  let hasClosed = false;
  const closed = close().then(() => {
    hasClosed = true;
  });
  await sleep(100);
  const refused = await once(get(url, { agent: false }), "error").then(([error]) => (error as NodeJS.ErrnoException).code);
  assert.equal(refused, "ECONNREFUSED");
  for (const [at, response] of waiting.entries()) {
    assert.equal(hasClosed, false, `${at} were answered`);
    response.end("here");
  }
  const [[status]] = await Promise.all([once(child, "close"), closed]);
  assert.deepEqual([status, said.trim()], [0, String(clients)]);
});

test("an address that another server has is refused, be it one that may be shared", async (t) => {
  const { place } = await listening(t, (_request, response) => response.end());
  const http = createServer();
  const other = new WideAddress(http);
  const first = (where: Place): Promise<Place> => listenOn(http, where);
  await assert.rejects(other.listen(place, first), /127\.0\.0\.1:\d+ is in use by another process; choose another address/);

  const taken = createNetServer().listen(0, "127.0.0.1");
  t.after(() => taken.close());
  await once(taken, "listening");
  const { port } = taken.address() as AddressInfo;
  await assert.rejects(other.listen({ host: "127.0.0.1", port }, first), /is in use by another process/);
  await other.close();
});

test("coordinators that share an address all listen there", onLinux, async (t) => {
  const first = await listening(t, (_request, response) => response.end("first"));
  const http = createServer((_request, response) => response.end("second"));
  const second = new WideAddress(http);
  await second.listen({ ...first.place, isShared: true }, (where) => listenOn(http, where));
  const answers = new Set<string>();
  for (let asked = 0; asked < 200 && answers.size < 2; asked++) {
    const [answer] = (await once(get(`http://127.0.0.1:${first.place.port}/`, { agent: false }), "response")) as [IncomingMessage];
    answers.add((await answer.setEncoding("utf8").toArray()).join(""));
  }
  assert.deepEqual([...answers].sort(), ["first", "second"]);
  http.close();
  await second.close();
});
