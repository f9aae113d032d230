import assert from "node:assert/strict";
import { test } from "node:test";
import { SwitchyardError, type Tensor } from "@switchyard/protocol";
import { asNested } from "../../coordinator/src/application/bound-arguments.ts";
import { bindArguments, type Source } from "../../coordinator/src/application/tool-binding.ts";

const job = { id: "j1", outputs: { label: [3], "a/b": { "~": "tilde" }, text: ["'); DROP TABLE results; --"] } };
const documents = new Map<string, unknown>([["j1", job]]);

function bind(args: Record<string, unknown>, bindings: Record<string, string | Source>): Record<string, unknown> {
  const entries = Object.entries(bindings).map(([target, source]) => {
    return [target, typeof source === "string" ? { document: "j1", pointer: source } : source] as const;
  });
  return bindArguments(args, new Map(entries), documents);
}

test("values are put where pointers say, as the JSON values that they are", () => {
  const args = { table: "results", row: { kept: true } };
  const bound = bind(args, {
    "/job": "/id",
    "/row/label": "/outputs/label/0",
    "/row/more/text": "/outputs/text/0",
    "/tilde": "/outputs/a~1b/~0",
  });
  assert.deepEqual(bound, {
    table: "results",
    row: { kept: true, label: 3, more: { text: "'); DROP TABLE results; --" } },
    job: "j1",
    tilde: "tilde",
  });
  assert.deepEqual(args, { table: "results", row: { kept: true } }, "what was given is not changed");
});

test("the whole of a document, an object and an element of a list can be bound", () => {
  assert.deepEqual(bind({ list: [0, 0] }, { "/list/1": "/outputs/label/0", "/all": "", "/outputs": "/outputs" }), {
    list: [0, 3],
    all: job,
    outputs: job.outputs,
  });
});

test("what was bound is nobody else's", () => {
  const bound = bind({}, { "/outputs": "/outputs" });
  (bound.outputs as { label: number[] }).label[0] = 9;
  assert.equal(job.outputs.label[0], 3);
});

test("bindings that lead nowhere are named, all of them", () => {
  const wrong = {
    "": "/id",
    job: "/id",
    "/a": "id",
    "/b": "/absent",
    "/c": "/outputs/label/01",
    "/d": "/outputs/label/length",
    "/e": "/__proto__",
    "/list/5": "/id",
    "/text/x": "/id",
    "/__proto__/polluted": "/id",
    "/f": { document: "j2", pointer: "/id" },
    "/g": "/~2",
  };
  assert.throws(
    () => bind({ list: [0], text: "t" }, wrong),
    (error: unknown) => {
      assert.ok(error instanceof SwitchyardError);
      assert.equal(error.code, "invalid_request");
      const pointers = error.facts.fields?.map(({ pointer }) => pointer);
      assert.deepEqual(pointers, [
        "/bindings/",
        "/bindings/job",
        "/bindings/~1a/pointer",
        "/bindings/~1b/pointer",
        "/bindings/~1c/pointer",
        "/bindings/~1d/pointer",
        "/bindings/~1e/pointer",
        "/bindings/~1list~15",
        "/bindings/~1text~1x",
        "/bindings/~1__proto__~1polluted",
        "/bindings/~1f/pointer",
        "/bindings/~1g/pointer",
      ]);
      return true;
    },
  );
  assert.equal(({} as Record<string, unknown>).polluted, undefined);
});

test("outputs of a job are nested by their shape, and long whole numbers are text", () => {
  const tensor = (datatype: Tensor["datatype"], shape: number[], view: ArrayBufferView): unknown =>
    asNested({ name: "t", datatype, shape, bytes: new Uint8Array(view.buffer) });
  assert.deepEqual(tensor("FP32", [2, 1, 2], new Float32Array([1, 2.5, 3, 4])), [[[1, 2.5]], [[3, 4]]]);
  assert.equal(tensor("INT32", [], new Int32Array([7])), 7);
  assert.deepEqual(tensor("INT64", [2], new BigInt64Array([5n, 9_007_199_254_740_993n])), [5, "9007199254740993"]);
  assert.deepEqual(tensor("FP32", [0, 3], new Float32Array()), []);
});
