import assert from "node:assert/strict";
import { test } from "node:test";
import { type Caller, localCaller, mayStill } from "../../coordinator/src/application/caller.ts";

const key = (some: Partial<Caller>): Caller => ({ tenant: "north", weight: 1, scopes: new Set(["submit", "read"]), keyId: "k", ...some });

test("a key that was narrowed meanwhile may not go on, and one that was widened may", () => {
  const [one, both] = [new Set(["digits"]), new Set(["digits", "faces"])];
  assert.equal(mayStill(localCaller, localCaller), true);
  assert.equal(mayStill(key({}), key({})), true);
  assert.equal(mayStill(key({}), key({ tenant: "south" })), false);
  assert.equal(mayStill(key({}), key({ scopes: new Set(["read"]) })), false);
  assert.equal(mayStill(key({ scopes: new Set(["read"]) }), key({})), true);
  assert.equal(mayStill(key({}), key({ models: both })), false, "from all models to some");
  assert.equal(mayStill(key({ models: both }), key({ models: one })), false);
  assert.equal(mayStill(key({ models: one }), key({ models: both })), true);
  assert.equal(mayStill(key({ models: one }), key({})), true);
  assert.equal(mayStill(key({ models: one }), key({ models: new Set(["digits"]) })), true, "read anew, it is the same");
});
