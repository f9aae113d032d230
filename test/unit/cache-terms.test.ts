/** Which requests share an answer, and which never do. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeInferRequest, encodeInferRequest, frameParts, type ModelVersion, type Tensor } from "@switchyard/protocol";
import { cacheTermsOf } from "../../coordinator/src/application/cache-terms.ts";

const version = {
  ...{ model: "digits", version: 1, digest: "d1", tag: "aaaaaaaaaa", sizeBytes: 1, path: "" },
  signature: { inputs: [], outputs: [] },
  config: { cache: { ttl_s: 60 } },
} as ModelVersion;
const image: Tensor = { name: "image", datatype: "FP32", shape: [1, 2], bytes: new Uint8Array(new Float32Array([1, 2]).buffer) };
const mask: Tensor = { name: "mask", datatype: "BOOL", shape: [2], bytes: Uint8Array.of(1, 0) };

function termsOf(how: { tensors?: Tensor[]; outputs?: string[]; tenant?: string; version?: Partial<ModelVersion> } = {}) {
  const inputs = frameParts(how.tensors ?? [image, mask], how.outputs ? { o: how.outputs } : undefined);
  return cacheTermsOf({ inputs, tenant: how.tenant ?? "default" }, { ...version, ...how.version });
}
const keyOf = (how?: Parameters<typeof termsOf>[0]): string => termsOf(how)!.key;

test("equal tensors have one key, whether they came as JSON or as bytes", () => {
  const keys = [true, false].map((binary) => {
    const { headerLength, parts } = encodeInferRequest({ inputs: [image, mask], binary });
    const body = Buffer.concat(parts);
    return keyOf({ tensors: decodeInferRequest(headerLength === undefined ? { body } : { body, headerLength }).inputs });
  });
  assert.deepEqual(keys, [keyOf(), keyOf()]);
});

test("whatever an answer depends on changes the key", () => {
  const shape = [2, 1];
  const others = [
    keyOf({ tensors: [{ ...image, bytes: new Uint8Array(new Float32Array([1, 3]).buffer) }, mask] }),
    keyOf({ tensors: [{ ...image, shape }, mask] }),
    keyOf({ tensors: [{ ...image, datatype: "INT32" }, mask] }),
    keyOf({ tensors: [{ ...image, name: "picture" }, mask] }),
    keyOf({ tensors: [image] }),
    keyOf({ outputs: ["scores"] }),
    keyOf({ outputs: ["label"] }),
    keyOf({ outputs: ["scores", "label"] }),
    keyOf({ tenant: "other" }),
    keyOf({ version: { version: 2 } }),
    keyOf({ version: { model: "letters" } }),
    keyOf({ version: { digest: "d2" } }),
    keyOf({ version: { config: { cache: { ttl_s: 60 }, max_batch_items: 4 } } }),
    keyOf({ version: { config: { cache: { ttl_s: 61 } } } }),
    keyOf({ version: { config: { cache: { ttl_s: 60, shared: true } } } }),
  ];
  assert.equal(new Set([keyOf(), ...others]).size, others.length + 1);
});

test("tenants share a key only where the model says so, and no tenant's name stands for all", () => {
  const config = { cache: { ttl_s: 60, shared: true } };
  assert.equal(keyOf({ tenant: "a", version: { config } }), keyOf({ tenant: "b", version: { config } }));
  const notShared = { cache: { ttl_s: 60, shared: false } };
  assert.notEqual(keyOf({ tenant: "a", version: { config: notShared } }), keyOf({ tenant: "b", version: { config: notShared } }));
  for (const name of ["null", "", '"', "a\n"]) assert.notEqual(keyOf({ tenant: name }), keyOf({ tenant: `${name}"` }));
});

test("a model without a cache, and inputs of more than 8 MiB, have no key", () => {
  assert.equal(termsOf({ version: { config: {} } }), undefined);
  const large = { ...mask, shape: [8 * 1024 * 1024], bytes: new Uint8Array(8 * 1024 * 1024) };
  assert.equal(termsOf({ tensors: [large] }), undefined);
});

test("life and bound are the model's, the bound 64 MiB unless it says otherwise", () => {
  const { ttlMs, bytes } = termsOf()!;
  assert.deepEqual([ttlMs, bytes], [60_000, 64 * 1024 * 1024]);
  assert.equal(termsOf({ version: { config: { cache: { ttl_s: 1, bytes: 5_000 } } } })!.bytes, 5_000);
});
