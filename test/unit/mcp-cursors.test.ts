import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Caller, localCaller } from "../../coordinator/src/application/caller.ts";
import { Cursors } from "../../coordinator/src/doors/mcp/cursors.ts";
import type { SharedSecret } from "../../coordinator/src/ports/shared-secret.ts";

const secretOf = (text: string): SharedSecret => ({ read: async () => Buffer.from(text) });
const cursors = new Cursors(secretOf("one"));
const anna: Caller = { ...localCaller, tenant: "anna", keyId: "key-1" };
const use = { caller: anna, method: "resources/list" };
const place = [3, "switchyard://jobs/ä"];
const refused = { code: "invalid_request", message: /list again without a cursor/ };

test("a cursor leads back to its place, at every coordinator that shares the secret", async () => {
  const cursor = await cursors.seal(place, use);
  assert.deepEqual(await cursors.open(cursor, use), place);
  assert.deepEqual(await new Cursors(secretOf("one")).open(cursor, use), place);
  assert.match(cursor, /^[\w-]+\.[\w-]+$/);
});

test("a cursor is good for the caller, the method and the parameters that it was made for, and for nothing else", async () => {
  const cursor = await cursors.seal(place, { ...use, parameters: { model: "digits" } });
  const others = [
    { ...use, parameters: { model: "other" } },
    use,
    { ...use, parameters: { model: "digits" }, method: "tools/list" },
    { ...use, parameters: { model: "digits" }, caller: { ...anna, keyId: "key-2" } },
    { ...use, parameters: { model: "digits" }, caller: { ...anna, tenant: "berta" } },
    { ...use, parameters: { model: "digits" }, caller: { ...localCaller, tenant: "anna" } },
  ];
  for (const other of others) await assert.rejects(cursors.open(cursor, other), refused);
  assert.deepEqual(await cursors.open(cursor, { ...use, parameters: { model: "digits" } }), place);
  await assert.rejects(new Cursors(secretOf("two")).open(cursor, { ...use, parameters: { model: "digits" } }), refused);
});

test("a cursor that was changed anywhere is refused", async () => {
  const cursor = await cursors.seal(place, use);
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  for (let at = 0; at < cursor.length; at++) {
    if (cursor[at] === ".") continue;
    // the last letter of each part may carry bits that mean nothing: one that differs in its first bit means something
    const changed = letters[letters.indexOf(cursor[at]!) ^ 32]!;
    await assert.rejects(cursors.open(cursor.slice(0, at) + changed + cursor.slice(at + 1), use), refused, `letter ${at}`);
  }
});

test("what is no cursor is refused, whatever it is", async () => {
  const cursor = await cursors.seal(place, use);
  for (const text of ["", ".", "a.b", `${cursor}.x`, cursor.split(".")[0]!, "x".repeat(100_000)]) {
    await assert.rejects(cursors.open(text, use), refused);
  }
  await fc.assert(fc.asyncProperty(fc.string(), async (text) => assert.rejects(cursors.open(text, use), refused)));
});
