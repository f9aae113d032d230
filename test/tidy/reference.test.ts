import assert from "node:assert/strict";
import { test } from "node:test";
import { generatedDocs, staleDocs } from "../../scripts/generate-docs.ts";

test("the reference pages and the README's settings say what their sources say", async () => {
  assert.ok((await generatedDocs()).size >= 6);
  assert.deepEqual(await staleDocs(), [], "write them again: node scripts/launch.js --run scripts/generate-docs.ts");
});
