import assert from "node:assert/strict";
import { test } from "node:test";
import { localCaller } from "../../coordinator/src/application/caller.ts";
import { StreamBudget } from "../../coordinator/src/doors/stream-budget.ts";

const key = (keyId: string) => ({ ...localCaller, keyId });

test("each key has its bound, and all together have theirs; what is closed leaves room, once", () => {
  const budget = new StreamBudget({ ofCaller: 2, inAll: 3 });
  const first = budget.open(key("a"));
  budget.open(key("a"));
  assert.throws(() => budget.open(key("a")), { code: "rate_limited", message: /of the API key a are open/ });
  budget.open(key("b"));
  assert.throws(() => budget.open(key("b")), { code: "queue_full" });
  first();
  first();
  budget.open(key("b"));
  assert.throws(() => budget.open(key("c")), { code: "queue_full" });
});
