import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { memberText } from "../../client-sdk/src/json-member.ts";

test("a member is cut out as it was written", () => {
  const text = '{"links":{"result":"/x"},"a\\"b":[1,{"result":2}], "result" : {"data":[9007199254740993,"}\\\\"]} ,"last":true}';
  assert.equal(memberText(text, "result"), '{"data":[9007199254740993,"}\\\\"]}');
  assert.equal(memberText(text, "last"), "true");
  assert.equal(memberText(text, "links"), '{"result":"/x"}');
  assert.equal(memberText(text, "none"), undefined);
  assert.equal(memberText("{}", "none"), undefined);
});

test("whatever an object holds, each member's text is its value", () => {
  fc.assert(
    fc.property(fc.dictionary(fc.stringMatching(/^[a-z]{1,4}$/), fc.jsonValue()), fc.boolean(), (object, pretty) => {
      const text = JSON.stringify(object, undefined, pretty ? 1 : undefined);
      for (const [name, value] of Object.entries(object))
        assert.deepEqual(JSON.parse(memberText(text, name)!), JSON.parse(JSON.stringify(value)));
      assert.equal(memberText(text, "absent"), undefined);
    }),
  );
});
