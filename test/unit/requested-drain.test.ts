/** A drain that is asked for, and lifted, while the store fails in the middle of it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { RequestedDrain } from "../../worker/src/presence/requested-drain.ts";

function rig() {
  const held = new Set(["t1", "t2", "t3"]);
  const events: string[] = [];
  const state = { asked: false, fails: "" };
  const step = async (name: string): Promise<void> => {
    if (state.fails === name) throw new Error(`the store failed at ${name}`);
    events.push(name);
  };
  const stop = new AbortController();
  const drain = new RequestedDrain({
    isAsked: async () => state.asked,
    stop: stop.signal,
    rest: () => events.push("rest"),
    resume: () => events.push("resume"),
    held: () => [...held],
    release: async (ticketId) => {
      await step(ticketId);
      held.delete(ticketId);
    },
    subscribe: () => step("subscribe"),
    onChange: () => events.push("told"),
  });
  const told = () => events.splice(0);
  return { drain, held, state, stop, told };
}

test("tickets that a failing store kept are released by the next look", async () => {
  const { drain, held, state, told } = rig();
  state.asked = true;
  state.fails = "t2";
  await assert.rejects(drain.follow(), /failed at t2/);
  assert.deepEqual([drain.rests(), told()], [true, ["rest", "told", "t1"]]);
  state.fails = "";
  await drain.follow();
  assert.deepEqual([told(), held.size], [["t2", "t3"], 0]);
  held.add("late"); // it came while the host was told to rest
  await drain.follow();
  assert.deepEqual(told(), ["late"]);
});

test("a host whose subscription failed when its drain was lifted subscribes with the next look, and once", async () => {
  const { drain, state, told } = rig();
  state.asked = true;
  await drain.begin();
  state.asked = false;
  state.fails = "subscribe";
  for (let look = 0; look < 2; look++) await assert.rejects(drain.follow(), /failed at subscribe/);
  assert.deepEqual([drain.rests(), told()], [false, ["rest", "resume", "told"]]);
  state.fails = "";
  for (let look = 0; look < 2; look++) await drain.follow();
  assert.deepEqual(told(), ["subscribe", "told"]);
});

test("a host that nobody has asked for anything does nothing, nor does one that ends", async () => {
  const { drain, state, stop, told } = rig();
  await drain.follow();
  state.asked = true;
  stop.abort();
  await drain.follow();
  assert.deepEqual([drain.rests(), told()], [false, []]);
});
