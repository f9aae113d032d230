import assert from "node:assert/strict";
import { test } from "node:test";
import { elicitationAnswer } from "../../coordinator/src/adapters/elicitation-answer.ts";

const form = {
  properties: { name: { type: "string", default: "John" }, count: { type: "integer", default: 0 }, sure: { type: "boolean" } },
  required: ["name"],
};

test("a form is answered with what it proposes itself, where that is the policy", () => {
  assert.deepEqual(elicitationAnswer("defaults", form), { action: "accept", content: { name: "John", count: 0 } });
  assert.deepEqual(elicitationAnswer("decline", form), { action: "decline" });
});

test("a form that requires what it does not propose is declined, and so is what is no form", () => {
  assert.deepEqual(elicitationAnswer("defaults", { ...form, required: ["name", "sure"] }), { action: "decline" });
  assert.deepEqual(elicitationAnswer("defaults", { required: ["name"] }), { action: "decline" });
  assert.deepEqual(elicitationAnswer("defaults", undefined), { action: "decline" });
});
