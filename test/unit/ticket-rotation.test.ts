import assert from "node:assert/strict";
import { test } from "node:test";
import type { ModelVersion } from "@switchyard/protocol";
import { type HeldTicket, TicketRotation } from "../../worker/src/runner/ticket-rotation.ts";

const open = (): boolean => false;

/** Tickets `a1` and `a2` are of queue `a`. */
function rotationOf(...ticketIds: string[]): TicketRotation {
  const rotation = new TicketRotation();
  for (const ticketId of ticketIds) rotation.add(ticketId, { tag: ticketId.slice(0, 1) } as ModelVersion);
  return rotation;
}

function turn(rotation: TicketRotation, nowMs = 0): HeldTicket {
  const ticket = rotation.next(nowMs, open);
  assert.ok(ticket);
  return ticket;
}

test("tickets with work take turns", () => {
  const rotation = rotationOf("a1", "b1", "c1");
  const turns = Array.from({ length: 5 }, () => turn(rotation).ticketId);
  assert.deepEqual(turns, ["a1", "b1", "c1", "a1", "b1"]);
});

test("a ticket that lingers does not look until its linger is over, then once more to retire", () => {
  const rotation = rotationOf("a1");
  rotation.linger(turn(rotation), 20);
  assert.equal(rotation.next(19, open), undefined);
  assert.equal(rotation.nextEndMs(open), 20);
  assert.equal(turn(rotation, 20).mode, "closing");
});

test("a ticket whose linger is over waits for its turn like the others", () => {
  const rotation = rotationOf("a1", "b1");
  rotation.linger(turn(rotation), 20);
  assert.equal(turn(rotation, 20).ticketId, "b1");
  assert.deepEqual([turn(rotation, 20).ticketId, turn(rotation, 20).ticketId], ["a1", "b1"]);
});

test("a wake-up makes every ticket of that queue look again, and no other", () => {
  const rotation = rotationOf("a1", "b1", "a2");
  for (let at = 0; at < 3; at++) rotation.linger(turn(rotation), 20);
  rotation.wake("a");
  const woken = [turn(rotation), turn(rotation)];
  assert.deepEqual(
    woken.map(({ ticketId, mode }) => [ticketId, mode]),
    [
      ["a1", "active"],
      ["a2", "active"],
    ],
  );
});

test("a wake-up that overtakes the answer of an empty queue is not lost", () => {
  const rotation = rotationOf("a1");
  const ticket = turn(rotation);
  rotation.wake("a");
  rotation.linger(ticket, 20);
  assert.equal(turn(rotation), ticket, "it looks again at once");
  rotation.linger(ticket, 20);
  assert.equal(rotation.next(0, open), undefined, "an older wake-up counts once");
});

test("a closed queue's tickets keep their place, and their lingers wake nobody", () => {
  const rotation = rotationOf("a1", "b1");
  const closed = (tag: string): boolean => tag === "a";
  assert.equal(rotation.next(0, closed)?.ticketId, "b1");
  assert.equal(rotation.next(0, open)?.ticketId, "a1");
  rotation.pause(rotation.all().find(({ ticketId }) => ticketId === "a1") as HeldTicket, 5);
  assert.equal(rotation.nextEndMs(closed), undefined);
  assert.equal(rotation.nextEndMs(open), 5);
});

test("a ticket that has ended is held no more", () => {
  const rotation = rotationOf("a1", "b1");
  rotation.end("a1");
  assert.deepEqual(
    rotation.all().map(({ ticketId }) => ticketId),
    ["b1"],
  );
  assert.equal(rotation.size, 1);
});
