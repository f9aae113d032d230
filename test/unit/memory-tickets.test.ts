/** Tickets over a Map: the rules that test/contract/ticket-races shows of the scripts. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryTickets } from "../../coordinator/src/adapters/memory-tickets.ts";

test("of hosts that linger one is woken that is not busy under another ticket of the queue", () => {
  const woken: string[] = [];
  const tickets = new MemoryTickets("tag", (incarnation) => woken.push(incarnation));
  tickets.set("a", "busy", "one", 2_000);
  tickets.set("b", "lingering", "one", 2_000);
  tickets.set("c", "lingering", "two", 2_000);
  const need = { waiting: 1, waitingItems: 1, matchingHosts: 2, batchItems: 1, repair: false };
  assert.deepEqual(tickets.issue(1_000, need), [], "one host is busy, and the other is woken");
  assert.deepEqual(woken, ["two"]);
  assert.deepEqual(tickets.issue(2_100, need), ["tag-t1"], "what is over counts no more");
});
