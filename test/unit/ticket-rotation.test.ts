import assert from "node:assert/strict";
import { test } from "node:test";
import type { ModelVersion } from "@switchyard/protocol";
import { type HeldTicket, TicketRotation } from "../../worker/src/runner/ticket-rotation.ts";

const versionOf = (tag: string): ModelVersion => ({ tag, model: tag, version: 1 }) as ModelVersion;
const open = (): boolean => false;

/** Tickets `a1` and `a2` are of queue `a`. */
function rotationOf(...ticketIds: string[]): TicketRotation {
  const rotation = new TicketRotation();
  for (const ticketId of ticketIds)
    rotation.add(ticketId, { tag: ticketId.slice(0, 1), model: ticketId.slice(0, 1), version: 1 } as ModelVersion);
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

/** Serves so many turns, each of which takes the device for as long as its queue's runs do; answers the milliseconds of each queue. */
function share(rotation: TicketRotation, runMs: Record<string, number>, turns: number): Record<string, number> {
  const had: Record<string, number> = {};
  for (let at = 0; at < turns; at++) {
    const { tag } = turn(rotation).version;
    rotation.used(versionOf(tag), runMs[tag]!);
    had[tag] = (had[tag] ?? 0) + runMs[tag]!;
  }
  return had;
}

test("queues with work share the device's time, not its turns", () => {
  const had = share(rotationOf("a1", "b1"), { a: 100, b: 10 }, 1_100);
  assert.ok(Math.abs(had.a! - had.b!) <= 100, JSON.stringify(had));
});

test("a queue has no larger share because it has more tickets", () => {
  const had = share(rotationOf("a1", "b1", "b2", "b3"), { a: 10, b: 10 }, 400);
  assert.ok(Math.abs(had.a! - had.b!) <= 10, JSON.stringify(had));
});

test("a queue that was away has saved nothing up, and one that worked alone is not punished", () => {
  const rotation = rotationOf("a1", "b1");
  const away = turn(rotation);
  rotation.linger(away, 1_000_000);
  share(rotation, { a: 10, b: 10 }, 1_000);
  rotation.wake(away.version.tag);
  const had = share(rotation, { a: 10, b: 10 }, 100);
  assert.ok(Math.abs(had.a! - had.b!) <= 20, JSON.stringify(had));
});

/** Whose turns come, while every run takes 10 ms and more than that for whom it is said. */
function turns(rotation: TicketRotation, count: number, runMs: Record<string, number> = {}): string {
  return Array.from({ length: count }, () => {
    const { tag } = turn(rotation).version;
    rotation.used(versionOf(tag), runMs[tag] ?? 10);
    return tag;
  }).join("");
}

/** Queue `b` works all the time, `a` was away for long and comes back. */
function returned(runMs: Record<string, number> = {}): TicketRotation {
  const rotation = rotationOf("a1", "b1");
  const away = turn(rotation);
  rotation.used(versionOf("a"), runMs.a ?? 10);
  rotation.linger(away, 1_000_000);
  turns(rotation, 100, runMs);
  rotation.wake("a");
  return rotation;
}

test("who comes back has one run more, where runs are alike: a second job that came meanwhile does not wait for the neighbour's", () => {
  assert.equal(turns(returned(), 6), "aababa");
});

test("what is saved up is the shorter of both runs", () => {
  assert.equal(turns(returned({ a: 100 }), 13, { a: 100 }), "abbbbbbbbabbb", "no second one of 100 ms");
  assert.match(turns(returned({ a: 1 }), 24, { a: 1 }), /^a{11}ba{10}b/);
  const rotation = rotationOf("b1", "c1");
  turns(rotation, 10);
  rotation.add("a1", versionOf("a"));
  assert.match(turns(rotation, 4), /^a[bc]{2}a/, "what has never run has saved nothing up");
});

test("the longest run of those that have work counts, not the one that came last", () => {
  const rotation = returned();
  rotation.add("c1", versionOf("c"));
  turns(rotation, 1, { c: 1 });
  rotation.end("a1");
  turns(rotation, 40, { c: 1 });
  rotation.add("a2", versionOf("a"));
  assert.match(turns(rotation, 40, { c: 1 }).replaceAll("c", ""), /^aab/);
});

test("what was foreseen of a run and put right is what counts", () => {
  const rotation = returned();
  rotation.used(versionOf("b"), 1);
  rotation.corrected(versionOf("b"), 9);
  assert.equal(turns(rotation, 6), "aaabab");
  const shorter = returned({ a: 100 });
  shorter.used(versionOf("b"), 1_000);
  shorter.corrected(versionOf("b"), -990);
  assert.match(turns(shorter, 2, { a: 100 }), /^ab/);
});

test("a model's own run is not its neighbour's, be it the longest", () => {
  assert.equal(turns(returned({ a: 12 }), 3, { a: 12 }), "aab");
});

test("a model whose ticket has ended takes nothing from another that comes back", () => {
  const rotation = returned();
  rotation.add("c1", versionOf("c"));
  turns(rotation, 6);
  rotation.end("c1");
  rotation.end("a1");
  turns(rotation, 10);
  rotation.add("c2", versionOf("c"));
  rotation.end("c2");
  rotation.add("a2", versionOf("a"));
  assert.equal(turns(rotation, 3), "aab");
});

test("a batch that did not run changes nothing of it", () => {
  const rotation = returned();
  rotation.used(versionOf("b"), 0);
  assert.equal(turns(rotation, 6), "aababa");
});

test("what was forgotten is not had again, however long runs have become meanwhile", () => {
  const rotation = returned({ a: 500 });
  rotation.add("c1", versionOf("c"));
  assert.match(turns(rotation, 2, { a: 500 }), /a/);
  rotation.end("a1");
  rotation.linger(rotation.all().find(({ ticketId }) => ticketId === "c1") as HeldTicket, 1_000_000);
  turns(rotation, 60); // where `a` stands no longer matters
  rotation.end("c1");
  turns(rotation, 1, { b: 600 });
  rotation.add("a2", versionOf("a"));
  assert.equal(turns(rotation, 4, { a: 500, b: 600 }), "aaba");
});

test("what was saved up is spent once, also where the ticket ended and came again", () => {
  const rotation = returned();
  assert.equal(turns(rotation, 3), "aab");
  rotation.end("a1");
  rotation.add("a2", versionOf("a"));
  assert.equal(turns(rotation, 4), "abab", "as if it had stayed");
});

test("a queue whose tickets ended and came again is no better off than before", () => {
  const rotation = rotationOf("a1", "b1");
  rotation.used(versionOf("a"), 1_000);
  rotation.end("a1");
  rotation.add("a2", versionOf("a"));
  const first = Array.from({ length: 9 }, () => {
    const { ticketId, version } = turn(rotation);
    rotation.used(version, 100);
    return ticketId;
  });
  assert.deepEqual(new Set(first), new Set(["b1"]), "the other one catches up first");
});

test("a ticket that waits for a fuller batch does not look until then, and is then active again", () => {
  const rotation = rotationOf("a1");
  rotation.defer(turn(rotation), 30);
  assert.equal(rotation.next(29, open), undefined);
  assert.equal(rotation.nextEndMs(open), 30);
  assert.equal(turn(rotation, 30).mode, "active");
});

test("a wake-up ends the wait for a fuller batch, also one that overtakes its answer", () => {
  const rotation = rotationOf("a1");
  const ticket = turn(rotation);
  rotation.defer(ticket, 30);
  rotation.wake("a");
  assert.equal(turn(rotation), ticket);
  rotation.wake("a");
  rotation.defer(ticket, 30);
  assert.equal(turn(rotation), ticket, "it looks again at once");
  rotation.defer(ticket, 30);
  assert.equal(rotation.next(0, open), undefined, "an older wake-up counts once");
});

test("the first end of a wait counts, whatever is waited for", () => {
  const rotation = rotationOf("a1", "b1");
  rotation.linger(turn(rotation), 20);
  rotation.defer(turn(rotation), 10);
  assert.equal(rotation.nextEndMs(open), 10);
  assert.equal(
    rotation.nextEndMs((tag) => tag === "b"),
    20,
  );
});

test("a queue of jobs with a requirement of their own has no share of the device beside its model's", () => {
  const rotation = rotationOf("a1", "b1");
  rotation.add("c1", { tag: "c", model: "a", version: 1 } as ModelVersion);
  const turns = Array.from({ length: 6 }, () => {
    const { ticketId, version } = turn(rotation);
    rotation.used(version, 10);
    return ticketId;
  });
  assert.deepEqual(
    [turns.filter((one) => one === "b1").length, turns.filter((one) => one === "a1").length, turns.filter((one) => one === "c1").length],
    [3, 2, 1],
  );
});
