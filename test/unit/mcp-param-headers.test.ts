import assert from "node:assert/strict";
import { test } from "node:test";
import { declaredHeaders, paramHeaders } from "../../client-sdk/src/cli/mcp-param-headers.ts";

const schema = {
  type: "object",
  properties: {
    model: { type: "string", "x-mcp-header": "Model" },
    terms: {
      type: "object",
      properties: { urgent: { type: "boolean", "x-mcp-header": "Urgent" }, level: { type: "integer", "x-mcp-header": "Level" } },
    },
    wrong: { type: "string", "x-mcp-header": "not a token" },
    items: { type: "array", items: { type: "string", "x-mcp-header": "Item" } },
  },
};
const declared = declaredHeaders(schema);
const of = (args: unknown): Record<string, string> => paramHeaders(declared, args);

test("arguments that name a header travel as one, at any depth", () => {
  assert.deepEqual(of({ model: "digits", terms: { urgent: false, level: 42 }, items: ["x"], wrong: "x" }), {
    "Mcp-Param-Model": "digits",
    "Mcp-Param-Urgent": "false",
    "Mcp-Param-Level": "42",
  });
});

test("arguments that are absent, null or no plain value have no header", () => {
  assert.deepEqual(of({ model: null, terms: { level: {} } }), {});
  assert.deepEqual(of({ terms: { level: 2 ** 60 } }), {});
  assert.deepEqual(of(undefined), {});
  assert.deepEqual(paramHeaders(declaredHeaders(undefined), {}), {});
});

test("what a header cannot carry is encoded, and so is what looks encoded", () => {
  const decoded = (text: string | undefined): string =>
    Buffer.from(/^=\?base64\?(.*)\?=$/.exec(text ?? "")?.[1] ?? "", "base64").toString("utf8");
  for (const model of ["schön", " blank", "blank ", "", "two\nlines", "=?base64?eA==?="]) {
    const header = of({ model })["Mcp-Param-Model"];
    assert.notEqual(header, model);
    assert.equal(decoded(header), model);
  }
  assert.equal(of({ model: "two words" })["Mcp-Param-Model"], "two words");
});
