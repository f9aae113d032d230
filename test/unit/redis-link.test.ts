/** The watch over one server's connection: what is taken for a frozen server, and what is not. */

import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { Redis } from "ioredis";
import { RedisLink } from "../../coordinator/src/adapters/redis-link.ts";
import { systemClock } from "../../coordinator/src/clock.ts";

/** Connected, and asked a second time, of which the answer is not there. */
async function askedLink() {
  const asked: PromiseWithResolvers<[string, string]>[] = [];
  const redis = Object.assign(new EventEmitter(), {
    status: "ready",
    isDestroyed: false,
    stream: {
      destroy() {
        redis.isDestroyed = true;
      },
    },
    connect: async () => {},
    disconnect: () => {},
    info: async () => "used_memory:1\nmaxmemory:2\n",
    time() {
      const answer = Promise.withResolvers<[string, string]>();
      if (asked.push(answer) === 1) answer.resolve(["1", "0"]);
      return answer.promise;
    },
  });
  const due: (() => void)[] = [];
  const moments: (() => void)[] = [];
  const after = (_ms: number, run: () => void) => {
    due.push(run);
    return () => void due.splice(due.indexOf(run), 1);
  };
  const atMoment = (_ms: number, run: () => void) => {
    moments.push(run);
    return () => {};
  };
  const link = new RedisLink(redis as unknown as Redis, { clock: { ...systemClock, after, atMoment }, onMark() {}, isReplaceable: false });
  await link.connect();
  moments.shift()!();
  assert.deepEqual([link.answering, asked.length, due.length], [true, 2, 1]);
  return { link, redis, isOver: due[0]!, answer: () => asked[1]!.resolve(["2", "0"]) };
}

test("a server that does not answer in time is frozen, and its connection is ended", async () => {
  const { isOver, link, redis } = await askedLink();
  isOver();
  await turn();
  assert.deepEqual([link.answering, redis.isDestroyed], [false, true]);
  link.close();
});

test("a process that stood still takes no server for frozen whose answer has come meanwhile", async () => {
  const { answer, isOver, link, redis } = await askedLink();
  isOver(); // timers come first
  answer(); // what came meanwhile is read in the same turn
  await turn();
  assert.deepEqual([link.answering, redis.isDestroyed], [true, false]);
  link.close();
});
