import assert from "node:assert/strict";
import { test } from "node:test";
import { SwitchyardError } from "@switchyard/protocol";

test("a failure that was foreseen carries no trace of calls, and leaves that of others alone", () => {
  assert.equal(new SwitchyardError("deadline_unattainable", "too late").stack?.includes("\n"), false);
  assert.match(new SwitchyardError("internal", "a bug").stack ?? "", /\n +at /);
  assert.match(new Error("a bug").stack ?? "", /\n +at /);
});
