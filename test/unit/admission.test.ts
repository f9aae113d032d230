import assert from "node:assert/strict";
import { test } from "node:test";
import type { Ladder, RunEstimate } from "@switchyard/protocol";
import fc from "fast-check";
import { type Asked, admission, budgetMs, prediction, type QueueView } from "../../coordinator/src/scheduler/admission.ts";

const nowMs = 100_000;
const ladder: Ladder = [
  [1, 10],
  [2, 12],
  [4, 16],
  [8, 24],
];
const estimate = (changes: Partial<RunEstimate> = {}): RunEstimate => ({
  ladder,
  source: "window",
  itemMs: 3,
  typicalMs: 24,
  newestMs: nowMs,
  ...changes,
});
const view = (changes: Partial<QueueView> = {}): QueueView => ({
  ...{ capableHosts: 1, pools: [{ hosts: 1, estimate: estimate() }], busy: true, overheadMs: 2, loadMs: 0, maxItems: 8 },
  ...changes,
});
const asked = (changes: Partial<Asked> = {}): Asked => ({ items: 1, timeoutMs: 1_000, ...changes });

function mostAhead(job: Asked, of: QueueView): number {
  const decided = admission(job, of, nowMs);
  assert.equal(decided.kind, "admit");
  return decided.kind === "admit" ? decided.mostAhead : -1;
}

test("a tenth of a timeout, and at least 5 ms, is kept for what cannot be predicted", () => {
  assert.deepEqual(
    [20, 50, 100, 5_000].map((timeoutMs) => budgetMs(timeoutMs)),
    [15, 45, 90, 4_500],
  );
});

test("a job that no host is able to run is refused with what is missing", () => {
  const refused = admission(asked(), view({ capableHosts: 0, pools: [], unmet: ["provider cuda"] }), nowMs);
  assert.deepEqual(refused, { kind: "refuse", code: "no_capable_host", unmet: ["provider cuda"] });
});

test("a job is admitted without a bound while nothing is known of its model", () => {
  const blind = view({ pools: [{ hosts: 2, estimate: undefined }] });
  assert.deepEqual(admission(asked({ timeoutMs: 1 }), blind, nowMs), {
    kind: "admit",
    mostAhead: Infinity,
    withinMs: 0,
    costMs: 0,
    explores: false,
  });
});

test("a job is refused at once when its own run does not fit, with when it would end", () => {
  // half of the 24 ms of a run that is under way, its own 10, 2 of overhead
  const refused = admission(asked({ timeoutMs: 26 }), view(), nowMs);
  assert.deepEqual(refused, { kind: "refuse", code: "deadline_unattainable", estimatedMs: 24, retryAfterMs: 3 });
  assert.equal(mostAhead(asked({ timeoutMs: 29 }), view()), 0);
  assert.equal(admission(asked({ timeoutMs: 20 }), view({ busy: false }), nowMs).kind, "admit");
});

test("where other queues have half of a host's time, a backlog takes twice as long, and the run that is under way may be theirs", () => {
  const sharing = { share: 0.5, betweenMs: 20, idleMs: 0 };
  const of = view({ pools: [{ hosts: 1, estimate: estimate(), sharing }] });
  // 24 of its own or 20 of theirs are under way; 52 − 10 ms are left at 3 an item and as much for others
  assert.equal(mostAhead(asked({ timeoutMs: 100 }), of), 7);
  assert.equal(mostAhead(asked({ timeoutMs: 1_000 }), of), Math.floor((900 - 22 - 2 - 24) / 6));
  const refused = admission(asked({ timeoutMs: 26 }), of, nowMs);
  assert.deepEqual(refused, { kind: "refuse", code: "deadline_unattainable", estimatedMs: 34, retryAfterMs: 13 });
});

test("a queue without open jobs is not held up by what lay between its runs: nothing would tell when that is over", () => {
  const of = view({ busy: false, pools: [{ hosts: 1, estimate: estimate(), sharing: { share: 0.5, betweenMs: 2_000, idleMs: 0 } }] });
  assert.equal(prediction(asked(), of, 0).estimatedMs, 12);
});

test("what others take of one class of hosts is nothing to another", () => {
  const pools = [
    { hosts: 1, estimate: estimate(), sharing: { share: 0.5, betweenMs: 30, idleMs: 0 } },
    { hosts: 2, estimate: estimate() },
  ];
  // 5 halves of a host's rate, and 10 ms between runs on average: a quarter of 24 + 10, 2 and 24
  const { estimatedMs } = prediction(asked(), view({ capableHosts: 3, pools }), 100);
  assert.equal(estimatedMs, Math.ceil(34 / 4 + (100 * 3) / 2.5 + 24 + 2));
});

test("the bound is where the predicted finish meets the budget", () => {
  // 90 of 100 ms, less 12 that run, 2 of overhead and a full batch of 24: 52 ms at 3 an item
  assert.equal(mostAhead(asked({ timeoutMs: 100 }), view()), 17);
  fc.assert(
    fc.property(
      fc.integer({ min: 30, max: 5_000 }),
      fc.integer({ min: 1, max: 8 }),
      fc.integer({ min: 1, max: 50 }),
      fc.boolean(),
      (timeoutMs, items, hosts, busy) => {
        const job = asked({ timeoutMs, items });
        const of = view({ busy, capableHosts: hosts, pools: [{ hosts, estimate: estimate() }] });
        const decided = admission(job, of, nowMs);
        if (decided.kind === "refuse") {
          assert.ok(prediction(job, of, 0).estimatedMs > budgetMs(timeoutMs) - 1);
          return;
        }
        assert.ok(prediction(job, of, decided.mostAhead).estimatedMs <= Math.ceil(budgetMs(timeoutMs)), "with so many ahead it is in time");
        assert.ok(prediction(job, of, decided.mostAhead + 1).estimatedMs > Math.floor(budgetMs(timeoutMs)), "with one more it is not");
      },
    ),
  );
});

test("more hosts and more time never lower the bound", () => {
  fc.assert(
    fc.property(fc.integer({ min: 60, max: 3_000 }), fc.integer({ min: 1, max: 20 }), (timeoutMs, hosts) => {
      const withHosts = (many: number): QueueView => view({ capableHosts: many, pools: [{ hosts: many, estimate: estimate() }] });
      const bound = mostAhead(asked({ timeoutMs }), withHosts(hosts));
      assert.ok(mostAhead(asked({ timeoutMs }), withHosts(hosts + 1)) >= bound);
      assert.ok(mostAhead(asked({ timeoutMs: timeoutMs + 10 }), withHosts(hosts)) >= bound);
    }),
  );
});

test("a job whose model no host holds must also wait for the load", () => {
  const cold = view({ busy: false, loadMs: 500 });
  assert.equal(admission(asked({ timeoutMs: 500 }), cold, nowMs).kind, "refuse");
  const unknown = view({ busy: false, loadMs: 500, pools: [{ hosts: 1, estimate: undefined }] });
  assert.deepEqual(admission(asked({ timeoutMs: 500 }), unknown, nowMs), {
    kind: "refuse",
    code: "deadline_unattainable",
    estimatedMs: 502,
    retryAfterMs: 52,
  });
  assert.equal(mostAhead(asked({ timeoutMs: 600 }), unknown), Infinity);
  assert.equal(mostAhead(asked({ timeoutMs: 600 }), cold), 4);
});

test("slow hosts beside fast ones help with the queue, and cost no job that only the fast ones can run in time", () => {
  const slow = estimate({ ladder: ladder.map(([items, ms]) => [items, 10 * ms] as const), itemMs: 30 });
  const fast = { hosts: 1, estimate: estimate() };
  const mixed = view({ busy: false, capableHosts: 11, pools: [{ hosts: 10, estimate: slow }, fast] });
  assert.equal(mostAhead(asked({ timeoutMs: 60 }), mixed), mostAhead(asked({ timeoutMs: 60 }), view({ busy: false, pools: [fast] })));
  assert.ok(
    mostAhead(asked({ timeoutMs: 5_000 }), mixed) > 1.8 * mostAhead(asked({ timeoutMs: 5_000 }), view({ busy: false, pools: [fast] })),
  );
});

test("an estimate that nothing has confirmed lately keeps no host from a batch that shows how things are", () => {
  const known = (newestMs: number | undefined): QueueView => view({ pools: [{ hosts: 1, estimate: estimate({ newestMs }) }] });
  const job = asked({ timeoutMs: 10 });
  assert.equal(admission(job, known(nowMs - 5_000), nowMs).kind, "refuse");
  const easy = admission(asked({ timeoutMs: 60_000 }), known(undefined), nowMs);
  assert.ok(easy.kind === "admit" && easy.mostAhead > 1_000 && easy.mostAhead < Infinity, "what was known last still bounds a burst");
  for (const newestMs of [nowMs - 5_001, undefined])
    assert.deepEqual(admission(job, known(newestMs), nowMs), { kind: "admit", mostAhead: 8, withinMs: 0, costMs: 10, explores: true });
});

test("a refusal says when asking again may help: when what is ahead too much has run", () => {
  const told = prediction(asked({ timeoutMs: 100 }), view(), 40);
  // 12 that run, 120 ahead, its own batch of 24, 2 of overhead; 90 would have been in time
  assert.deepEqual(told, { estimatedMs: 158, retryAfterMs: 68 });
});

test("a model of which only small runs are known yet, though it batches, takes as many as larger ones will carry", () => {
  const young = view({ pools: [{ hosts: 1, estimate: estimate({ ladder: [[1, 10]], itemMs: 10, typicalMs: 10 }) }] });
  // 900 of 1,000 ms, less half of the 10 that run, 2 of overhead and 80 of a full batch: 813 ms at 10 an item
  assert.equal(mostAhead(asked(), young), 81);
});
