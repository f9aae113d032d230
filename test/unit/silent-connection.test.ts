import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import type { Redis } from "ioredis";
import { endWhenSilent } from "../../worker/src/redis-connection.ts";

let step: () => void;
const clock = {
  after: (_ms: number, run: () => void) => {
    step = run;
    return () => {
      step = () => {};
    };
  },
};

let connection: { status: string; stream: { bytesRead: number; writableLength: number; destroy(): void }; ping(): Promise<void> };
let [destroyed, pings] = [0, 0];
let pong: () => void;

function watch(limitMs: number): () => void {
  return endWhenSilent(connection as unknown as Redis, clock, { limitMs, pingEveryMs: 5_000 });
}

/** Seconds of the watch. */
function seconds(count: number): void {
  for (let at = 0; at < count; at++) step();
}

describe("a silent connection", () => {
  beforeEach(() => {
    [destroyed, pings] = [0, 0];
    connection = {
      status: "ready",
      stream: { bytesRead: 0, writableLength: 0, destroy: () => (destroyed += 1) },
      ping: () => {
        pings += 1;
        return new Promise((resolve) => {
          pong = resolve;
        });
      },
    };
  });

  test("a connection that owes a reply and is still for the limit is ended", () => {
    watch(3_000);
    seconds(7);
    assert.deepEqual([pings, destroyed], [1, 0]);
    seconds(1);
    assert.equal(destroyed, 1);
  });

  test("a connection that answers its pings lives on", async () => {
    watch(3_000);
    for (let round = 0; round < 5; round++) {
      seconds(5);
      pong();
      await Promise.resolve();
      await Promise.resolve();
    }
    assert.deepEqual([pings, destroyed], [5, 0]);
  });

  test("a large value on its way, in either direction, is no silence", () => {
    watch(3_000);
    seconds(5);
    for (let at = 0; at < 20; at++) {
      if (at < 10) connection.stream.bytesRead += 1;
      else connection.stream.writableLength += 1;
      seconds(1);
    }
    assert.equal(destroyed, 0);
    seconds(8); // what is left to send may be under way as a whole, and then looks like silence
    assert.equal(destroyed, 0);
    connection.stream.writableLength = 0;
    seconds(4);
    assert.equal(destroyed, 1);
  });

  test("a handshake that hangs is ended, while a connection that is away is left to reconnect", () => {
    connection.status = "reconnecting";
    watch(3_000);
    seconds(20);
    assert.deepEqual([pings, destroyed], [0, 0]);
    connection.status = "connect";
    seconds(3); // two are enough for a handshake
    assert.deepEqual([pings, destroyed], [0, 1]);
  });

  test("a watch that was stopped ends nothing", () => {
    const stop = watch(3_000);
    seconds(6);
    stop();
    seconds(20);
    assert.equal(destroyed, 0);
  });
});
