import assert from "node:assert/strict";
import { test } from "node:test";
import type { Clock } from "../../coordinator/src/clock.ts";
import { KeptProcess, type RunningProcess } from "../../coordinator/src/embedded/kept-process.ts";

/** A clock whose sleeps end at once and move it forward. */
function jumpingClock(): Clock & { slept: number[] } {
  let nowMs = 0;
  const slept: number[] = [];
  return {
    slept,
    nowMs: () => nowMs,
    monotonicMs: () => nowMs,
    async sleep(ms) {
      slept.push(ms);
      nowMs += ms;
    },
    after: () => () => {},
    jitter: () => 0,
  };
}

const dead = (code: number): RunningProcess => ({ pid: 1, exited: Promise.resolve({ code, signal: null }), signal() {} });

test("a process that keeps dying is started again ever later, and given up at the tenth death within a minute", async () => {
  const clock = jumpingClock();
  let starts = 0;
  const start = async (): Promise<RunningProcess> => {
    starts++;
    return dead(3);
  };
  const givenUp = await new Promise<string>((resolve) => {
    void new KeptProcess({ name: "worker-1", start, clock, onGivenUp: (name, why) => resolve(`${name}: ${why}`) }).start();
  });
  assert.equal(givenUp, "worker-1: it ended with code 3");
  assert.equal(starts, 10);
  assert.deepEqual(clock.slept, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000, 5_000, 5_000]);
});

test("a process that cannot be started again counts as dead, not as running", async () => {
  let starts = 0;
  const start = async (): Promise<RunningProcess> => {
    starts++;
    if (starts > 1) throw new Error("no such program");
    return dead(1);
  };
  const why = await new Promise<string>((resolve) => {
    void new KeptProcess({ name: "redis", start, clock: jumpingClock(), onGivenUp: (_name, reason) => resolve(reason) }).start();
  });
  assert.equal(why, "no such program");
});

test("a stopped process is not started again, even if the stop comes while it is being started", async () => {
  let began: () => void = () => {};
  const starting = new Promise<void>((resolve) => {
    began = resolve;
  });
  let goOn: () => void = () => {};
  const signals: string[] = [];
  let starts = 0;
  const start = async (): Promise<RunningProcess> => {
    if (++starts === 1) return dead(1);
    began();
    await new Promise<void>((resolve) => {
      goOn = resolve;
    });
    let end: () => void = () => {};
    const exited = new Promise<{ code: number; signal: null }>((resolve) => {
      end = () => resolve({ code: 0, signal: null });
    });
    return {
      pid: 2,
      exited,
      signal(name) {
        signals.push(name);
        end();
      },
    };
  };
  const kept = new KeptProcess({ name: "coordinator", start, clock: jumpingClock(), onGivenUp: () => assert.fail("given up") });
  await kept.start();
  await starting;
  const stopped = kept.stop(1_000);
  goOn();
  await stopped;
  assert.deepEqual(signals, ["SIGTERM"]);
  assert.equal(starts, 2);
});
