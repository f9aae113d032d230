import assert from "node:assert/strict";
import { test } from "node:test";
import { Turns } from "../../coordinator/src/application/turns.ts";

/** Calls that end when they are told to, and who is in the midst of one. */
function slowCalls() {
  const running: string[] = [];
  const ends = new Map<string, (fault?: Error) => void>();
  const call = (name: string) => async (): Promise<string> => {
    running.push(name);
    const fault = await new Promise<Error | undefined>((resolve) => ends.set(name, resolve));
    running.splice(running.indexOf(name), 1);
    if (fault) throw fault;
    return name;
  };
  return { running, call, end: (name: string, fault?: Error) => ends.get(name)?.(fault) };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("calls of one caller are served one after another, those of others beside them", async () => {
  const { call, end, running } = slowCalls();
  const turns = new Turns(8);
  const [first, second, other] = [turns.take("a", call("a1")), turns.take("a", call("a2")), turns.take("b", call("b1"))];
  await settled();
  assert.deepEqual(running, ["a1", "b1"]);
  end("a1");
  assert.equal(await first, "a1");
  await settled();
  assert.deepEqual(running, ["b1", "a2"]);
  end("a2");
  end("b1");
  assert.deepEqual(await Promise.all([second, other]), ["a2", "b1"]);
});

test("a call that fails gives the turn on, and its fault to its caller alone", async () => {
  const { call, end } = slowCalls();
  const turns = new Turns(8);
  const [first, second] = [turns.take("a", call("a1")), turns.take("a", call("a2"))];
  const failed = assert.rejects(first, /gone/);
  await settled();
  end("a1", new Error("gone"));
  await failed;
  await settled();
  end("a2");
  assert.equal(await second, "a2");
});

test("only so many may wait; then a caller is told to come back, until its line is shorter", async () => {
  const { call, end } = slowCalls();
  const turns = new Turns(2);
  const both = [turns.take("a", call("a1")), turns.take("a", call("a2"))];
  await assert.rejects(turns.take("a", call("a3")), { code: "rate_limited", facts: { retryAfterMs: 1_000 } });
  await settled();
  end("a1");
  await both[0];
  const third = turns.take("a", call("a3"));
  for (const name of ["a2", "a3"]) {
    await settled();
    end(name);
  }
  assert.deepEqual(await Promise.all([both[1], third]), ["a2", "a3"]);
});
