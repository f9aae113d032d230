import assert from "node:assert/strict";
import { test } from "node:test";
import { Loops } from "../../coordinator/src/application/loop.ts";
import { betweenMomentsMs, momentAfter, systemClock } from "../../coordinator/src/clock.ts";
import { ManualClock } from "../support/manual-clock.ts";

const log = { info() {}, warn() {}, error() {} } as never;

/** Moments of a clock that stands until it is moved on, from a time that is none. */
class Steps extends ManualClock {
  readonly beganMs = super.monotonicMs();

  override monotonicMs(): number {
    return super.monotonicMs() - this.beganMs + 100;
  }

  atMoment(momentMs: number, run: () => void): () => void {
    return this.after(momentMs - this.monotonicMs(), run);
  }
}

test("what is begun at a moment, or a little before it, is due a period later; what is begun between two, at the last one before that", () => {
  assert.equal(momentAfter(480, 240), 720);
  assert.equal(momentAfter(479, 240), 720, "begun early");
  assert.equal(momentAfter(481, 240), 720);
  assert.equal(momentAfter(490, 960), 960);
  assert.equal(momentAfter(700, 240), 720);
});

test("loops in step begin together, each at its own multiple, whenever they were started", async () => {
  const clock = new Steps();
  const loops = new Loops(clock, log);
  const begun: string[] = [];
  const start = (name: string, everyMs: number) =>
    loops.start({ name, everyMs, inStep: true, call: async () => void begun.push(`${name} ${clock.monotonicMs()}`) });
  start("often", betweenMomentsMs);
  await clock.advance(77);
  start("seldom", 4 * betweenMomentsMs);
  await clock.advance(3_000);
  const times = (name: string) => begun.filter((one) => one.startsWith(name)).map((one) => Number(one.split(" ")[1]));
  assert.deepEqual(times("often").slice(0, 4), [100, ...[1, 2, 3].map((at) => at * betweenMomentsMs)]);
  assert.deepEqual(times("seldom").slice(0, 4), [177, ...[4, 8, 12].map((at) => at * betweenMomentsMs)]);
  for (const ms of times("seldom").slice(1)) assert.ok(times("often").includes(ms), `${ms} is no moment of the other`);
  await loops.stop();
});

test("a call that takes longer than half a period is followed by half of it, and the loop is in step again as soon as calls are short", async () => {
  const clock = new Steps();
  const loops = new Loops(clock, log);
  const begun: number[] = [];
  let takesMs = 375;
  const call = async () => {
    begun.push(clock.monotonicMs());
    await clock.sleep(takesMs);
  };
  loops.start({ name: "long", everyMs: 450, inStep: true, call });
  assert.throws(() => loops.start({ name: "odd", everyMs: 240, inStep: true, call }), /odd: 240 ms is no multiple of 225/);
  await clock.advance(2_000);
  assert.deepEqual(begun, [100, 700, 1_300, 1_900]);
  takesMs = 1;
  await clock.advance(4_000);
  const last = begun.slice(-5);
  assert.deepEqual(
    last.map((ms) => ms % 450),
    [0, 0, 0, 0, 0],
    `${begun}`,
  );
  const gaps = begun.slice(4).map((ms, at) => ms - begun[at + 3]!);
  assert.ok(
    gaps.every((gap) => gap >= 225 && gap <= 600),
    `${gaps}`,
  );
  await loops.stop();
});

test("whatever waits for one moment is called at it by one timer, but for what was called off", (context) => {
  const timers: { run: () => void; ms: number; isHeldOpen: boolean }[] = [];
  context.mock.method(globalThis, "setTimeout", (run: () => void, ms: number) => {
    const timer = { run, ms, isHeldOpen: true };
    timers.push(timer);
    return {
      unref: () => {
        timer.isHeldOpen = false;
      },
    };
  });
  const beforeMs = systemClock.monotonicMs();
  const momentMs = beforeMs + 60.5;
  const called: string[] = [];
  const told = (): string[] => [...called];
  systemClock.atMoment(momentMs, () => called.push("one"));
  const tookMs = systemClock.monotonicMs() - beforeMs;
  const callOff = systemClock.atMoment(momentMs, () => called.push("never"));
  systemClock.atMoment(momentMs, () => called.push("other"));
  callOff();
  assert.equal(timers.length, 1);
  const [{ isHeldOpen, ms, run }] = timers as [(typeof timers)[0]];
  assert.ok(ms <= 61 && ms >= Math.max(0, 60.5 - tookMs) && !isHeldOpen, `${ms} ms, asked for within ${tookMs}`);
  assert.deepEqual(told(), []);
  run();
  assert.deepEqual(told(), ["one", "other"]);
  systemClock.atMoment(momentMs, () => called.push("later"));
  assert.equal(timers.length, 2, "what is asked for afterwards has a timer of its own");
  timers[1]!.run();
  assert.deepEqual(told(), ["one", "other", "later"]);
});
