import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { localCaller } from "../../coordinator/src/application/caller.ts";
import { mayReadKind, ourSpelling, placeIn, requireKind, resourceUris } from "../../coordinator/src/doors/mcp/resource-uris.ts";

test("every address leads to what it was made for, whatever the names", () => {
  for (const kind of ["models", "hosts", "queues", "metrics"] as const) assert.deepEqual(placeIn(resourceUris[kind]), { kind });
  const name = fc.string({ minLength: 1, unit: "grapheme" });
  fc.assert(
    fc.property(name, fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), (text, version) => {
      assert.deepEqual(placeIn(resourceUris.model(text)), { kind: "model", model: text });
      assert.deepEqual(placeIn(resourceUris.version(text, version)), { kind: "version", model: text, version });
      assert.deepEqual(placeIn(resourceUris.host(text)), { kind: "host", id: text });
      assert.deepEqual(placeIn(resourceUris.job(text)), { kind: "job", id: text });
      assert.deepEqual(placeIn(resourceUris.output(text)), { kind: "output", id: text });
    }),
  );
});

test("an address has one spelling of ours, however it came", () => {
  const name = fc.string({ minLength: 1, unit: "grapheme" });
  const escaped = (text: string) => [...Buffer.from(text)].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
  fc.assert(
    fc.property(name, fc.integer({ min: 1, max: 1e9 }), (text, version) => {
      const own = [resourceUris.model(text), resourceUris.version(text, version), resourceUris.host(text), resourceUris.job(text)];
      for (const uri of [...own, resourceUris.output(text)]) {
        const parts = uri.slice("switchyard://".length).split("/");
        const other = `switchyard://${parts.map((part) => escaped(decodeURIComponent(part))).join("/")}`;
        assert.equal(ourSpelling(other), uri);
        assert.equal(ourSpelling(uri), uri);
      }
    }),
  );
  assert.equal(ourSpelling("switchyard://%71ueues"), resourceUris.queues);
  assert.equal(ourSpelling("switchyard://nothing"), "switchyard://nothing");
});

test("what is no address of ours is none", () => {
  const none = [
    ...["", "switchyard:", "switchyard://", "switchyard://model", "switchyard://models/", "switchyard://models/m/", "https://models"],
    ...["switchyard://models/m/versions", "switchyard://models/m/versions/0", "switchyard://models/m/versions/1.5", "Switchyard://models"],
    ...["switchyard://models/m/versions/9007199254740993", "switchyard://models/m/versions/10000000000000000"],
    ...["switchyard://models/m/versions/1/x", "switchyard://jobs", "switchyard://jobs/a/input", "switchyard://jobs/a/output/x"],
    ...["switchyard://hosts/a/b", "switchyard://queues/a", "switchyard://models/%E0%A4%A", "switchyard://jobs/%zz/output"],
  ];
  for (const uri of none) assert.equal(placeIn(uri), undefined, uri);
});

test("a resource is open to those who may ask the route of /v1 that shows the same", () => {
  const submitter = { ...localCaller, scopes: new Set(["submit"] as const), keyId: "k" };
  const reader = { ...localCaller, scopes: new Set(["read"] as const), keyId: "k" };
  const kinds = ["models", "model", "version", "hosts", "host", "queues", "metrics", "job", "output"] as const;
  assert.deepEqual(
    kinds.filter((kind) => mayReadKind(submitter, kind)),
    ["models", "model", "version"],
  );
  assert.deepEqual(
    kinds.filter((kind) => !mayReadKind(reader, kind)),
    ["hosts", "host"],
  );
  assert.throws(() => requireKind(reader, "hosts"), { code: "forbidden" });
});
