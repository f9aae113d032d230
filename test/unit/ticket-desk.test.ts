/** What becomes of a ticket at a host that may or may not have its model. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { ModelVersion } from "@switchyard/protocol";
import type { Redis } from "ioredis";
import type { Clock } from "../../worker/src/clock.ts";
import type { HeldModels } from "../../worker/src/models/held-models.ts";
import type { KnownModels } from "../../worker/src/models/known-models.ts";
import type { RunnerHandle } from "../../worker/src/runner/runner-handle.ts";
import { TicketDesk } from "../../worker/src/ticket-desk.ts";

const tag = "aaaaaaaaaa";
const ticketId = `${tag}-t1`;

interface Wishes {
  fits?: boolean;
  config?: ModelVersion["config"];
  /** Its model is not here, and would not load a moment ago. */
  backsOff?: boolean;
  /** That was for want of room, which comes as soon as a run ends. */
  waitsForRoom?: boolean;
  rests?: boolean;
  end?: "retired" | "release" | "lost";
  /** Until then the runner serves. */
  served?: Promise<void>;
  /** The queue for which the device is at something else. */
  occupied?: string;
}

function rig(wishes: Wishes) {
  const { rests = false, fits = true, config = {}, backsOff = false, waitsForRoom = false, end = "retired", served, occupied } = wishes;
  const events: string[] = [];
  const version = { model: "digits", version: 1, tag, config } as ModelVersion;
  const evalsha = async (_sha: string, _keys: number, _base: string, ...args: unknown[]): Promise<unknown> => {
    if (args.length === 2) return "held"; // take
    if (args[2] === "occupied") {
      events.push("take, occupied");
      return "held";
    }
    events.push(`release ${args.slice(2).join(" ")}`);
    return [];
  };
  const desk = new TicketDesk({
    redis: { evalsha, zrange: async () => [], time: async () => ["1", "0"] } as unknown as Redis,
    clock: { sleep: () => new Promise<void>(() => {}) } as unknown as Clock,
    incarnation: "one",
    known: { byTag: () => version } as unknown as KnownModels,
    held: { holds: () => !backsOff, isBackingOff: () => backsOff, waitsForRoom: () => waitsForRoom } as unknown as HeldModels,
    runner: {
      serve: async (_ticketId: string, _version: ModelVersion, unready: string) => {
        events.push(`serve or ${unready}`);
        await served;
        return end;
      },
    } as unknown as RunnerHandle,
    stop: new AbortController().signal,
    rests: () => rests,
    isOccupied: (one) => one === occupied,
    fits: () => fits,
    offer: async () => {},
    subscribe: async (one) => {
      events.push(`subscribe ${one}`);
    },
    tellHeld: async () => {},
    onBarred: () => {},
    log: () => {},
  });
  return { desk, events };
}

test("a host that holds a model which few may hold takes its tickets directly from the first one on", async () => {
  const few = rig({ config: { max_replicas: 1 } });
  await few.desk.onTicket(tag, ticketId, false);
  assert.deepEqual(few.events, [`subscribe ${tag}`, "serve or leave"]);
  const many = rig({});
  await many.desk.onTicket(tag, ticketId, false);
  assert.deepEqual(many.events, ["serve or leave"]);
});

test("a second ticket of a queue that this host serves is set aside for others; one of another queue is not", async () => {
  const over = Promise.withResolvers<void>();
  const { desk, events } = rig({ served: over.promise });
  const first = desk.onTicket(tag, ticketId, false);
  await desk.onTicket(tag, `${tag}-t2`, false);
  const other = desk.onTicket("bbbbbbbbbb", "bbbbbbbbbb-t1", false);
  over.resolve();
  await Promise.all([first, other]);
  await desk.onTicket(tag, `${tag}-t3`, false);
  assert.deepEqual(events.toSorted(), [`release ${tag}-t2 0 aside`, "serve or leave", "serve or leave", "serve or leave"]);
});

test("a ticket that is taken while the device is at another queue's run is told to be so", async () => {
  const { desk, events } = rig({ occupied: tag });
  await desk.onTicket(tag, ticketId, false);
  await desk.onTicket("bbbbbbbbbb", "bbbbbbbbbb-t1", false);
  assert.deepEqual(events, ["take, occupied", "serve or leave", "serve or leave"]);
});

test("a ticket whose model was here and is gone when the runner looks is offered to all hosts again", async () => {
  const { desk, events } = rig({ end: "release" });
  await desk.onTicket(tag, ticketId, false);
  assert.deepEqual(events, ["serve or leave", `release ${ticketId} 1 unbegun`]);
});

test("of a ticket whose runner was lost nobody says that nothing was begun under it", async () => {
  const { desk, events } = rig({ end: "lost" });
  await desk.onTicket(tag, ticketId, false);
  assert.deepEqual(events, ["serve or leave", `release ${ticketId} 1`]);
});

test("jobs whose model no host can load are told so by whoever has their ticket", async () => {
  const { desk, events } = rig({ backsOff: true });
  await desk.onTicket(tag, ticketId, false);
  assert.deepEqual(events, ["serve or tell"]);
});

test("jobs whose model finds no room here are left while a run that ends may make some, whoever else there is", async () => {
  const { desk, events } = rig({ backsOff: true, waitsForRoom: true });
  await desk.onTicket(tag, ticketId, false);
  assert.deepEqual(events, [`release ${ticketId} 0 aside`]);
});

test("a ticket that is set aside is given up without another that nobody would be offered", async () => {
  const { desk, events } = rig({ fits: false });
  await desk.onTicket(tag, ticketId, false);
  assert.deepEqual(events, [`release ${ticketId} 0 aside`]);
});

test("a host that was asked to take no jobs gives a ticket up that reaches it all the same", async () => {
  const { desk, events } = rig({ rests: true });
  await desk.onTicket(tag, ticketId, false);
  assert.deepEqual(events, [`release ${ticketId} 1`]);
});
