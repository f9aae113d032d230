/** What a host makes of the orders that it reads with its beats. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { ModelVersion } from "@switchyard/protocol";
import type { Redis } from "ioredis";
import type { Clock } from "../../worker/src/clock.ts";
import { HeldModels } from "../../worker/src/models/held-models.ts";
import type { KnownModels } from "../../worker/src/models/known-models.ts";
import { PlacementOrders } from "../../worker/src/models/placement-orders.ts";

const tag = "aaaaaaaaaa";
const version = { model: "digits", version: 1, tag } as ModelVersion;
const model = { version, maxItems: 8, reason: "", sizeBytes: 1, loadMs: 1, config: "" };

function rig() {
  const events: string[] = [];
  const stand = { orders: {} as Record<string, string[]>, serves: false };
  const silence = Promise.withResolvers<void>();
  const clock = { monotonicMs: () => 0, sleep: () => silence.promise } as unknown as Clock;
  const held = new HeldModels({ clock, load: (one) => events.push(`load ${one.tag}`) });
  const orders = new PlacementOrders({
    redis: { hget: async () => JSON.stringify({ load: [], drop: [], keep: [], ...stand.orders }) } as unknown as Redis,
    incarnation: "one",
    known: { byTag: () => version } as unknown as KnownModels,
    held,
    runner: { keep: () => {}, unload: () => events.push("unload") },
    stop: new AbortController().signal,
    fits: () => true,
    serves: () => stand.serves,
    subscribe: async (one) => {
      events.push(`subscribe ${one}`);
    },
    unsubscribe: (one) => events.push(`unsubscribe ${one}`),
    log: () => {},
  });
  return { events, held, orders, silence, stand };
}

test("a busy model that is to go takes no new tickets, and goes when its last one is over", async () => {
  const { events, held, orders, stand } = rig();
  held.loaded(tag, model);
  stand.serves = true;
  stand.orders = { drop: [tag] };
  await orders.follow();
  assert.deepEqual([events, orders.isDropping(tag)], [[`unsubscribe ${tag}`], true]);
  stand.serves = false;
  await orders.follow();
  assert.equal(events.at(-1), "unload");
  stand.orders = {};
  await orders.follow();
  assert.equal(orders.isDropping(tag), false);
});

test("a model that was ordered takes tickets of its own, also when its load took longer than anybody waits for it", async () => {
  const { events, held, orders, silence, stand } = rig();
  stand.orders = { load: [tag] };
  await orders.follow();
  silence.resolve(); // nobody waits any more
  stand.orders = {};
  await orders.follow();
  assert.deepEqual(events, [`load ${tag}`]);
  held.loaded(tag, model);
  await orders.follow();
  assert.deepEqual(events, [`load ${tag}`, `subscribe ${tag}`]);
});

test("what is to be kept takes tickets of its own once it is held", async () => {
  const { events, held, orders, stand } = rig();
  stand.orders = { keep: [tag] };
  await orders.follow();
  assert.deepEqual(events, []);
  held.loaded(tag, model);
  await orders.follow();
  assert.deepEqual(events, [`subscribe ${tag}`]);
});
