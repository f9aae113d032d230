/** The event bus over a connection that the test speaks for. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { channels, type RedisCommand, type RedisReply } from "@switchyard/protocol/redis";
import type { RedisSubscription } from "../../coordinator/src/adapters/redis-connection.ts";
import { RedisEvents } from "../../coordinator/src/adapters/redis-events.ts";
import type { EventListener } from "../../coordinator/src/ports/event-bus.ts";

type Hearing = Parameters<RedisSubscription["keep"]>[1];

function rig() {
  let nowMs = 0;
  const state = { sent: [] as RedisCommand[], opened: 0, closed: 0, isAway: false, hearing: undefined as Hearing | undefined };
  const warned: string[] = [];
  const events = new RedisEvents({
    redis: {
      async sendAll(commands: readonly RedisCommand[]): Promise<RedisReply[]> {
        if (state.isAway) throw new Error("the store does not answer");
        state.sent.push(...commands);
        return [];
      },
    },
    subscription: () => {
      state.opened++;
      return {
        keep: (_channel, hearing) => {
          state.hearing = hearing;
        },
        close: () => void state.closed++,
      };
    },
    me: "one",
    clock: { monotonicMs: () => nowMs },
    log: { warn: (event) => void warned.push(event) },
  });
  const heard: string[] = [];
  const listener: EventListener = {
    event: (event) => void heard.push(event.kind === "resource_updated" ? event.uri : event.kind),
    missed: () => void heard.push("missed"),
  };
  const come = (message: unknown) => state.hearing?.message(Buffer.from(typeof message === "string" ? message : JSON.stringify(message)));
  const take = () => heard.splice(0);
  const pass = (ms: number) => {
    nowMs += ms;
  };
  return { come, events, listener, pass, state, take, warned };
}

test("an event is told here at once and published for the others; no connection is opened before somebody listens", () => {
  const { events, listener, state, take } = rig();
  events.publish({ kind: "tools_list_changed" });
  assert.equal(state.opened, 0);
  const leave = events.listen(listener);
  events.listen({ event() {}, missed() {} });
  assert.equal(state.opened, 1);
  events.publish({ kind: "resource_updated", uri: "switchyard://models" });
  assert.deepEqual(take(), ["switchyard://models"]);
  leave();
  events.publish({ kind: "tools_list_changed" });
  assert.deepEqual(take(), []);
  const published = state.sent.map(([command, channel, text]) => [command, channel, JSON.parse(String(text))]);
  const tools = ["publish", channels.changes, { from: "one", event: { kind: "tools_list_changed" } }];
  const models = ["publish", channels.changes, { from: "one", event: { kind: "resource_updated", uri: "switchyard://models" } }];
  assert.deepEqual(published, [tools, models, tools]);
});

test("what others publish is heard, what comes back of one's own is not, and what is no event is nothing", () => {
  const { come, events, listener, take } = rig();
  events.listen(listener);
  come({ from: "two", event: { kind: "prompts_list_changed", more: 1 } });
  come({ from: "two", event: { kind: "resource_updated", uri: "switchyard://hosts" } });
  assert.deepEqual(take(), ["prompts_list_changed", "switchyard://hosts"]);
  come({ from: "one", event: { kind: "prompts_list_changed" } });
  for (const nothing of ["", "{", "null", "[]", "7", {}, { from: "two" }, { from: "two", event: { kind: "other" } }]) come(nothing);
  for (const event of [{ kind: "resource_updated" }, { kind: "resource_updated", uri: 1 }, null, "tools_list_changed"])
    come({ from: "two", event });
  assert.deepEqual(take(), []);
});

test("whoever was away for a while is told that something may have been missed, and not at the start", () => {
  const { events, listener, state, take } = rig();
  events.listen(listener);
  state.hearing?.hears();
  assert.deepEqual(take(), []);
  state.hearing?.hears();
  assert.deepEqual(take(), ["missed"]);
  const late = rig();
  late.events.listen(late.listener);
  late.pass(5_000);
  late.state.hearing?.hears();
  assert.deepEqual(late.take(), ["missed"]);
});

test("a store that is away, or refuses the channel, breaks nothing", async () => {
  const { events, listener, state, take, warned } = rig();
  events.listen(listener);
  state.isAway = true;
  events.publish({ kind: "tools_list_changed" });
  await new Promise(setImmediate);
  assert.deepEqual(take(), ["tools_list_changed"]);
  state.hearing?.refused("NOPERM");
  assert.deepEqual(warned, ["changes_not_heard"]);
  events.close();
  assert.equal(state.closed, 1);
  events.publish({ kind: "tools_list_changed" });
  events.listen(listener);
  assert.equal(state.opened, 1);
});
