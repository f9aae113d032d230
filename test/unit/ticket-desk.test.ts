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

function rig({ fits = true, config = {} }: { fits?: boolean; config?: ModelVersion["config"] }) {
  const events: string[] = [];
  const version = { model: "digits", version: 1, tag, config } as ModelVersion;
  const evalsha = async (_sha: string, _keys: number, _base: string, ...args: unknown[]): Promise<unknown> => {
    if (args.length === 2) return "held"; // take
    events.push(`release ${args.slice(2).join(" ")}`);
    return [];
  };
  const desk = new TicketDesk({
    redis: { evalsha } as unknown as Redis,
    clock: { sleep: () => new Promise<void>(() => {}) } as unknown as Clock,
    incarnation: "one",
    known: { byTag: () => version } as unknown as KnownModels,
    held: { holds: () => true } as unknown as HeldModels,
    runner: { serve: async () => events.push("serve") } as unknown as RunnerHandle,
    stop: new AbortController().signal,
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
  assert.deepEqual(few.events, [`subscribe ${tag}`, "serve"]);
  const many = rig({});
  await many.desk.onTicket(tag, ticketId, false);
  assert.deepEqual(many.events, ["serve"]);
});

test("a ticket that is set aside is given up without another that nobody would be offered", async () => {
  const { desk, events } = rig({ fits: false });
  await desk.onTicket(tag, ticketId, false);
  assert.deepEqual(events, [`release ${ticketId} 0 aside`]);
});
