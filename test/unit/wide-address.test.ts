import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer, get, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, createServer as createNetServer } from "node:net";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { listenOn, type Place, type Where } from "../../coordinator/src/doors/listening.ts";
import { WideAddress } from "../../coordinator/src/doors/wide-address.ts";

const any: Place = { host: "127.0.0.1", port: 0 };

async function listening(
  t: TestContext,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  where: Where = any,
): Promise<{ close: () => Promise<void>; http: Server; place: Place; accepted: () => number[] }> {
  const turns = new Map<number, number>();
  let turn = 0;
  const http = createServer(answer).on("connection", () => turns.set(turn, (turns.get(turn) ?? 0) + 1));
  const count = (): void => {
    turn++;
    next = setImmediate(count).unref();
  };
  let next = setImmediate(count).unref();
  const address = new WideAddress(http);
  const place = await address.listen(where, (one) => listenOn(http, one));
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
  return { close, http, place, accepted: () => [...turns.values()] };
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

test("all who came are answered before the address has closed, and nobody comes any more", onLinux, async (t) => {
  const waiting: ServerResponse[] = [];
  const { close, http, place } = await listening(t, (_request, response) => void waiting.push(response));
  const url = `http://127.0.0.1:${place.port}/`;
  const clients = 64; // dealt out to sixteen sockets: that all have come by one happens never
  const asked = `
    const { get } = require("node:http");
    let answers = 0;
    for (let client = 0; client < ${clients}; client++)
      get("${url}", { agent: false }, (answer) => answer.resume().on("end", () => answers++)).on("error", (error) => console.log(String(error)));
    process.on("exit", () => console.log(answers));`;
  const child = spawn(process.execPath, ["-e", asked], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  let said = "";
  child.stdout.on("data", (text) => {
    said += text;
  });
  for (const late = performance.now() + 20_000; waiting.length < clients; await sleep(5)) assert.ok(performance.now() < late);
  // the last came by another socket than the server's own, so that the server itself has closed by then
  const last = waiting.find(({ socket }) => Reflect.get(socket!, "_server") !== http)!;
  let hasClosed = false;
  const closed = close().then(() => {
    hasClosed = true;
  });
  const [refused] = await once(get(url, { agent: false }), "error");
  assert.equal((refused as NodeJS.ErrnoException).code, "ECONNREFUSED");
  for (const response of [...waiting.filter((response) => response !== last), last]) {
    await sleep(2);
    assert.equal(hasClosed, false);
    response.setHeader("connection", "close").end("here");
  }
  const [[status]] = await Promise.all([once(child, "close"), closed]);
  assert.deepEqual([status, said.trim()], [0, String(clients)]);
});

test("an address that another server has is refused, be it one that may be shared, and free again once that has closed", async (t) => {
  const { close, place } = await listening(t, (_request, response) => response.end());
  const http = createServer();
  const other = new WideAddress(http);
  const first = (where: Place): Promise<Place> => listenOn(http, where);
  await assert.rejects(other.listen(place, first), /127\.0\.0\.1:\d+ is in use by another process; choose another address/);

  const taken = createNetServer().listen(0, "127.0.0.1");
  t.after(() => taken.close());
  await once(taken, "listening");
  const { port } = taken.address() as AddressInfo;
  await assert.rejects(other.listen({ host: "127.0.0.1", port }, first), /is in use by another process/);
  await close();
  await other.listen(place, first);
  await Promise.all([once(http.close(), "close"), other.close()]);
});

test("of two that begin at the same time one has the address", onLinux, async (t) => {
  const { close, place } = await listening(t, () => {});
  await close();
  const both = [createServer(), createServer()].map((http) => ({ http, address: new WideAddress(http) }));
  const tries = await Promise.allSettled(both.map(({ address, http }) => address.listen(place, (where) => listenOn(http, where))));
  const refusals = tries.flatMap((one) => (one.status === "rejected" ? [String(one.reason)] : []));
  assert.equal(refusals.length, 1);
  assert.match(refusals[0]!, /is in use by another process/);
  assert.deepEqual(both.map(({ http }) => http.listening).sort(), [false, true]);
  for (const { address, http } of both) {
    if (http.listening) await once(http.close(), "close");
    await address.close();
  }
});

test("any number that share an address may begin at the same time", onLinux, async (t) => {
  const { close, place } = await listening(t, () => {});
  await close();
  const all = await Promise.all(Array.from({ length: 4 }, () => listening(t, () => {}, { ...place, isShared: true })));
  assert.ok(all.every(({ http }) => http.listening));
});

test("an address that is all of a machine's, or one of them, is refused beside one that somebody has alone", onLinux, async (t) => {
  for (const [taken, wanted] of [
    ["127.0.0.1", "0.0.0.0"],
    ["0.0.0.0", "127.0.0.1"],
    ["127.0.0.1", "localhost"],
  ] as const) {
    const { close, place } = await listening(t, () => {}, { host: taken, port: 0 });
    for (const isShared of wanted === "localhost" ? [true] : [true, false])
      await assert.rejects(
        listening(t, () => {}, { host: wanted, port: place.port, isShared }),
        /is in use by another process/,
      );
    await close();
  }
  const { place } = await listening(t, () => {});
  assert.equal(
    (await listening(t, () => {}, { host: "127.0.0.2", port: place.port })).place.port,
    place.port,
    "another address is another one",
  );
});

test("a host's name has a socket for each of its addresses, as before", async (t) => {
  const http = createServer((_request, response) => response.end("here"));
  const address = new WideAddress(http);
  const heard: Where[] = [];
  const place = await address.listen({ host: "localhost", port: 0 }, (where) => {
    heard.push(where);
    return listenOn(http, where);
  });
  t.after(() => http.close());
  assert.deepEqual(heard, [{ host: "localhost", port: 0 }]);
  assert.ok(place.port > 0);
  await address.close();
});

test("coordinators that share an address all listen there, and none where another has it alone", onLinux, async (t) => {
  const shared = { ...any, isShared: true };
  const first = await listening(t, (_request, response) => response.end("first"), shared);
  const second = await listening(t, (_request, response) => response.end("second"), { ...first.place, isShared: true });
  assert.equal(second.place.port, first.place.port);
  const answers = new Set<string>();
  for (let asked = 0; asked < 200 && answers.size < 2; asked++) {
    const [answer] = (await once(get(`http://127.0.0.1:${first.place.port}/`, { agent: false }), "response")) as [IncomingMessage];
    answers.add((await answer.setEncoding("utf8").toArray()).join(""));
  }
  assert.deepEqual([...answers].sort(), ["first", "second"]);
  await assert.rejects(
    listening(t, () => {}, first.place),
    /is in use by another process/,
    "who would have it alone",
  );
  await Promise.all([first.close(), second.close()]);

  const free = await listening(t, () => {});
  await free.close();
  for (const where of [any, free.place]) {
    const alone = await listening(t, () => {}, where);
    await assert.rejects(
      listening(t, () => {}, { ...alone.place, isShared: true }),
      /is in use by another process/,
    );
  }
});
