/** The checker of the chaos suite must see: each term, in a history made by hand, and nothing in a good one. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { forbidden, type History, judge, type Verdict } from "../chaos/checker.ts";
import { CommandReader } from "../chaos/faults/commands.ts";
import { growthOf } from "../chaos/growth.ts";
import type { LedgerEvent, Outcome } from "../chaos/ledger.ts";
import { unsuccessful } from "../chaos/recipe.ts";

const outcome = (changes: Partial<Outcome> = {}): Outcome => ({
  state: "succeeded",
  revision: 3,
  attempt: 1,
  answer: [10],
  createdMs: 1_000,
  startedMs: 1_010,
  finishedMs: 1_050,
  deadlineMs: 2_000,
  ...changes,
});

const submit = (key: string, number: number): LedgerEvent => ({
  kind: "submit",
  key,
  number,
  manner: "queued",
  timeoutMs: 1_000,
  atMs: 1_000,
});
const ack = (key: string, id: string, isReplay = false): LedgerEvent => ({ kind: "ack", key, id, isReplay, atMs: 1_001, tookMs: 1 });
const ended = (key: string, id: string, changes: Partial<Outcome> = {}): LedgerEvent => ({
  kind: "outcome",
  key,
  id,
  outcome: outcome(changes),
  atMs: 1_060,
});

/** One job that went well, and what is added to its history. */
function history(changes: Partial<History> & { more?: LedgerEvent[] } = {}): History {
  const { more = [], ...rest } = changes;
  return {
    events: [submit("a", 1), ack("a", "job-a"), ended("a", "job-a"), ended("a", "job-a"), ...more],
    executions: [{ host: "worker-1", numbers: [1], startedMs: 1_010 }],
    store: { listed: ["job-a"], atMs: 2_000, faults: [] },
    stalls: [],
    answerTo: (number) => [10 * number],
    ...rest,
  };
}

const called: LedgerEvent = { kind: "called", key: "bare", number: 3, atMs: 1_000 };
const heard = (changes: Partial<Extract<LedgerEvent, { kind: "answered" }>> = {}): LedgerEvent => ({
  kind: "answered",
  key: "bare",
  state: "succeeded",
  answer: [30],
  atMs: 1_060,
  tookMs: 60,
  ...changes,
});

const toldExpired: LedgerEvent = { kind: "answered", key: "bare", state: "expired", atMs: 1_060, tookMs: 60 };

const expected = { jobs: 1, faults: 0, executions: 1 };

function seen(verdict: Verdict): string[] {
  return forbidden.filter((term) => verdict.violations[term].length > 0);
}

test("a good history has no violation", () => {
  const verdict = judge(history(), expected);
  assert.deepEqual([seen(verdict), verdict.isGood], [[], true]);
  assert.equal(verdict.counts.succeeded, 1);
});

test("of a call without a key that was answered the record may be gone when its minute is nearly over", () => {
  const given = history({ more: [called, heard()], store: { listed: ["job-a"], atMs: 46_100, faults: [] } });
  const verdict = judge(given, expected);
  assert.deepEqual([seen(verdict), verdict.counts.called, verdict.counts.answered], [[], 1, 1]);
});

test("calls without a key count apart, by what they heard", () => {
  const others = { ...toldExpired, key: "other" } as LedgerEvent;
  const given = history({
    more: [called, heard(), ack("bare", "job-3"), ended("bare", "job-3", { answer: [30] }), { ...called, key: "other", number: 4 }, others],
  });
  const { counts } = judge(given, expected);
  assert.deepEqual([counts.submitted, counts.acknowledged, counts.succeeded], [1, 1, 1]);
  assert.deepEqual([counts.called, counts.answered, counts.answeredBadly], [2, 2, 1]);
  assert.equal(unsuccessful({ counts }).value, 1);
});

const cases: { what: string; given: History; term: string; expected?: typeof expected }[] = [
  {
    what: "an acknowledged job without an outcome",
    given: history({ more: [submit("b", 2), ack("b", "job-b")], store: { listed: ["job-a", "job-b"], atMs: 2_000, faults: [] } }),
    term: "lost",
  },
  {
    what: "a success whose answer is gone",
    given: history({ events: [submit("a", 1), ack("a", "job-a"), { ...ended("a", "job-a"), outcome: withoutAnswer() } as LedgerEvent] }),
    term: "lost",
  },
  {
    what: "a call without a key that heard its answer, and of which there is no record within its minute",
    given: history({ more: [called, heard()] }),
    term: "lost",
  },
  {
    what: "calls without a key of which hardly any was answered",
    given: history({ more: Array.from({ length: 10 }, (_, at) => ({ ...called, key: `bare-${at}` }) as LedgerEvent) }),
    term: "blind",
  },
  {
    what: "another's answer to a call without a key",
    given: history({ more: [called, heard({ answer: [10] }), ack("bare", "job-3"), ended("bare", "job-3", { answer: [30] })] }),
    term: "wrong",
  },
  {
    what: "a call without a key that was told otherwise than its record",
    given: history({
      more: [called, toldExpired, ack("bare", "job-3"), ended("bare", "job-3", { answer: [30] })],
    }),
    term: "duplicated",
  },
  {
    what: "a call without a key that made two jobs",
    given: history({
      more: [
        called,
        heard(),
        ack("bare", "job-3"),
        ended("bare", "job-3", { answer: [30] }),
        ack("bare", "job-4"),
        ended("bare", "job-4", { answer: [30] }),
      ],
    }),
    term: "duplicated",
  },
  {
    what: "a job that was told to have succeeded and is unknown later",
    given: history({ more: [{ kind: "gone", key: "a", id: "job-a", why: "unknown", atMs: 2_000 }] }),
    term: "lost",
  },
  {
    what: "an answer that is gone at the second look",
    given: history({ more: [{ ...ended("a", "job-a"), outcome: withoutAnswer() } as LedgerEvent] }),
    term: "duplicated",
  },
  {
    what: "another answer at the second look",
    given: history({ events: [submit("a", 1), ack("a", "job-a"), ended("a", "job-a"), ended("a", "job-a", { answer: [11] })] }),
    term: "duplicated wrong",
  },
  { what: "an outcome of what nobody submitted", given: history({ more: [ended("x", "job-x")] }), term: "unexpected" },
  {
    what: "a job that nobody was told of",
    given: history({ store: { listed: ["job-a", "job-x"], atMs: 2_000, faults: [] } }),
    term: "unexpected",
  },
  {
    what: "a run of a job that nobody submitted",
    given: history({ executions: [{ host: "worker-1", numbers: [1, 7], startedMs: 1_010 }] }),
    term: "unexpected",
  },
  { what: "another state at the second look", given: history({ more: [ended("a", "job-a", { state: "failed" })] }), term: "duplicated" },
  { what: "another revision at the second look", given: history({ more: [ended("a", "job-a", { revision: 4 })] }), term: "duplicated" },
  { what: "one key with two jobs", given: history({ more: [ack("a", "job-b"), ended("a", "job-b")] }), term: "duplicated" },
  { what: "one job for two keys", given: history({ more: [submit("b", 2), ack("b", "job-a")] }), term: "duplicated" },
  {
    what: "another job's answer",
    given: history({ events: [submit("a", 1), ack("a", "job-a"), ended("a", "job-a", { answer: [20] })] }),
    term: "wrong",
  },
  {
    what: "a claim after the deadline",
    given: history({ events: [submit("a", 1), ack("a", "job-a"), ended("a", "job-a", { startedMs: 2_001 })] }),
    term: "late",
  },
  {
    what: "a run after the deadline",
    given: history({ executions: [{ host: "worker-1", numbers: [1], startedMs: 2_001 }] }),
    term: "late",
  },
  {
    what: "a job that is still open in the end",
    given: history({ store: { listed: ["job-a"], atMs: 2_000, faults: ["job job-a is still queued"] } }),
    term: "stuck",
  },
  { what: "work that stood still", given: history({ stalls: ["jobs waited beside an idle host"] }), term: "stuck" },
  {
    what: "an answer that nothing explains",
    given: history({ more: [{ kind: "broken", key: "a", what: "500", atMs: 1_000 }] }),
    term: "broken",
  },
  { what: "too few jobs", given: history(), term: "blind", expected: { jobs: 2, faults: 0, executions: 1 } },
  { what: "too few faults", given: history(), term: "blind", expected: { jobs: 1, faults: 1, executions: 1 } },
];

function withoutAnswer(): Outcome {
  const { answer: _gone, ...rest } = outcome();
  return rest;
}

for (const { what, given, term, expected: wanted = expected } of cases) {
  test(`${what} is ${term}`, () => {
    const verdict = judge(given, wanted);
    assert.deepEqual([seen(verdict), verdict.isGood], [term.split(" "), false]);
  });
}

test("runs beyond the first and jobs found again are counted, not forbidden", () => {
  const events: LedgerEvent[] = [
    submit("a", 1),
    { kind: "unknown", key: "a", why: "ECONNRESET", atMs: 1_000, tookMs: 5 },
    ack("a", "job-a", true),
    ended("a", "job-a", { attempt: 2 }),
  ];
  const executions = [1_010, 1_020, 1_030].map((startedMs) => ({ host: "worker-1", numbers: [1], startedMs }));
  const { counts, isGood } = judge(history({ events, executions }), expected);
  assert.equal(isGood, true);
  assert.deepEqual([counts.unknown, counts.recovered, counts.ranAgain, counts.furtherRuns], [1, 1, 1, 2]);
});

test("growth is the middle of the last third against that of the first, whatever single samples say", () => {
  const sizes = [10, 11, 500, 12, 13, 14, 20, 21, 0];
  const samples = sizes.map((size, at) => ({ atMs: 60_000 * at, values: { size } }));
  assert.deepEqual(growthOf(samples, "size"), { before: 11, after: 20, minutes: 6 });
});

test("commands are found in what a client sends, however it is cut", () => {
  const bytes = Buffer.from("*2\r\n$3\r\nGET\r\n$5\r\na\r\nbc\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n");
  const words = [["GET", "a\r\nbc"], ["SET", "k", ""], ["PING"]];
  for (let size = 1; size <= bytes.length; size++) {
    const reader = new CommandReader();
    const found: string[][] = [];
    const ends: number[] = [];
    for (let at = 0; at < bytes.length; at += size) {
      for (const command of reader.feed(bytes.subarray(at, at + size))) {
        found.push(command.words);
        ends.push(at + command.end);
      }
    }
    assert.deepEqual(found, words);
    assert.deepEqual(ends, [24, 50, 64]);
  }
});
